//! Answers: JSON, and what a refusal looks like. The commands use the same refusals when no broker runs.

use std::fmt;
use std::marker::PhantomData;

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{self, MediaType, Operation, SchemaObject};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, body};
use hookline_core::store;
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::extract::Json;

/// What a handler comes back with.
pub(super) type Answer<T> = Result<Json<T>, Problem>;

/// An answer, and what the guards around the handler are to hear beside it.
#[derive(Debug)]
pub(super) struct Noted<A, N>(pub(super) N, pub(super) A);

/// JSON of something that was made.
#[derive(Debug)]
pub(super) struct Created<T>(pub(super) T);

/// JSON or plain text, as the request says.
#[derive(Debug)]
pub(super) struct JsonOrText<T>(pub(super) Response, PhantomData<fn() -> T>);

/// What Prometheus reads.
#[derive(Debug)]
pub(super) struct OpenMetrics(pub(super) String);

/// A value that is JSON already, and of which the document says what `T` is like.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Like<T>(Value, #[serde(skip)] PhantomData<fn() -> T>);

impl<T> Like<T> {
    pub(super) fn new(value: impl Into<Value>) -> Like<T> {
        Like(value.into(), PhantomData)
    }
}

impl<T: JsonSchema> JsonSchema for Like<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Why something was not done, with the way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// Where several things are wrong: each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<String>,
}

/// The kind of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Code {
    BadRequest,
    NotFound,
    Conflict,
    NotMatch,
    Unauthorized,
    NotAllowed,
    Busy,
    MethodNotAllowed,
    TooLarge,
    UnsupportedMediaType,
    InternalError,
}

impl Problem {
    /// A configuration that was refused, with everything that is wrong with it.
    pub(crate) fn refused(errors: Vec<String>) -> Problem {
        let message = format!("nothing was changed: {}", errors.join("\n  "));
        Problem { code: Code::BadRequest, message, errors }
    }

    pub(crate) fn new(code: Code, message: impl Into<String>) -> Problem {
        Problem { code, message: message.into(), errors: Vec::new() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Problem {
        let code = match &error {
            store::Error::NoLetter(_) => Code::NotFound,
            store::Error::Refused(_) => Code::Conflict,
            store::Error::Folder { .. } => Code::BadRequest,
            _ => Code::InternalError,
        };
        Problem::new(code, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = match self.code {
            Code::BadRequest => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Conflict => StatusCode::CONFLICT,
            Code::NotMatch => StatusCode::PRECONDITION_FAILED,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::NotAllowed => StatusCode::FORBIDDEN,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self)).into_response()
    }
}

impl<A: IntoResponse, N: Clone + Send + Sync + 'static> IntoResponse for Noted<A, N> {
    fn into_response(self) -> Response {
        (Extension(self.0), self.1).into_response()
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

impl<T: Serialize> JsonOrText<T> {
    pub(super) fn json(value: T) -> JsonOrText<T> {
        JsonOrText(Json(value).into_response(), PhantomData)
    }

    pub(super) fn text(text: String) -> JsonOrText<T> {
        JsonOrText(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response(), PhantomData)
    }

    /// With the number of a version as its tag.
    pub(super) fn tagged(mut self, version: u64) -> JsonOrText<T> {
        let tag = HeaderValue::from_str(&format!("\"{version}\"")).expect("digits may stand in a header");
        self.0.headers_mut().insert(header::ETAG, tag);
        self
    }
}

impl<T> IntoResponse for JsonOrText<T> {
    fn into_response(self) -> Response<body::Body> {
        self.0
    }
}

impl IntoResponse for OpenMetrics {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], self.0).into_response()
    }
}

/// What the document says of an answer: its status, and a schema for each of its media types.
fn documented(status: u16, contents: Vec<(&str, Schema)>) -> Vec<(Option<openapi::StatusCode>, openapi::Response)> {
    let content = contents.into_iter().map(|(media_type, json_schema)| {
        let schema = SchemaObject { json_schema, example: None, external_docs: None };
        (media_type.to_owned(), MediaType { schema: Some(schema), ..MediaType::default() })
    });
    let response = openapi::Response { description: "Done".into(), content: content.collect(), ..openapi::Response::default() };
    vec![(Some(openapi::StatusCode::Code(status)), response)]
}

/// What the document says of an answer that is a file.
pub(super) fn binary(media_type: &str) -> Documented {
    documented(200, vec![(media_type, json_schema!({ "type": "string", "format": "binary" }))])
}

type Documented = Vec<(Option<openapi::StatusCode>, openapi::Response)>;

const JSON: &str = "application/json";

impl<T: JsonSchema> OperationOutput for Json<T> {
    type Inner = T;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> Documented {
        documented(200, vec![(JSON, ctx.schema.subschema_for::<T>())])
    }
}

impl<T: JsonSchema> OperationOutput for Created<T> {
    type Inner = T;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> Documented {
        documented(201, vec![(JSON, ctx.schema.subschema_for::<T>())])
    }
}

impl<T: JsonSchema> OperationOutput for JsonOrText<T> {
    type Inner = T;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> Documented {
        documented(200, vec![(JSON, ctx.schema.subschema_for::<T>()), ("text/plain", json_schema!({ "type": "string" }))])
    }
}

impl OperationOutput for OpenMetrics {
    type Inner = String;

    fn inferred_responses(_: &mut GenContext, _: &mut Operation) -> Documented {
        documented(200, vec![("application/openmetrics-text", json_schema!({ "type": "string" }))])
    }
}

impl<A: OperationOutput, N> OperationOutput for Noted<A, N> {
    type Inner = A::Inner;

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Documented {
        A::inferred_responses(ctx, operation)
    }
}

/// Which refusals can come, the document knows by the route.
impl OperationOutput for Problem {
    type Inner = Problem;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_a_status_and_a_code_that_programs_can_tell() {
        let problem = Problem::from(store::Error::NoLetter(7));
        let text = serde_json::to_string(&problem).expect("plain JSON");
        assert_eq!(text, r#"{"code":"NOT_FOUND","message":"there is no dead letter 7"}"#);
        assert_eq!(serde_json::from_str::<Problem>(&text).expect("comes back"), problem);
        assert_eq!(problem.into_response().status(), StatusCode::NOT_FOUND);
    }
}
