//! Every route of the program's own table, asked by everyone there is: `expected.txt` says what
//! each is answered. A route without a line there fails the test, and so does a line without a
//! route; when an answer changes on purpose, the test prints the lines as they are now.
//!
//! To add a route, add its line. To add someone who asks, add a column here and there.

mod things;

use std::collections::HashMap;

use hzel::web::routes::{Endpoint, Surface, Verb, table};
use serde_json::{Value, json};

use self::things::Things;
use crate::harness::client::send;
use crate::harness::{ADMIN, Client, Reply, Server, Session};

on_both!(matrix);

/// Who asks, in the order of the columns.
const COLUMNS: [&str; 11] = [
    "anon", "garb", "csrf", "strg", "view", "oper", "ownr", "admn", "oapp", "narr", "disb",
];

pub const OWNER: &str = "owner@example.org";
const OTHERS: [(&str, &str); 3] = [
    ("stranger@example.org", "strg"),
    (things::VIEWER, "view"),
    (things::OPERATOR, "oper"),
];

async fn matrix(server: &mut Server) {
    let expected: Vec<&str> = include_str!("expected.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    for (email, _) in OTHERS {
        server.add_user(email, "user");
    }
    for email in [OWNER, "disabled@example.org", things::TARGET] {
        server.add_user(email, "user");
    }
    let nobody = server.anonymous();
    let application = crate::oauth::token_of(server, ADMIN, "").await;
    let narrow = server.token_of(ADMIN, &["--scopes", "networks"]);
    let disabled = server.token_of("disabled@example.org", &[]);
    server
        .cli(&["user", "disable", "disabled@example.org"], "")
        .ok();
    let things = Things::make(server).await;

    let mut actual: Vec<String> = Vec::new();
    let mut signed_in: HashMap<&str, Session> = HashMap::new();
    for endpoint in table() {
        let mut cells: Vec<&'static str> = Vec::new();
        for column in COLUMNS {
            let mut session = async |email| -> Session {
                if let Some(session) = signed_in.get(email) {
                    return session.clone();
                }
                let session = server.sign_in(email).await;
                signed_in.insert(email, session.clone());
                session
            };
            let client = match column {
                "anon" => nobody.clone(),
                "garb" => session(ADMIN)
                    .await
                    .writing()
                    .bearer("hzel_000000000000000000000000000000000000"),
                "csrf" if endpoint.verb == Verb::Get => {
                    cells.push("-   ");
                    continue;
                }
                "csrf" => session(ADMIN).await.client,
                "ownr" => session(OWNER).await.writing(),
                "admn" => session(ADMIN).await.writing(),
                "oapp" => nobody.bearer(&application),
                "narr" => nobody.bearer(&narrow),
                "disb" => nobody.bearer(&disabled),
                other => {
                    let found = OTHERS.iter().find(|(_, name)| *name == other);
                    session(found.expect("a column").0).await.writing()
                }
            };
            let reply = ask(server, &things, &client, endpoint).await;
            cells.push(short(&reply));
            // Whoever signs out, or in as another, is nobody afterwards.
            if endpoint.path.contains("/log") {
                signed_in.clear();
            }
        }
        let line = format!("{:<62} {}", name(endpoint), cells.join(" "));
        actual.push(line.trim_end().to_owned());
    }
    let wrong: Vec<&String> = actual
        .iter()
        .filter(|line| !expected.contains(&line.as_str()))
        .collect();
    let gone: Vec<&&str> = expected
        .iter()
        .filter(|line| !actual.iter().any(|now| now == *line))
        .collect();
    assert!(
        wrong.is_empty() && gone.is_empty(),
        "answered otherwise than expected.txt says; now:\n{}\nthere:\n{}",
        wrong
            .iter()
            .map(|l| l.as_str())
            .collect::<Vec<_>>()
            .join("\n"),
        gone.iter().map(|l| **l).collect::<Vec<_>>().join("\n"),
    );
}

fn name(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.verb.as_str(), endpoint.path)
}

async fn ask(server: &Server, things: &Things, client: &Client, endpoint: &Endpoint) -> Reply {
    let path = things.path(server, endpoint);
    // A page's errors come in the envelope too, for whoever asks for JSON.
    let client = client.with("accept", "application/json");
    if endpoint.surface == Surface::Ws {
        let client = client.with("origin", &server.url);
        return client.refused(&path).await;
    }
    let request = client.request(endpoint.verb.as_str(), &path);
    let request = match (endpoint.verb, endpoint.surface) {
        (Verb::Get, _) => request,
        (Verb::Delete, _) if endpoint.path.contains("{id}") => request,
        (_, Surface::Page) => request.form(&[("x", "y")]),
        (..) => request.json(&body_of(&name(endpoint))),
    };
    send(request).await
}

/// What is well formed, so that only who asks decides, and breaks a rule where obeying would undo
/// what the next one needs.
fn body_of(route: &str) -> Value {
    match route {
        "POST /api/v1/containers" => json!({ "hostname": "-" }),
        "POST /api/v1/containers/{id}/commands" => {
            json!({ "command": "true", "timeout_seconds": 0 })
        }
        "POST /api/v1/containers/{id}/files/chmod" => json!({ "path": "/x", "mode": "x" }),
        "POST /api/v1/images" => json!({ "name": "-", "source": "" }),
        "POST /api/v1/tokens" | "POST /api/v1/auth/passkeys/start" => json!({ "name": "" }),
        "POST /api/v1/admin/users" => json!({ "email": "" }),
        "POST /api/v1/auth/password" => json!({ "current_password": "x", "new_password": "y" }),
        "POST /api/v1/oauth/apps" => json!({ "name": "", "redirect_uris": [] }),
        "PATCH /api/v1/oauth/apps/{id}" => json!({ "name": "" }),
        "PATCH /api/v1/admin/users/{id}" => json!({ "display_name": "" }),
        "POST /api/v1/auth/totp/confirm" => json!({ "code": "000000" }),
        "POST /api/v1/auth/confirm" => json!({ "password": "wrong" }),
        "POST /api/v1/oauth/authorize" => {
            json!({ "client_id": "x", "redirect_uri": "x", "state": "x", "approved": true })
        }
        _ => json!({ "x": "y" }),
    }
}

/// A cell: `ok`, or two letters for a code.
fn short(reply: &Reply) -> &'static str {
    match (reply.status, reply.code()) {
        (101..=399, _) => "ok  ",
        (_, "UNAUTHORIZED") => "401 ",
        (_, "FORBIDDEN") => "403 ",
        (_, "CSRF_REJECTED") => "csrf",
        (404, _) => "404 ",
        (_, "VALIDATION_FAILED") => "rule",
        (_, "BAD_REQUEST") => "bad ",
        (_, "CONFLICT") => "409 ",
        (415, _) => "415 ",
        (501, _) => "501 ",
        // A form that is shown again with its faults.
        (400 | 422, "") => "form",
        _ => panic!("not one that a matrix has: {reply:?}"),
    }
}
