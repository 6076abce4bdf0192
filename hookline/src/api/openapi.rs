//! The document of the API, in the form of OpenAPI 3.1. It is made from the routes: handlers say by their types what they take and give, and what
//! holds for all of them is added here.

use std::sync::Arc;

use aide::OperationOutput;
use aide::axum::ApiRouter;
use aide::generate::GenContext;
use aide::openapi::{self, Info, MediaType, OpenApi, Operation, SchemaObject};
use aide::transform::TransformOperation;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hookline_schemas::config::Role;
use schemars::{SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::login::{Door, door, may};
use super::{Problem, Shared};

/// Where it is, below /api/v5.
pub(super) const PATH: &str = "/api-docs/openapi.json";
/// What stands for refusals of one route until they are put among its answers.
const REFUSALS: &str = "x-refusals";
/// Parts of paths that are numbers.
const NUMBERS: [&str; 2] = ["sequence", "version"];
/// Refusals by their statuses, in words.
const STATUSES: [(u16, &str); 11] = [
    (400, "The request makes no sense, or what it asks for is not valid"),
    (401, "Nobody has logged in, or the login is wrong"),
    (403, "The role may not do that, or a page of another origin has asked"),
    (404, "There is no such thing"),
    (409, "It does not go with what is there"),
    (412, "The statement does not select the event"),
    (413, "The body is too large"),
    (415, "The body is not what its type says, or of a type that is not taken"),
    (500, "The broker has failed; its log says more"),
    (503, "The broker is too busy; try again"),
    (405, "There is no such method here"),
];

/// The document, as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Document(Arc<str>);

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0.to_string()).into_response()
    }
}

impl OperationOutput for Document {
    type Inner = Value;

    fn inferred_responses(_: &mut GenContext, _: &mut Operation) -> Vec<(Option<openapi::StatusCode>, openapi::Response)> {
        let schema = SchemaObject { json_schema: json_schema!({ "type": "object" }), example: None, external_docs: None };
        let content = [("application/json".to_owned(), MediaType { schema: Some(schema), ..MediaType::default() })].into_iter().collect();
        let response = openapi::Response { description: "Done".into(), content, ..openapi::Response::default() };
        vec![(Some(openapi::StatusCode::Code(200)), response)]
    }
}

/// GET /api-docs/openapi.json
pub(super) async fn get(Extension(document): Extension<Document>) -> Document {
    document
}

/// One line on an operation.
pub(super) fn says(summary: &'static str) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(summary, &[])
}

/// One line on an operation, and statuses of refusals beside those that all of its kind have.
pub(super) fn refuses(summary: &'static str, statuses: &'static [u16]) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |operation| {
        let mut operation = operation.summary(summary);
        operation.inner_mut().extensions.insert(REFUSALS.into(), statuses.into());
        operation
    }
}

/// The routes as they are served, and the document of them.
pub(super) fn finish(routes: ApiRouter<Shared>) -> (Router<Shared>, Value) {
    let description = "The API of Hookline, an MQTT broker. Paths, names and JSON are those of EMQX 5 for what both have.";
    let info = Info {
        title: "Hookline".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        description: Some(description.into()),
        ..Info::default()
    };
    let mut api = OpenApi { info, ..OpenApi::default() };
    let router = routes.finish_api(&mut api);
    let mut document = serde_json::to_value(&api).expect("a document of plain JSON");
    complete(&mut document);
    (router, document)
}

/// What serves the document.
pub(super) fn serve(router: Router, document: &Value) -> Router {
    router.layer(Extension(Document(document.to_string().into())))
}

