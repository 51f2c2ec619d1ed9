//! The OpenAPI document (3.1), made of the table of operations and the types they name.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, Response};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::http::App;
use crate::http::api::operation::{Operation, Plane};
use crate::http::api::operations;
use crate::http::oauth::metadata::cacheable;
use crate::mint::etag_of;

/// The document and its `ETag`, made at the first look.
static DOCUMENT: LazyLock<(String, String)> = LazyLock::new(|| {
    let document = document().to_string();
    let etag = etag_of(&document);
    (document, etag)
});

/// `GET /v1/openapi.json`, open to everybody.
pub(in crate::http) async fn show(State(_): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    let (document, etag) = &*DOCUMENT;
    cacheable(&headers, document.as_str().into(), etag)
}

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let described = described(&operation, &mut generator);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.as_str().to_lowercase(), described);
        }
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tenmint management API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Organizations, spaces, audiences, people, bots, roles and API keys.",
            "license": {"name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT"},
        },
        "security": [{"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Problem": {
                "description": "A refusal (RFC 9457), with one entry for each bad field",
                "content": {"application/problem+json": {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                }},
            }},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, or a token for the audience `management`",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "An API key as password; its id as user name, or none",
                },
            },
        },
    })
}

fn described(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": description(operation),
        "tags": [operation.path.split('/').nth(2).unwrap_or_default()],
        "x-tenmint-plane": operation.plane.as_str(),
        "x-tenmint-scope": operation.scope,
        "parameters": parameters(operation, generator),
        "responses": responses(operation, generator),
    });
    if let (Some(takes), Some(members)) = (operation.takes, described.as_object_mut()) {
        let schema = takes(generator);
        let required = has_required_fields(&schema, generator);
        let content = if operation.by_lines {
            json!({
                "application/x-ndjson": {"schema": schema},
                "text/csv": {"schema": {"type": "string"}},
            })
        } else {
            json!({"application/json": {"schema": schema}})
        };
        let body = json!({"required": required, "content": content});
        members.insert("requestBody".to_owned(), body);
    }
    described
}

fn description(operation: &Operation) -> String {
    match operation.plane {
        Plane::Caller => "Any credential for the management API.".to_owned(),
        Plane::Organization => format!("Needs `{}`.", operation.scope),
        Plane::Installation => {
            format!("Needs `{}`, and an owner who is an admin of the account.", operation.scope)
        }
    }
}

/// Whether a body has fields that may not be left out.
fn has_required_fields(schema: &Schema, generator: &SchemaGenerator) -> bool {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let definition = name.and_then(|name| generator.definitions().get(name));
    definition.and_then(|schema| schema.get("required")).is_some()
}

fn responses(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let schema = operation.gives.map(|gives| gives(generator)).unwrap_or_default();
    let media_type = if operation.by_lines { "application/x-ndjson" } else { "application/json" };
    let answer = |description: &str| {
        json!({
            "description": description,
            "content": {media_type: {"schema": schema}},
        })
    };
    let mut responses = Map::new();
    let success = operation.success.as_str();
    responses.insert(success.to_owned(), answer("Done"));
    if operation.action.is_some() && success != "200" {
        responses.insert("200".to_owned(), answer("What a dry run would do"));
    }
    let problem = json!({"$ref": "#/components/responses/Problem"});
    let mut codes = vec!["400", "401", "403", "404", "429", "503"];
    if operation.action.is_some() {
        codes.extend(["408", "409", "413", "415"]);
    }
    responses.extend(codes.into_iter().map(|code| (code.to_owned(), problem.clone())));
    Value::Object(responses)
}

fn parameters(operation: &Operation, generator: &mut SchemaGenerator) -> Vec<Value> {
    let names = operation.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let text = json!({"type": "string", "minLength": 1});
    let mut parameters: Vec<Value> = names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": text}))
        .collect();
    if operation.plane == Plane::Organization {
        parameters.push(query(
            "organization",
            &text,
            "The id or slug of an organization; that of the credential where it is left out",
        ));
    }
    if operation.action.is_some() {
        let about = "Store nothing, and say what would change";
        parameters.push(query("dry_run", &json!({"type": "boolean"}), about));
    }
    if operation.repeatable {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "description": "A repeat under the same key within a day is answered with the same object",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
        }));
    }
    if let Some(asks) = operation.query {
        parameters.extend(query_fields(&asks(generator), generator));
    }
    parameters
}

fn query(name: &str, schema: &Value, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": schema})
}

/// The fields of a query as parameters of their own.
fn query_fields(schema: &Schema, generator: &SchemaGenerator) -> Vec<Value> {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let definition = name.and_then(|name| generator.definitions().get(name));
    let fields = definition.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    fields
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let about = schema.get("description").and_then(Value::as_str).unwrap_or_default();
            query(name, &without_null(schema), about)
        })
        .collect()
}

/// A parameter of a URL is left out or has a value; there is no `null` in a URL.
fn without_null(schema: &Value) -> Value {
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let is_null = |choice: &&Value| choice.get("type").and_then(Value::as_str) == Some("null");
        let choice = choices.iter().find(|choice| !is_null(choice));
        return choice.cloned().unwrap_or_default();
    }
    let mut schema = schema.clone();
    let types = schema.get("type").and_then(Value::as_array).cloned().unwrap_or_default();
    let one = types.into_iter().find(|one| one.as_str() != Some("null"));
    if let (Some(one), Some(members)) = (one, schema.as_object_mut()) {
        members.insert("type".to_owned(), one);
    }
    schema
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string", "description": "Stable, for programs"},
            "detail": {"type": "string", "description": "For people"},
            "errors": {"type": "array", "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            }},
        },
    })
}
