//! What requests carry, refused in the form that all refusals have; and what the document of the API says of it.

use std::marker::PhantomData;

use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, RequestBody, SchemaObject};
use aide::operation::{add_parameters, parameters_from_schema, set_body};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Multipart, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, json_schema};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Code, Problem};
use crate::export::FILE_BYTES_MAX;

/// JSON, in a request or in an answer.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

/// JSON in a request, whatever its sender calls it: curl says that it is a form.
#[derive(Debug)]
pub(super) struct Raw<T>(pub(super) Bytes, pub(super) PhantomData<fn() -> T>);

/// A file of the configuration in a request.
#[derive(Debug)]
pub(super) struct Toml(pub(super) String);

/// A form with a file in it, which is read as it comes.
#[derive(Debug)]
pub(super) struct Upload(pub(super) Multipart);

/// What stands behind the question mark.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

/// The parts of the path that differ. The document knows them by the path.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

/// The version that a request is about; `None`: any.
#[derive(Debug)]
pub(super) struct IfMatch(pub(super) Option<u64>);

/// What axum did not take, with the status that it has for that.
fn refused(status: StatusCode, problem: String) -> Problem {
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        _ => Code::BadRequest,
    };
    Problem::new(code, problem)
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Json(value) =
            axum::Json::<T>::from_request(request, state).await.map_err(|error| refused(error.status(), error.body_text()))?;
        Ok(Json(value))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T, S: Send + Sync> FromRequest<S> for Raw<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| refused(error.status(), error.body_text()))?;
        Ok(Raw(bytes, PhantomData))
    }
}

impl<S: Send + Sync> FromRequest<S> for Toml {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let text = String::from_request(request, state).await.map_err(|error| refused(error.status(), error.body_text()))?;
        Ok(Toml(text))
    }
}

impl<S: Send + Sync> FromRequest<S> for Upload {
    type Rejection = Problem;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Problem> {
        DefaultBodyLimit::max(FILE_BYTES_MAX).apply(&mut request);
        let form = Multipart::from_request(request, state).await;
        form.map(Upload).map_err(|error| refused(error.status(), error.body_text()))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|query| Query(query.0)).map_err(|error| refused(error.status(), error.body_text()))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Path(path.0)).map_err(|error| refused(error.status(), error.body_text()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(given) = parts.headers.get(header::IF_MATCH) else { return Ok(IfMatch(None)) };
        let given = given.to_str().unwrap_or_default().trim();
        if given == "*" {
            return Ok(IfMatch(None));
        }
        let number = given.trim_start_matches("W/").trim_matches('"').parse().ok();
        number
            .map(|number| IfMatch(Some(number)))
            .ok_or_else(|| refused(StatusCode::BAD_REQUEST, "If-Match: is no number of a version".into()))
    }
}

fn describe_body(ctx: &mut GenContext, operation: &mut Operation, media_type: &str, schema: schemars::Schema) {
    let schema = SchemaObject { json_schema: schema, example: None, external_docs: None };
    let content = [(media_type.to_owned(), MediaType { schema: Some(schema), ..MediaType::default() })].into_iter().collect();
    set_body(ctx, operation, RequestBody { content, required: true, ..RequestBody::default() });
}

impl<T: JsonSchema> OperationInput for Json<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let schema = ctx.schema.subschema_for::<T>();
        describe_body(ctx, operation, "application/json", schema);
    }
}

impl<T: JsonSchema> OperationInput for Raw<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let schema = ctx.schema.subschema_for::<T>();
        describe_body(ctx, operation, "application/json", schema);
    }
}

impl OperationInput for Toml {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        describe_body(ctx, operation, "text/plain", json_schema!({ "type": "string" }));
    }
}

impl OperationInput for Upload {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let file = json_schema!({ "type": "string", "format": "binary" });
        let schema = json_schema!({ "type": "object", "properties": { "filename": file }, "required": ["filename"] });
        describe_body(ctx, operation, "multipart/form-data", schema);
    }
}

impl<T: JsonSchema> OperationInput for Query<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let schema = ctx.schema.subschema_for::<T>();
        let parameters = parameters_from_schema(ctx, schema, aide::operation::ParamLocation::Query);
        add_parameters(ctx, operation, parameters);
    }
}

impl<T> OperationInput for Path<T> {}

impl OperationInput for IfMatch {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let version = json_schema!({ "type": "string", "description": "The number of the version that is to be changed: `\"7\"`" });
        let schema = json_schema!({ "type": "object", "properties": { "If-Match": version } });
        let parameters = parameters_from_schema(ctx, schema, aide::operation::ParamLocation::Header);
        add_parameters(ctx, operation, parameters);
    }
}
