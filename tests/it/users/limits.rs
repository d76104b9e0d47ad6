//! How often one may try, and the headers behind https.

use serde_json::{Value, json};

use crate::harness::{ADMIN, Kind, Options, PASSWORD, Server};

on_both_by_hand!(limits, behind_https);

async fn limits(kind: Kind) {
    let options = Options::with("HZEL_RATE_LIMIT", "on");
    let mut server = Server::start(kind, options).await;
    server.add_user("anna@example.org", "user");
    let session = server.sign_in("anna@example.org").await;

    // Many at the same moment are counted too.
    let guess = async |password: &str| {
        let body = json!({ "email": "anna@example.org", "password": password });
        server.anonymous().post("/api/v1/auth/login", body).await
    };
    let answers = futures_util::future::join_all((0..12).map(|_| guess("wrong"))).await;
    let guessed = answers.iter().filter(|reply| reply.status == 401).count();
    assert!((5..=6).contains(&guessed), "{guessed}");
    let reply = guess(PASSWORD).await;
    reply.is(429, "RATE_LIMITED");
    assert!(
        reply
            .header("retry-after")
            .parse::<u64>()
            .is_ok_and(|wait| wait >= 1)
    );

    // Codes are as hard to guess.
    let client = session.writing();
    client.act("/api/v1/auth/totp").await.data();
    let mut last = Value::Null;
    for _ in 0..8 {
        let body = json!({ "code": "000000" });
        let reply = client.post("/api/v1/auth/totp/confirm", body).await;
        last = json!(reply.status);
    }
    assert_eq!(last, json!(429));

    // What one credential may ask: a page says it as a page.
    let token = server.anonymous().bearer(&server.token_of(ADMIN, &[]));
    let mut refused = None;
    for _ in 0..80 {
        let asked = (0..20).map(|_| token.get("/api/v1/auth/me"));
        let answers = futures_util::future::join_all(asked).await;
        refused = answers.into_iter().find(|reply| reply.status == 429);
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("a refusal");
    refused.is(429, "RATE_LIMITED");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(server.admin().get("/api/v1/auth/me").await.status, 200);
    assert_eq!(server.anonymous().get("/healthz").await.status, 200);
    server.finish().await;
}

async fn behind_https(kind: Kind) {
    let options = Options::with("HZEL_PUBLIC_URL", "https://cloud.example.org");
    let mut server = Server::start(kind, options).await;
    let login = json!({ "email": ADMIN, "password": PASSWORD });
    let nobody = server.anonymous();
    let reply = nobody.post("/api/v1/auth/login", login).await;
    reply.data();
    let cookie = reply.header("set-cookie");
    assert!(cookie.starts_with("__Host-hzel_session="), "{cookie}");
    for part in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    for path in ["/login", "/api/v1/healthz", "/nothing", "/reset"] {
        let reply = nobody.get(path).await;
        let policy = reply.header("content-security-policy");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(reply.header(name), value, "{path}");
        }
        let hsts = reply.header("strict-transport-security");
        assert!(hsts.starts_with("max-age="), "{path}: {hsts}");
    }
    // A plain page is marked by nothing that the policy forbids.
    for path in ["/login", "/reset"] {
        let text = nobody.get(path).await.text;
        assert!(
            !text.contains("style=") && !text.contains("<style"),
            "{path}"
        );
        assert!(
            !text.contains(" onclick=") && !text.contains("<script>"),
            "{path}"
        );
    }
    server.finish().await;
}
