//! Reading the log: everyone's, one's own, and the page.

use std::collections::BTreeSet;

use chrono::DateTime;
use serde_json::{Value, json};

use super::walk;
use crate::harness::{ADMIN, Client, Server};

on_both!(filters, own, page);

const LOG: &str = "/api/v1/audit-logs";
const OWN: &str = "/api/v1/auth/activity";
const ANNA: &str = "anna@example.org";

const FIELDS: [&str; 7] = [
    "id",
    "user_id",
    "container_id",
    "action",
    "outcome",
    "metadata",
    "created_at",
];

/// Which entries a filter is to find.
type Fits<'a> = Box<dyn Fn(&Value) -> bool + 'a>;

async fn id_of(client: &Client) -> String {
    client.get("/api/v1/auth/me").await.str("user_id")
}

/// A few entries of hers, of each outcome but failure.
async fn busy(server: &Server, anna: &Client) {
    for name in ["a", "b", "c"] {
        let made = anna.post("/api/v1/tokens", json!({ "name": name })).await;
        server.secret(&made.str("token"));
        let new = json!({ "hostname": name });
        anna.post("/api/v1/containers", new)
            .await
            .is(403, "FORBIDDEN");
    }
}

async fn filters(server: &mut Server) {
    let admin = server.admin();
    let anna = server.user(ANNA);
    let anna_id = id_of(&anna).await;
    busy(server, &anna).await;
    let session = server.sign_in(ADMIN).await;
    let made = session.writing();
    let made = made.post("/api/v1/tokens", json!({ "name": "x" })).await;
    server.secret(&made.str("token"));
    let container = crate::containers::running(server, "logged").await;

    // To the end, without a gap and without anything twice. What is done meanwhile comes before.
    let all = walk(&admin, &format!("{LOG}?limit=200")).await;
    assert!(all.len() > 10, "{all:?}");
    let pieces = walk(&admin, &format!("{LOG}?limit=3")).await;
    assert!(pieces.ends_with(&all));
    for entry in &all {
        let names: BTreeSet<&str> = entry
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(names, BTreeSet::from(FIELDS));
        assert!(entry["metadata"].is_object(), "{entry}");
    }
    // Who, by what, from where, on which request.
    let by = |action: &str, user: &str, credential: &str| {
        let known = ["address", "request_id", credential];
        let found = all.iter().find(|e| {
            e["action"] == action
                && e["user_id"] == user
                && known.iter().all(|name| e["metadata"][*name].is_string())
        });
        assert!(found.is_some(), "{action} by {credential}");
    };
    by("token.create", &anna_id, "token_id");
    by("token.create", &id_of(&admin).await, "session_id");

    let time = |entry: &Value| {
        let text = entry["created_at"].as_str().expect("a time");
        DateTime::parse_from_rfc3339(text).expect("RFC 3339")
    };
    let middle = all[all.len() / 2].clone();
    let (moment, at) = (
        middle["created_at"].as_str().expect("a time"),
        time(&middle),
    );
    let is_anna = |e: &Value| e["user_id"] == anna_id.as_str();
    let is_denied = |e: &Value| e["outcome"] == "denied";
    let cases: Vec<(String, Fits)> = vec![
        ("user=Anna%40example.org".into(), Box::new(is_anna)),
        (format!("user={anna_id}"), Box::new(is_anna)),
        (
            format!("container={container}"),
            Box::new(|e| e["container_id"] == container.as_str()),
        ),
        (
            "action=token.create".into(),
            Box::new(|e| e["action"] == "token.create"),
        ),
        (
            "action=container".into(),
            Box::new(|e| {
                let action = e["action"].as_str();
                action.is_some_and(|action| action.starts_with("container."))
            }),
        ),
        ("outcome=denied".into(), Box::new(is_denied)),
        (format!("from={moment}"), Box::new(|e| time(e) >= at)),
        (format!("to={moment}"), Box::new(|e| time(e) < at)),
        (
            format!("user={ANNA}&outcome=denied&action=container&from={moment}"),
            Box::new(|e| {
                is_anna(e) && is_denied(e) && e["action"] == "container.create" && time(e) >= at
            }),
        ),
        // A form sends what was left empty too.
        ("user=&container=&action=".into(), Box::new(|_| true)),
    ];
    for (query, fits) in cases {
        let wanted: Vec<Value> = all.iter().filter(|e| fits(e)).cloned().collect();
        let found = walk(&admin, &format!("{LOG}?limit=2&{query}")).await;
        assert!(found.ends_with(&wanted), "{query}: {found:?}");
        assert!(found.iter().all(&fits), "{query}: {found:?}");
    }
    for query in [
        "user=nobody%40example.org",
        "to=2000-01-01T00:00:00%2B02:00",
    ] {
        assert!(walk(&admin, &format!("{LOG}?{query}")).await.is_empty());
    }
    refusals(server, &session.client, &anna).await;
}

