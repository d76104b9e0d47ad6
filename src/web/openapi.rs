//! The OpenAPI document, made from the table of routes, so that it cannot miss one.
//!
//! To describe a route better, extend [`Doc`]; to describe a body, its fields' doc comments, and an
//! example of it by `#[schema(example = …)]`; a parameter, its line in [`query`]. `/docs` is made of
//! this document.

mod doc;
pub mod groups;
mod query;

use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};

pub use self::doc::{Doc, Shape};
use super::routes::{self, Access, Endpoint, Surface, Verb};
use crate::app::App;
use crate::error::{Code, Result};

/// `GET /openapi.json`.
///
/// # Errors
/// None.
pub async fn serve(app: web::Data<App>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(document(app.config.public_url.as_str())))
}

/// The whole document; `server` is the public address.
#[must_use]
pub fn document(server: &str) -> Value {
    let mut schemas = Map::new();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in routes::api() {
        let Some(doc) = &endpoint.doc else { continue };
        let mut operation = operation(endpoint, doc, &mut schemas);
        if endpoint.surface == Surface::Probe {
            operation["servers"] = json!([{ "url": server.trim_end_matches('/') }]);
        }
        let item = paths
            .entry(path_of(endpoint).to_owned())
            .or_insert_with(|| json!({}));
        item[endpoint.verb.as_str().to_ascii_lowercase()] = operation;
    }
    for endpoint in routes::sockets() {
        let Some(doc) = &endpoint.doc else { continue };
        let mut operation = operation(endpoint, doc, &mut schemas);
        operation["responses"]["101"] = json!({ "description": "The WebSocket is open" });
        if let Some(responses) = operation["responses"].as_object_mut() {
            responses.remove("200");
        }
        let mut parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        parameters.push(query::parameter("token", endpoint.path));
        operation["parameters"] = json!(parameters);
        // They are not under the API's own path.
        operation["servers"] = json!([{ "url": server.trim_end_matches('/') }]);
        paths.insert(endpoint.path.to_owned(), json!({ "get": operation }));
    }
    // As the configuration has it, which the address says all of.
    let cookie = if server.starts_with("https:") {
        "__Host-hzel_session"
    } else {
        "hzel_session"
    };
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    schemas.insert(
        "Error".into(),
        json!({
            "type": "object",
            "required": ["error"],
            "properties": { "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": { "type": "string", "enum": codes },
                    "message": { "type": "string" }
                }
            } }
        }),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hzel",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Linux containers of one's own. Every answer is {\"data\": …} or \
                {\"error\": {\"code\", \"message\"}}, and carries x-request-id."
        },
        "servers": [{ "url": format!("{}/api/v1", server.trim_end_matches('/')) }],
        "tags": groups::GROUPS.map(|(name, _)| json!({ "name": name })),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": cookie,
                    "description": "`__Host-hzel_session` where the public address is https, \
                        `hzel_session` where it is http"
                }
            }
        }
    })
}

/// The path of an endpoint as the document has it: the API's own without where the API begins.
#[must_use]
pub fn path_of(endpoint: &Endpoint) -> &'static str {
    let path = endpoint.path;
    path.strip_prefix("/api/v1").unwrap_or(path)
}

/// The headers that it takes beside the credential.
fn headers(endpoint: &Endpoint, doc: &Doc) -> Vec<Value> {
    let mut found = Vec::new();
    let mut add = |name: &str, text: &str, required: bool, schema: Value| {
        found.push(json!({
            "name": name, "in": "header", "required": required,
            "description": text, "schema": schema
        }));
    };
    let text = || json!({ "type": "string" });
    if endpoint.verb != Verb::Get && endpoint.access != Access::Anyone {
        let is_session = endpoint.access == Access::Session;
        add(
            "x-csrf-token",
            "The session's `csrf_token` (`GET /auth/session`), with a session's cookie.",
            is_session,
            text(),
        );
    }
    if doc.creates {
        add(
            "Idempotency-Key",
            "The same request with the same key makes one thing only, within a day.",
            false,
            json!({
                "type": "string", "minLength": 1, "maxLength": crate::domain::idempotency::MAX_LEN
            }),
        );
    }
    if !doc.sends.is_empty() {
        add("Range", "One range of a file's bytes.", false, text());
        add("If-Range", "The ETag that `Range` is of.", false, text());
        add("If-None-Match", "ETags that are known.", false, text());
    }
    found
}

