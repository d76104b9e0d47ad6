//! `/docs`: the API to read, made of the table of routes and of the OpenAPI document that is made
//! of it, so that a new route is here by itself. Who may read that document may read this too.
//!
//! What is said of a route is in its line of the table and in the doc comments of its bodies; what
//! is said of all of them is in `templates/components/api_reference.html`. To say more of each,
//! extend [`Operation`].

mod example;
mod schema;

use actix_web::HttpResponse;
use askama::Template;
use serde_json::Value;

use self::schema::{Field, Shape, Words};
use super::shell::{Bare, Frame, Place, Shell};
use super::{html, see_other};
use crate::auth::actor::Caller;
use crate::domain::setup;
use crate::error::{Code, Result};
use crate::web::openapi::{self, Doc, groups};
use crate::web::routes::{self, Access, Endpoint, Surface};

/// The reference in the frame of someone signed in.
#[derive(Template)]
#[template(path = "pages/docs.html")]
pub struct DocsPage {
    pub shell: Shell,
    pub reference: Reference,
}

/// The same for everyone else.
#[derive(Template)]
#[template(path = "pages/docs_public.html")]
pub struct PublicDocsPage {
    pub shell: Bare,
    pub reference: Reference,
}

/// All that the page shows.
pub struct Reference {
    /// Where the API's paths begin.
    pub base: String,
    pub first_call: String,
    pub groups: Vec<Group>,
    /// The codes of errors by their status.
    pub codes: Vec<(u16, Vec<&'static str>)>,
}

/// Operations about one thing.
pub struct Group {
    pub id: String,
    pub name: &'static str,
    pub operations: Vec<Operation>,
}

/// A line of the table of routes.
pub struct Operation {
    /// Stable: links lead to it.
    pub id: String,
    /// The method, or `WS`.
    pub mark: &'static str,
    /// The tone of the mark.
    pub tone: &'static str,
    pub path: &'static str,
    pub summary: Words,
    pub note: Words,
    /// With what it can be asked.
    pub needs: Vec<Need>,
    pub parameters: Vec<Parameters>,
    pub body: Option<Body>,
    pub answers: Vec<Answer>,
    pub call: String,
}

/// What a request must come with.
#[derive(Clone, Copy)]
pub enum Need {
    Nothing,
    Token,
    Scope(&'static str),
    Session,
    NoApplication,
    Administrator,
}

/// Those of one place: the path, the query, or the headers.
pub struct Parameters {
    pub place: &'static str,
    pub fields: Vec<Field>,
}

/// What is sent.
pub struct Body {
    pub types: Vec<String>,
    pub fields: Vec<Field>,
}

/// What may come back.
pub struct Answer {
    pub status: String,
    pub says: Words,
    pub fields: Vec<Field>,
}

/// `GET /docs`.
///
/// # Errors
/// When the database fails.
pub async fn show(frame: Frame) -> Result<HttpResponse> {
    let reference = Reference::of(&frame.public_url());
    // A token's owner is for the pages of a session only.
    if frame.ctx.caller().is_ok_and(Caller::is_ambient) {
        return html(&DocsPage {
            shell: frame.shell(Place::Docs, "API docs")?,
            reference,
        });
    }
    if setup::is_needed(&frame.ctx).await? {
        return Ok(see_other("/setup"));
    }
    html(&PublicDocsPage {
        shell: Bare::new(frame.theme, "API docs"),
        reference,
    })
}

impl Reference {
    /// `public_url` is without a slash at its end.
    #[must_use]
    pub fn of(public_url: &str) -> Self {
        let document = openapi::document(public_url);
        let mut groups: Vec<Group> = groups::GROUPS
            .iter()
            .map(|(name, _)| Group {
                id: format!("api-{}", slug(name)),
                name,
                operations: Vec::new(),
            })
            .collect();
        for endpoint in routes::api().chain(routes::sockets()) {
            let Some(doc) = &endpoint.doc else { continue };
            let name = groups::of(endpoint.path);
            if let Some(group) = groups.iter_mut().find(|group| group.name == name) {
                let operation = Operation::of(public_url, &document, endpoint, doc);
                group.operations.push(operation);
            }
        }
        groups.retain(|group| !group.operations.is_empty());
        Self {
            base: format!("{public_url}/api/v1"),
            first_call: format!(
                "export HZEL_TOKEN=…\n\
                 curl -H \"Authorization: Bearer $HZEL_TOKEN\" {public_url}/api/v1/auth/me"
            ),
            groups,
            codes: codes(),
        }
    }
}

impl Operation {
    fn of(public_url: &str, document: &Value, endpoint: &'static Endpoint, doc: &Doc) -> Self {
        let path = openapi::path_of(endpoint);
        let method = endpoint.verb.as_str();
        let operation = &document["paths"][path][method.to_ascii_lowercase()];
        let (mark, tone) = match (endpoint.surface, method) {
            (Surface::Ws, _) => ("WS", "quiet"),
            (_, "GET") => (method, "wait"),
            (_, "POST") => (method, "ok"),
            (_, "DELETE") => (method, "bad"),
            _ => (method, "warn"),
        };
        Self {
            id: slug(&format!("{method} {path}")),
            mark,
            tone,
            path,
            summary: Words::of(operation["summary"].as_str().unwrap_or_default()),
            note: Words::of(doc.remark()),
            needs: needs(endpoint),
            parameters: parameters(document, operation),
            body: body(document, operation),
            answers: answers(document, operation),
            call: example::call(public_url, document, endpoint, operation),
        }
    }
}

impl Need {
    fn text(self) -> &'static str {
        match self {
            Self::Nothing => "no credential",
            Self::Token => "any token",
            Self::Scope(scope) => scope,
            Self::Session => "a browser's session, no token",
            Self::NoApplication => "not for applications",
            Self::Administrator => "an administrator's session, or token that is not limited",
        }
    }