fn complete(document: &mut Value) {
    let mut problem =
        SchemaGenerator::new(schemars::generate::SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true))
            .into_root_schema_for::<Problem>()
            .to_value();
    if let Some(problem) = problem.as_object_mut() {
        problem.remove("$schema");
    }
    let refusals: Map<String, Value> = STATUSES
        .iter()
        .map(|(status, description)| {
            let schema = json!({ "$ref": "#/components/schemas/Problem" });
            (format!("Refusal{status}"), json!({ "description": description, "content": { "application/json": { "schema": schema } } }))
        })
        .collect();
    document["components"]["schemas"]["Problem"] = problem;
    document["components"]["responses"] = refusals.into();
    document["components"]["securitySchemes"] = json!({
        "basic": { "type": "http", "scheme": "basic", "description": "A key and its secret, or a name and password" },
        "bearer": { "type": "http", "scheme": "bearer", "description": "A token of POST /api/v5/login" },
    });
    let paths = document["paths"].as_object_mut().map(std::mem::take).unwrap_or_default();
    let paths = paths.into_iter().map(|(path, mut item)| {
        // What takes the rest of a path has no form of its own in OpenAPI.
        let path = path.replace("{*", "{");
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            complete_operation(&path, method, operation);
        }
        (path, item)
    });
    document["paths"] = paths.collect::<Map<String, Value>>().into();
}

fn complete_operation(path: &str, method: &str, operation: &mut Value) {
    let below = path.strip_prefix("/api/v5").unwrap_or(path);
    let words = |text: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_");
    operation["operationId"] = format!("{method}_{}", words(path)).into();
    operation["tags"] = json!([below.split('/').nth(1).unwrap_or_default()]);
    let names: Vec<&str> = path.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect();
    let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    parameters.extend(names.iter().map(|name| {
        let schema =
            if NUMBERS.contains(name) { json!({ "type": "integer", "minimum": 0 }) } else { json!({ "type": "string", "minLength": 1 }) };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    }));
    let has_body = operation.get("requestBody").is_some();
    let mut statuses: Vec<u64> = vec![500, 503];
    statuses.extend((has_body || !parameters.is_empty()).then_some(400));
    statuses.extend(has_body.then_some([413, 415]).into_iter().flatten());
    statuses.extend((!names.is_empty()).then_some(404));
    let (basic, bearer) = (json!({ "basic": [] }), json!({ "bearer": [] }));
    let security = match door(path) {
        Door::Open => json!([]),
        Door::Login => {
            // Pages of another origin are sent away.
            statuses.extend([401, 403]);
            json!([])
        }
        Door::Metrics => {
            statuses.push(401);
            json!([basic, bearer, {}])
        }
        Door::Guarded => {
            statuses.extend([401, 403]);
            let method = method.to_ascii_uppercase().parse::<Method>().expect("methods of a document are methods");
            let role = [Role::Viewer, Role::Operator, Role::Administrator].into_iter().find(|role| may(*role, &method, below));
            operation["x-role"] = serde_json::to_value(role).unwrap_or_default();
            json!([basic, bearer])
        }
    };
    operation["security"] = security;
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    let own = operation.as_object_mut().and_then(|operation| operation.remove(REFUSALS));
    statuses.extend(own.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_u64));
    statuses.sort_unstable();
    for status in statuses {
        operation["responses"][status.to_string()] = json!({ "$ref": format!("#/components/responses/Refusal{status}") });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::routes::routes;

    #[test]
    fn every_operation_says_what_it_is_and_who_may() {
        let (_, document) = finish(routes());
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            assert!(!path.contains('*'), "{path}");
            for (method, operation) in item.as_object().expect("methods") {
                let what = format!("{method} {path}");
                assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{what}");
                assert!(ids.insert(operation["operationId"].to_string()), "{what}: another one has its name");
                let is_guarded = operation["security"].as_array().is_some_and(|ways| ways.len() == 2);
                assert_eq!(is_guarded, operation["x-role"].is_string(), "{what}");
                let succeeds = operation["responses"].as_object().expect("answers").keys().any(|status| status.starts_with('2'));
                assert!(succeeds, "{what}: no answer that is a success");
                let names: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().map(|one| &one["name"]).collect();
                assert!(names.iter().enumerate().all(|(place, name)| !names[..place].contains(name)), "{what}: {names:?}");
            }
        }
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
        }
        assert!(ids.len() > 80, "{}", ids.len());
    }

    /// Routes come into the router with their documentation only; this sees to it that none goes another way.
    #[test]
    fn every_route_is_in_the_document() {
        let source = include_str!("routes.rs");
        let (_, document) = finish(routes());
        assert!(!source.contains(".route("), "a route without documentation");
        let count = source.matches(".api_route(").count();
        assert_eq!(document["paths"].as_object().map(Map::len), Some(count));
    }
}
