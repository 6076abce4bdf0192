//! Answers: JSON, and what a refusal looks like. The commands use the same refusals when no broker runs.

use std::fmt;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hookline_core::store;
use serde::{Deserialize, Serialize};

/// What a handler comes back with.
pub(super) type Answer<T> = Result<Json<T>, Problem>;

/// Why something was not done, with the way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// Where several things are wrong: each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<String>,
}

/// The kind of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Code {
    BadRequest,
    NotFound,
    Conflict,
    NotMatch,
    Unauthorized,
    NotAllowed,
    Busy,
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
            Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self)).into_response()
    }
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
