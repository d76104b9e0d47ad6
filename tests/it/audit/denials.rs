//! What nobody known is refused: one entry each, as far as a limit bounds how many there can be.

use serde_json::{Value, json};

use super::walk;
use crate::harness::{ADMIN, Kind, Options, PASSWORD, Reply, Server};
use crate::oauth::{App, CALLBACK, TOKEN, but, form};

on_both!(denials);
on_both_by_hand!(bounded);

const INTROSPECT: &str = "/api/v1/oauth/introspect";
const REVOKE: &str = "/api/v1/oauth/token/revoke";
const ELSEWHERE: &str = "https://elsewhere.example";

async fn denied(server: &Server, action: &str) -> Vec<Value> {
    let path = format!("/api/v1/audit-logs?limit=200&outcome=denied&action={action}");
    walk(&server.admin(), &path).await
}

async fn sign_in_from_elsewhere(server: &Server) -> Reply {
    let body = json!({ "email": ADMIN, "password": PASSWORD });
    let client = server.anonymous().with("origin", ELSEWHERE);
    client.post("/api/v1/auth/login", body).await
}

async fn denials(server: &mut Server) {
    let nobody = server.anonymous();
    let app = App::register(server, &server.admin(), CALLBACK).await;
    let about = |token: &str| {
        json!({
            "token": token, "client_id": app.client_id, "client_secret": app.secret,
        })
    };
    let unknown_code = "x".repeat(43);

    // Whoever is not known, and what is not well formed, is not told of.
    let stranger = but(
        &app.with_code(&unknown_code),
        json!({ "client_id": "nobody" }),
    );
    nobody.post(TOKEN, stranger).await.is(401, "UNAUTHORIZED");
    let nothing = but(&app.with_code(&unknown_code), json!({ "grant_type": "x" }));
    nobody
        .post(TOKEN, nothing)
        .await
        .is(400, "VALIDATION_FAILED");
    assert_eq!(form(server, INTROSPECT, &about("x")).await.0, 200);
    assert!(denied(server, "oauth").await.is_empty());

    let wrong = json!({ "client_secret": "hzcs_wrong" });
    for (path, body, action) in [
        (TOKEN, app.with_code(&unknown_code), "oauth.token"),
        (INTROSPECT, about("x"), "oauth.introspect"),
        (REVOKE, about("x"), "oauth.token.revoke"),
    ] {
        let body = but(&body, wrong.clone());
        nobody
            .post(path, body.clone())
            .await
            .is(401, "UNAUTHORIZED");
        assert_eq!(form(server, path, &body).await.0, 401);
        let found = denied(server, action).await;
        assert_eq!(found.len(), 2, "{found:?}");
        for entry in found {
            let facts = &entry["metadata"];
            assert_eq!(facts["subject"], app.id.as_str());
            assert_eq!(facts["code"], "invalid_client");
            assert!(facts["address"].is_string() && facts["request_id"].is_string());
            assert!(entry["user_id"].is_null());
        }
    }
    let (status, _) = form(server, TOKEN, &app.with_code(&unknown_code)).await;
    assert_eq!(status, 400);
    let found = denied(server, "oauth.token").await;
    assert_eq!(found.len(), 3);
    assert_eq!(found[0]["metadata"]["code"], "invalid_grant");

    // A code's second use is told once, as what it is.
    let user = server.sign_in(ADMIN).await;
    let answer = app.authorize(server, &user, json!({})).await;
    let code = answer.get("code").expect("a code");
    let (status, body) = form(server, TOKEN, &app.with_code(code)).await;
    assert_eq!(status, 200);
    crate::oauth::Tokens::of(server, &body);
    assert_eq!(form(server, TOKEN, &app.with_code(code)).await.0, 400);
    assert_eq!(denied(server, "oauth.replay").await.len(), 1);
    assert_eq!(denied(server, "oauth.token").await.len(), 3);

    for token in ["x", "hzpr_000000000000000000000000000000000000"] {
        let body = json!({ "token": token, "new_password": PASSWORD });
        nobody
            .post("/api/v1/auth/reset", body)
            .await
            .is(400, "VALIDATION_FAILED");
    }
    assert_eq!(denied(server, "auth.reset").await.len(), 2);

    sign_in_from_elsewhere(server)
        .await
        .is(403, "CSRF_REJECTED");
    let found = denied(server, "auth.login").await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["metadata"]["route"], "POST /api/v1/auth/login");
    assert_eq!(found[0]["metadata"]["code"], "CSRF_REJECTED");
}

/// With the limits on, however often somebody tries.
async fn bounded(kind: Kind) {
    const TRIES: usize = 80;
    let options = Options::with("HZEL_RATE_LIMIT", "on");
    let mut server = Server::start(kind, options).await;
    let app = App::register(&server, &server.admin(), CALLBACK).await;
    let about = json!({
        "token": "x", "client_id": app.client_id, "client_secret": app.secret,
    });
    let wrong = but(&about, json!({ "client_secret": "hzcs_wrong" }));
    let reset = json!({ "token": "x", "new_password": PASSWORD });
    let nobody = server.anonymous();
    for (action, refused) in [
        ("oauth.introspect", 401),
        ("auth.reset", 400),
        ("auth.login", 403),
    ] {
        let mut statuses = Vec::new();
        for _ in 0..TRIES {
            let reply = match action {
                "oauth.introspect" => nobody.post(INTROSPECT, wrong.clone()).await,
                "auth.reset" => nobody.post("/api/v1/auth/reset", reset.clone()).await,
                _ => sign_in_from_elsewhere(&server).await,
            };
            statuses.push(reply.status);
        }
        assert!(statuses.iter().all(|s| *s == refused || *s == 429));
        assert!(statuses[..20].iter().all(|s| *s == refused), "{statuses:?}");
        // Each refusal, and the first of each wait.
        let waits = statuses
            .windows(2)
            .filter(|two| two[0] != 429 && two[1] == 429);
        let told = statuses.iter().filter(|s| **s == refused).count() + waits.count();
        assert!(told < TRIES, "{statuses:?}");
        assert_eq!(denied(&server, action).await.len(), told, "{action}");
    }
    // None of it keeps out who has the secret, or signs in from here.
    assert_eq!(form(&server, INTROSPECT, &about).await.0, 200);
    server.sign_in(ADMIN).await;
    server.finish().await;
}