/// Whether a route can answer with that status, as far as its line in the table tells.
fn may_answer(endpoint: &Endpoint, doc: &Doc, status: &str) -> bool {
    let path = endpoint.path;
    let about = |words: &[&str]| words.iter().any(|word| path.contains(word));
    match status {
        "404" => about(&["{", "/oauth/"]),
        // What lies on another server's disk is a conflict to whoever reads it here.
        "409" => endpoint.verb != Verb::Get || about(&["/containers/{", "/ws/"]),
        "413" | "415" => doc.body.is_some() || endpoint.streams,
        "501" => about(&["oidc", "passkey"]),
        "503" => about(&["containers", "commands", "images", "oidc", "readyz", "/ws/"]),
        _ => true,
    }
}

fn operation(endpoint: &Endpoint, doc: &Doc, schemas: &mut Map<String, Value>) -> Value {
    let mut parameters: Vec<Value> = endpoint
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{').and_then(|p| p.strip_suffix('}')))
        .map(|name| {
            json!({
                "name": name, "in": "path", "required": true, "schema": { "type": "string" }
            })
        })
        .collect();
    let pieces: &[&str] = if doc.pages { &["limit", "cursor"] } else { &[] };
    for name in doc.query.iter().chain(pieces) {
        parameters.push(query::parameter(name, endpoint.path));
    }
    parameters.extend(headers(endpoint, doc));
    let data = doc
        .answer
        .map_or_else(|| json!({}), |shape| shape.refer(schemas));
    let error = |text: &str| {
        json!({
            "description": text,
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } }
        })
    };
    let success = if doc.bare {
        data
    } else {
        json!({ "type": "object", "required": ["data"], "properties": { "data": data } })
    };
    let mut operation = json!({
        "tags": [groups::of(endpoint.path)],
        "summary": doc.summary,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "Done",
                "content": { "application/json": { "schema": success } }
            },
            "400": error("BAD_REQUEST or VALIDATION_FAILED"),
            "401": error("UNAUTHORIZED"),
            "403": error("FORBIDDEN or CSRF_REJECTED"),
            "404": error("Not found, by the code of what was looked for"),
            "409": error("CONFLICT"),
            "413": error("PAYLOAD_TOO_LARGE"),
            "415": error("UNSUPPORTED_MEDIA_TYPE"),
            "429": error("RATE_LIMITED"),
            "500": error("INTERNAL_ERROR"),
            "501": error("NOT_IMPLEMENTED"),
            "503": error("RUNTIME_UNAVAILABLE or PROVIDER_UNAVAILABLE")
        }
    });
    if let Some(responses) = operation["responses"].as_object_mut() {
        responses.retain(|status, _| may_answer(endpoint, doc, status));
    }
    if doc.streams {
        operation["responses"]["200"]["content"] =
            json!({ "text/event-stream": { "schema": { "type": "string" } } });
    }
    if doc.redirects
        && let Some(responses) = operation["responses"].as_object_mut()
    {
        responses.remove("200");
        responses.insert(
            "302".into(),
            json!({
                "description": "On to the address in `Location`",
                "headers": { "Location": { "schema": { "type": "string" } } }
            }),
        );
    }
    if let Some(shape) = doc.body {
        let schema = shape.refer(schemas);
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": schema } }
        });
        if doc.form {
            operation["requestBody"]["content"]["application/x-www-form-urlencoded"] =
                json!({ "schema": schema });
        }
    }
    let bytes = json!({ "schema": { "type": "string", "format": "binary" } });
    for kind in doc.sends {
        operation["responses"]["200"]["content"][*kind] = bytes.clone();
    }
    if doc.pages || doc.query.contains(&"cursor") {
        operation["responses"]["200"]["headers"]["Link"] = json!({
            "description": "The next piece of the list, as `<address>; rel=\"next\"`, if there is one",
            "schema": { "type": "string" }
        });
    }
    if !doc.sends.is_empty() {
        let text = json!({ "schema": { "type": "string" } });
        operation["responses"]["200"]["headers"]["ETag"] = text.clone();
        operation["responses"]["206"] = json!({
            "description": "The part of a file that `Range` asks for",
            "headers": { "ETag": text, "Content-Range": text },
            "content": { "application/octet-stream": bytes }
        });
        operation["responses"]["304"] = json!({
            "description": "The file is the one of `If-None-Match`",
            "headers": { "ETag": text.clone() }
        });
        operation["responses"]["416"] = json!({
            "description": "The file has nothing of what `Range` asks for",
            "headers": { "ETag": text, "Content-Range": text }
        });
    }
    if endpoint.streams {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/octet-stream": bytes }
        });
    }
    operation["security"] = match endpoint.access {
        Access::Anyone => json!([]),
        Access::Session => json!([{ "session": [] }]),
        Access::Any | Access::Direct => json!([{ "token": [] }, { "session": [] }]),
    };
    let mut description = doc.note.to_owned();
    if let Some(scope) = endpoint.scope {
        let space = if description.is_empty() { "" } else { " " };
        description = format!("{description}{space}A limited token needs the scope `{scope}`.");
    }
    if !description.is_empty() {
        operation["description"] = json!(description);
    }
    operation
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn operations(document: &Value) -> Vec<(String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        let all = paths.iter().flat_map(|(path, item)| {
            let verbs = item.as_object().unwrap().iter();
            verbs.map(move |(verb, operation)| (format!("{verb} {path}"), operation))
        });
        all.collect()
    }

    #[test]
    fn no_operation_takes_a_parameter_twice() {
        let document = document("http://localhost");
        for (name, operation) in operations(&document) {
            let mut seen = HashSet::new();
            for parameter in operation["parameters"].as_array().unwrap() {
                let place = (parameter["name"].as_str(), parameter["in"].as_str());
                assert!(place.0.is_some() && place.1.is_some(), "{name}");
                assert!(seen.insert(place), "{name}: {place:?}");
            }
        }
    }

    #[test]
    fn the_session_cookie_is_named_as_it_is() {
        for (address, name) in [
            ("https://a.example", "__Host-hzel_session"),
            ("http://a.example", "hzel_session"),
        ] {
            let document = document(address);
            let scheme = &document["components"]["securitySchemes"]["session"];
            assert_eq!(scheme["name"], name);
        }
    }

    #[test]
    fn headers_are_told_where_they_count() {
        let document = document("http://localhost");
        let takes = |path: &str, verb: &str, name: &str| {
            let parameters = document["paths"][path][verb]["parameters"].as_array();
            parameters.unwrap().iter().any(|p| p["name"] == name)
        };
        assert!(takes("/containers", "post", "Idempotency-Key"));
        assert!(takes("/containers", "post", "x-csrf-token"));
        assert!(!takes("/containers", "get", "x-csrf-token"));
        assert!(!takes("/auth/login", "post", "x-csrf-token"));
        let list = &document["paths"]["/containers"]["get"]["responses"]["200"];
        assert!(list["headers"]["Link"].is_object());
        let file = &document["paths"]["/containers/{id}/files"]["get"]["responses"];
        assert!(file["206"].is_object() && file["304"].is_object());
        assert!(file["415"].is_null() && file["501"].is_null());
        let metadata = &document["paths"]["/.well-known/oauth-authorization-server"]["get"];
        assert_eq!(metadata["servers"][0]["url"], "http://localhost");
    }
}