async fn refusals(server: &Server, admin: &Client, anna: &Client) {
    for (query, field) in [
        ("user=anna", "user"),
        ("container=logged", "container"),
        ("action=nothing", "action"),
        ("action=%25", "action"),
        ("outcome=fine", "outcome"),
        ("from=yesterday", "from"),
        ("to=2026-13-01T00:00:00Z", "to"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
    ] {
        let reply = admin.get(&format!("{LOG}?{query}")).await;
        reply.is(400, "VALIDATION_FAILED");
        assert!(reply.message().starts_with(field), "{query}: {reply:?}");
    }

    let nobody = server.anonymous();
    nobody.get(LOG).await.is(401, "UNAUTHORIZED");
    anna.get(LOG).await.is(403, "FORBIDDEN");
    // An administrator's token that is limited is none of an administrator.
    let limited = nobody.bearer(&server.token_of(ADMIN, &["--scopes", "profile"]));
    limited.get(LOG).await.is(403, "FORBIDDEN");
    let app = nobody.bearer(&crate::oauth::token_of(server, ADMIN, "").await);
    app.get(LOG)
        .await
        .is(403, "FORBIDDEN")
        .says("This endpoint is not accessible via OAuth application tokens");
    assert_eq!(admin.get(LOG).await.status, 200);
}

async fn own(server: &mut Server) {
    let admin = server.admin();
    let anna = server.user(ANNA);
    let anna_id = id_of(&anna).await;
    busy(server, &anna).await;
    let session = server.sign_in(ANNA).await;
    let nobody = server.anonymous();
    let limited = nobody.bearer(&server.token_of(ANNA, &["--scopes", "profile"]));
    let everyones = walk(&admin, &format!("{LOG}?limit=200")).await;
    for (client, id) in [
        (&anna, &anna_id),
        (&session.client, &anna_id),
        (&limited, &anna_id),
        (&admin, &id_of(&admin).await),
    ] {
        let found = walk(client, &format!("{OWN}?limit=2")).await;
        let wanted = everyones.iter().filter(|e| e["user_id"] == id.as_str());
        assert_eq!(found, wanted.cloned().collect::<Vec<_>>());
        assert!(found.len() < everyones.len());
    }
    let actions: Vec<Value> = walk(&anna, OWN).await;
    assert!(actions.iter().any(|e| e["action"] == "auth.login"));
    // That someone else tried is told to whom it was about.
    let wrong = json!({ "email": ANNA, "password": "another one than hers" });
    let reply = nobody.post("/api/v1/auth/login", wrong).await;
    reply.is(401, "UNAUTHORIZED");
    let last = walk(&anna, OWN).await[0].clone();
    assert_eq!(
        (&last["action"], &last["outcome"]),
        (&json!("auth.login"), &json!("denied"))
    );
    nobody.get(OWN).await.is(401, "UNAUTHORIZED");
    let narrow = nobody.bearer(&server.token_of(ANNA, &["--scopes", "commands"]));
    let reply = narrow.get(OWN).await;
    reply.is(403, "FORBIDDEN");
    assert!(reply.message().contains("profile"), "{reply:?}");
    let app = nobody.bearer(&crate::oauth::token_of(server, ANNA, "").await);
    app.get(OWN)
        .await
        .is(403, "FORBIDDEN")
        .says("This endpoint is not accessible via OAuth application tokens");
    anna.get(&format!("{OWN}?cursor=x"))
        .await
        .is(400, "VALIDATION_FAILED");
}

async fn page(server: &mut Server) {
    let anna = server.user(ANNA);
    busy(server, &anna).await;
    for _ in 0..51 {
        let new = json!({ "hostname": "x" });
        anna.post("/api/v1/containers", new)
            .await
            .is(403, "FORBIDDEN");
    }
    let session = server.sign_in(ADMIN).await;
    let client = &session.client;
    let count =
        |text: &str, action: &str| text.matches(&format!("data-action=\"{action}\"")).count();

    let query = "user=anna%40example.org&container=&action=container&outcome=denied\
                 &from=2020-01-01T00%3A00&to=";
    let first = client.get(&format!("/activity?{query}")).await;
    assert_eq!(first.status, 200);
    assert_eq!(count(&first.text, "container.create"), 50);
    for kept in [
        "value=\"anna@example.org\"",
        "value=\"container\"",
        "<option selected>denied</option>",
        "value=\"2020-01-01T00:00\"",
    ] {
        assert!(first.text.contains(kept), "{kept}");
    }
    // The older ones are those of the same filters.
    let older = first.text.split("href=\"").find(|rest| {
        let link = rest.split('>').next().unwrap_or_default();
        link.contains("rel=\"next\"")
    });
    let older = older.and_then(|rest| rest.split('"').next());
    let older = older
        .expect("a link")
        .replace("&#38;", "&")
        .replace("&amp;", "&");
    let second = client.get(&older).await;
    assert_eq!(count(&second.text, "container.create"), 4);
    assert_eq!(count(&second.text, "auth.login"), 0);
    assert!(second.text.contains("value=\"anna@example.org\""));

    let wrong = client
        .get("/activity?user=anna&from=yesterday&outcome=denied")
        .await;
    assert_eq!(wrong.status, 400);
    for part in [
        "id=\"user-error\"",
        "id=\"from-error\"",
        "value=\"anna\"",
        "<option selected>denied</option>",
    ] {
        assert!(wrong.text.contains(part), "{part}");
    }
    assert!(!wrong.text.contains("data-action"));
    let json = client.with("accept", "application/json");
    json.get("/activity?user=anna")
        .await
        .is(400, "VALIDATION_FAILED");

    // Whoever is no administrator has no filters, and sees nobody else's.
    let hers = server.sign_in(ANNA).await;
    let page = hers.client.get("/activity?user=first%40example.org").await;
    assert_eq!(page.status, 200);
    assert!(!page.text.contains("log-filters"));
    assert_eq!(count(&page.text, "user.create"), 0);
    assert!(count(&page.text, "container.create") > 40);
}
