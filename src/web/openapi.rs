//! The OpenAPI document, made from the table of routes, so that it cannot miss one.
//!
//! To describe a route better, extend [`Doc`]; to describe a body, its fields' doc comments.

use std::borrow::Cow;

use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::routes::{self, Access, Endpoint};
use crate::app::App;
use crate::error::{Code, Result};

/// What the document says of a route.
#[derive(Clone, Copy)]
pub struct Doc {
    summary: &'static str,
    body: Option<Shape>,
    answer: Option<Shape>,
    query: &'static [&'static str],
    pages: bool,
    bare: bool,
    form: bool,
    redirects: bool,
    sends: &'static [&'static str],
    streams: bool,
    note: &'static str,
}

impl Doc {
    #[must_use]
    pub const fn new(summary: &'static str) -> Self {
        Self {
            summary,
            body: None,
            answer: None,
            query: &[],
            pages: false,
            bare: false,
            form: false,
            redirects: false,
            sends: &[],
            streams: false,
            note: "",
        }
    }

    /// It answers server-sent events.
    #[must_use]
    pub const fn streams(mut self) -> Self {
        self.streams = true;
        self
    }

    /// More than fits the summary, such as the messages of a WebSocket.
    #[must_use]
    pub const fn note(mut self, text: &'static str) -> Self {
        self.note = text;
        self
    }

    /// The JSON body it takes.
    #[must_use]
    pub const fn takes(mut self, shape: Shape) -> Self {
        self.body = Some(shape);
        self
    }

    /// What is in the answer's `data`.
    #[must_use]
    pub const fn answers(mut self, shape: Shape) -> Self {
        self.answer = Some(shape);
        self
    }

    /// The names its query may have.
    #[must_use]
    pub const fn query(mut self, names: &'static [&'static str]) -> Self {
        self.query = names;
        self
    }

    /// Its answer is not in an envelope, as its RFC wants it.
    #[must_use]
    pub const fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// It takes its body as a form too; errors are then those of RFC 6749.
    #[must_use]
    pub const fn form(mut self) -> Self {
        self.form = true;
        self
    }

    /// It answers 302.
    #[must_use]
    pub const fn redirects(mut self) -> Self {
        self.redirects = true;
        self
    }

    /// It may answer bytes of these types, too, outside of the envelope.
    #[must_use]
    pub const fn sends(mut self, types: &'static [&'static str]) -> Self {
        self.sends = types;
        self
    }

    /// It takes `limit` and `cursor`.
    #[must_use]
    pub const fn pages(mut self) -> Self {
        self.pages = true;
        self
    }
}

/// The schema of a type, and of those in it.
#[derive(Clone, Copy)]
pub struct Shape {
    name: fn() -> Cow<'static, str>,
    schema: fn() -> RefOr<Schema>,
    inner: fn(&mut Vec<(String, RefOr<Schema>)>),
    list: bool,
}

impl Shape {
    #[must_use]
    pub const fn of<T: ToSchema>() -> Self {
        Self {
            name: T::name,
            schema: T::schema,
            inner: T::schemas,
            list: false,
        }
    }

    #[must_use]
    pub const fn list<T: ToSchema>() -> Self {
        Self {
            list: true,
            ..Self::of::<T>()
        }
    }

    /// A reference to it, once it is among `schemas`.
    fn refer(&self, schemas: &mut Map<String, Value>) -> Value {
        let mut found = Vec::new();
        (self.inner)(&mut found);
        let name = (self.name)().into_owned();
        let own = serde_json::to_value((self.schema)()).unwrap_or_default();
        let item = if own.get("properties").is_some() || own.get("enum").is_some() {
            schemas.insert(name.clone(), own);
            json!({ "$ref": format!("#/components/schemas/{name}") })
        } else {
            own
        };
        for (name, schema) in found {
            schemas.insert(name, serde_json::to_value(schema).unwrap_or_default());
        }
        if self.list {
            json!({ "type": "array", "items": item })
        } else {
            item
        }
    }
}

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
        let path = endpoint
            .path
            .strip_prefix("/api/v1")
            .unwrap_or(endpoint.path);
        let operation = operation(endpoint, doc, &mut schemas);
        let item = paths.entry(path.to_owned()).or_insert_with(|| json!({}));
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
        parameters.push(json!({
            "name": "token", "in": "query", "schema": { "type": "string" },
            "description": "A ticket of `/ws-tickets`, or a token"
        }));
        operation["parameters"] = json!(parameters);
        // They are not under the API's own path.
        operation["servers"] = json!([{ "url": server.trim_end_matches('/') }]);
        paths.insert(endpoint.path.to_owned(), json!({ "get": operation }));
    }
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
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": "hzel_session" }
            }
        }
    })
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
    let mut query = |name: &str, schema: Value| {
        parameters.push(json!({ "name": name, "in": "query", "schema": schema }));
    };
    for name in doc.query {
        let schema = match *name {
            "mine" | "force" | "recursive" => json!({ "type": "boolean" }),
            "tail" => json!({ "type": "integer", "minimum": 1, "maximum": 10_000 }),
            "uid" | "gid" => json!({ "type": "integer", "minimum": 0, "maximum": 65_535 }),
            // Of a directory's entries; other lists have theirs below.
            "limit" => {
                json!({ "type": "integer", "minimum": 1, "maximum": crate::runtime::MAX_LISTED })
            }
            "wait_seconds" => json!({ "type": "integer", "minimum": 0, "maximum": 60 }),
            _ => json!({ "type": "string" }),
        };
        query(name, schema);
    }
    if doc.pages {
        let (low, high) = (1, crate::domain::page::MAX_LIMIT);
        query(
            "limit",
            json!({ "type": "integer", "minimum": low, "maximum": high }),
        );
        query("cursor", json!({ "type": "string" }));
    }
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