    fn is_scope(self) -> bool {
        matches!(self, Self::Scope(_))
    }
}

fn needs(endpoint: &Endpoint) -> Vec<Need> {
    let token = endpoint
        .scope
        .map_or(Need::Token, |scope| Need::Scope(scope.as_str()));
    match endpoint.access {
        _ if endpoint.path.starts_with("/api/v1/admin/") => vec![Need::Administrator],
        Access::Anyone => vec![Need::Nothing],
        Access::Any => vec![token],
        Access::Direct => vec![token, Need::NoApplication],
        Access::Session => vec![Need::Session],
    }
}

/// Letters and digits of a text, with hyphens between.
fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("-").to_ascii_lowercase()
}

fn parameters(document: &Value, operation: &Value) -> Vec<Parameters> {
    let all = operation["parameters"].as_array();
    let place = |place: &'static str, name: &str| Parameters {
        place,
        fields: all
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == name)
            // Said once for all requests that come with a session's cookie.
            .filter(|parameter| parameter["name"] != "x-csrf-token")
            .map(|parameter| Field::of_parameter(document, parameter))
            .collect(),
    };
    let mut places = vec![
        place("Path", "path"),
        place("Query", "query"),
        place("Headers", "header"),
    ];
    places.retain(|place| !place.fields.is_empty());
    places
}

fn body(document: &Value, operation: &Value) -> Option<Body> {
    let content = operation["requestBody"]["content"].as_object()?;
    let first = content.values().next()?;
    Some(Body {
        types: content.keys().cloned().collect(),
        fields: schema::fields(document, &first["schema"], true),
    })
}

/// All but the errors, which are the same everywhere.
fn answers(document: &Value, operation: &Value) -> Vec<Answer> {
    let responses = operation["responses"].as_object();
    let mut answers: Vec<Answer> = responses
        .into_iter()
        .flatten()
        .filter(|(_, response)| {
            let schema = &response["content"]["application/json"]["schema"];
            schema["$ref"] != "#/components/schemas/Error"
        })
        .flat_map(|(status, response)| answers_of(document, status, response))
        .collect();
    answers.sort_by(|a, b| a.status.cmp(&b.status));
    answers
}

/// Those of one status: what is in JSON, and what is in other types.
fn answers_of(document: &Value, status: &str, response: &Value) -> Vec<Answer> {
    let none = serde_json::Map::new();
    let content = response["content"].as_object().unwrap_or(&none);
    let (json, other): (Vec<_>, Vec<_>) = content
        .iter()
        .partition(|(kind, _)| *kind == "application/json");
    let mut answers: Vec<Answer> = json
        .into_iter()
        .map(|(_, media)| {
            let schema = &media["schema"];
            let data = &schema["properties"]["data"];
            let (name, schema) = if data.is_null() {
                ("", schema)
            } else {
                ("data", data)
            };
            let shape = Shape::of(document, schema);
            Answer {
                status: status.to_owned(),
                says: shape.says(name),
                fields: schema::fields(document, shape.item, false),
            }
        })
        .collect();
    if answers.is_empty() || !other.is_empty() {
        let about = response["description"].as_str().unwrap_or_default();
        let kinds: Vec<String> = other.iter().map(|(kind, _)| format!("`{kind}`")).collect();
        let says = match (kinds.is_empty(), about == "Done") {
            (true, _) => about.to_owned(),
            (false, true) => kinds.join(" or "),
            (false, false) => format!("{about}: {}", kinds.join(" or ")),
        };
        answers.push(Answer {
            status: status.to_owned(),
            says: Words::of(&says),
            fields: Vec::new(),
        });
    }
    answers
}

/// The codes of errors by their status.
fn codes() -> Vec<(u16, Vec<&'static str>)> {
    let mut codes: Vec<(u16, Vec<&'static str>)> = Vec::new();
    for code in Code::ALL {
        match codes
            .iter_mut()
            .find(|(status, _)| *status == code.status())
        {
            Some((_, names)) => names.push(code.as_str()),
            None => codes.push((code.status(), vec![code.as_str()])),
        }
    }
    codes.sort_by_key(|(status, _)| *status);
    codes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_operation_of_the_document_is_here_once() {
        let url = "https://hzel.example.org";
        let reference = Reference::of(url);
        let operations = || reference.groups.iter().flat_map(|group| &group.operations);
        let ids: HashSet<&str> = operations().map(|one| one.id.as_str()).collect();
        assert_eq!(ids.len(), operations().count(), "a link would lead astray");
        let document = openapi::document(url);
        let items = document["paths"].as_object().unwrap();
        let told: usize = items.values().map(|i| i.as_object().unwrap().len()).sum();
        assert_eq!(ids.len(), told);
        for (path, item) in items {
            for verb in item.as_object().unwrap().keys() {
                let id = slug(&format!("{verb} {path}"));
                assert!(ids.contains(id.as_str()), "{id}");
            }
        }
        for group in &reference.groups {
            assert!(!ids.contains(group.id.as_str()), "{}", group.id);
        }
    }

    #[test]
    fn an_operation_says_what_it_takes_and_answers() {
        let reference = Reference::of("https://hzel.example.org");
        let mut all = reference.groups.iter().flat_map(|group| &group.operations);
        let made = all.find(|one| one.id == "post-containers").unwrap();
        assert_eq!(made.needs[0].text(), "containers:write");
        let body = made.body.as_ref().unwrap();
        assert_eq!(
            (body.fields[0].name.as_str(), body.fields[0].required),
            ("hostname", true)
        );
        assert!(made.answers[0].fields.iter().any(|f| f.name == "state"));
    }
}
