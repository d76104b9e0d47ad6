//! Who is calling: sign-ins, cookies, CSRF, tokens, scopes, and what slows guessing down.

use hzel::auth::secrets;
use serde_json::{Value, json};

use crate::harness::client::{send, session_cookie};
use crate::harness::{ADMIN, Kind, Options, PASSWORD, Server, eventually, with_server};

on_both!(
    polls,
    sign_in_and_out,
    csrf,
    tokens,
    disabled_users,
    expiry,
    passwords,
    scopes
);
on_both_by_hand!(guessing, https);

const ME: &str = "/api/v1/auth/me";
const SESSION: &str = "/api/v1/auth/session";
const TOKENS: &str = "/api/v1/tokens";

async fn sign_in_and_out(server: &mut Server) {
    let nobody = server.anonymous();
    let mut refusals = Vec::new();
    for (email, password) in [
        (ADMIN, "wrong"),
        ("nobody@example.org", PASSWORD),
        ("no address", "x"),
    ] {
        let body = json!({ "email": email, "password": password });
        let reply = nobody.post("/api/v1/auth/login", body).await;
        reply.is(401, "UNAUTHORIZED");
        assert!(session_cookie(&reply).is_none());
        refusals.push(reply.json.clone());
    }
    assert!(
        refusals.windows(2).all(|pair| pair[0] == pair[1]),
        "{refusals:?}"
    );

    let first = server.sign_in(ADMIN).await;
    let set = first.reply.header("set-cookie").to_owned();
    for part in ["hzel_session=", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Secure") && !set.contains("Domain"), "{set}");
    let view = first.reply.data();
    assert_eq!(view["user"]["email"], ADMIN);
    assert_eq!(view["user"]["role"], "admin");
    assert_eq!(view["user"]["auth_method"], "session");
    assert_eq!(view["oidc_enabled"], false);
    let again = first.client.get(SESSION).await;
    assert_eq!(again.data(), view);
    let me = first.client.get(ME).await;
    assert_eq!(me.data()["auth_method"], "session");
    assert_eq!(me.data()["scopes"], json!(null));

    // Signing in with an older cookie gives a new one, and the older is worth nothing.
    let body = json!({ "email": ADMIN, "password": PASSWORD });
    let renewed = first.client.post("/api/v1/auth/login", body).await;
    let cookie = session_cookie(&renewed).expect("a cookie");
    assert_ne!(cookie, first.cookie);
    server.secret(cookie.split_once('=').expect("a value").1);
    assert_ne!(
        renewed.data()["session"]["csrf_token"].as_str(),
        Some(first.csrf.as_str())
    );

    first.client.get(SESSION).await.is(401, "UNAUTHORIZED");

    let path = "/api/v1/auth/sessions";
    let first = server.sign_in(ADMIN).await;
    server.sign_in(ADMIN).await;
    let list = first.client.get(path).await;
    let rows = list.data().as_array().expect("a list");
    assert_eq!(rows.iter().filter(|row| row["current"] == true).count(), 1);
    // In pieces too.
    assert!(rows.len() > 1, "{rows:?}");
    let (mut next, mut pieces) = (format!("{path}?limit=1"), Vec::new());
    while !next.is_empty() {
        let piece = first.client.get(&next).await;
        pieces.extend(piece.data().as_array().expect("a list").clone());
        let link = piece.header("link").split(['<', '>']).nth(1);
        next = link.unwrap_or_default().to_owned();
    }
    let ids = |rows: &[Value]| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&pieces), ids(rows));
    for query in ["limit=0", "limit=201", "cursor=x"] {
        first
            .client
            .get(&format!("{path}?{query}"))
            .await
            .is(400, "VALIDATION_FAILED");
    }

    // Whoever has the old cookie's text after the sign-out has nothing.
    let second = server.sign_in(ADMIN).await;
    let reply = second.writing().act("/api/v1/auth/logout").await;
    assert_eq!(reply.data(), "logged_out");
    second.client.get(SESSION).await.is(401, "UNAUTHORIZED");
    second
        .writing()
        .act("/api/v1/auth/logout")
        .await
        .is(401, "UNAUTHORIZED");

    // One session ends another.
    let (third, fourth) = (server.sign_in(ADMIN).await, server.sign_in(ADMIN).await);
    let id = fourth.reply.data()["session"]["session_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let path = format!("/api/v1/auth/sessions/{id}");
    assert_eq!(third.writing().delete(&path).await.status, 200);
    fourth.client.get(ME).await.is(401, "UNAUTHORIZED");
    third.writing().delete(&path).await.is(404, "NOT_FOUND");

    for cookie in [
        "hzel_session=",
        "hzel_session=x",
        "hzel_session=%00",
        "hzel_session=a.b.c",
    ] {
        nobody
            .with("cookie", cookie)
            .get(ME)
            .await
            .is(401, "UNAUTHORIZED");
    }
    let forged = format!("{}x", third.cookie);
    nobody
        .with("cookie", &forged)
        .get(ME)
        .await
        .is(401, "UNAUTHORIZED");
}

async fn csrf(server: &mut Server) {
    let (one, other) = (server.sign_in(ADMIN).await, server.sign_in(ADMIN).await);
    let body = json!({ "name": "made" });
    one.client
        .post(TOKENS, body.clone())
        .await
        .is(403, "CSRF_REJECTED");
    for token in ["", "x", other.csrf.as_str()] {
        let client = one.client.with("x-csrf-token", token);
        client
            .post(TOKENS, body.clone())
            .await
            .is(403, "CSRF_REJECTED");
    }
    // Another header does not turn the check off.
    for (name, value) in [
        ("x-api-key", "x"),
        ("hx-request", "true"),
        ("x-requested-with", "XMLHttpRequest"),
    ] {
        let client = one.client.with(name, value);
        client
            .post(TOKENS, body.clone())
            .await
            .is(403, "CSRF_REJECTED");
    }
    let made = one.writing().post(TOKENS, body.clone()).await;
    server.secret(&made.str("token"));
    let same = one.writing().with("origin", &server.url);
    let made = same.post(TOKENS, body.clone()).await;
    server.secret(&made.str("token"));
    let elsewhere = one.writing().with("origin", "https://elsewhere.example");
    elsewhere.post(TOKENS, body).await.is(403, "CSRF_REJECTED");
    // The check of the body comes after.
    one.client
        .post_raw(TOKENS, "{")
        .await
        .is(403, "CSRF_REJECTED");
    one.writing()
        .post_raw(TOKENS, "{")
        .await
        .is(400, "BAD_REQUEST");
}

async fn tokens(server: &mut Server) {
    let admin = server.admin();
    let made = admin.post(TOKENS, json!({ "name": "ci" })).await;
    let secret = made.str("token");
    server.secret(&secret);
    assert_eq!(secret.len(), 41, "hzel_, 30 characters, 6 of the checksum");
    assert!(secret.starts_with("hzel_"));
    assert!(
        secrets::is_well_formed(secrets::PERSONAL_TOKEN, &secret),
        "the checksum is right"
    );
    assert_eq!(made.str("prefix"), secret[..13]);
    let list = admin.get(TOKENS).await;
    assert!(!list.text.contains(&secret));
    let row = list
        .data()
        .as_array()
        .expect("a list")
        .first()
        .cloned()
        .expect("a row");
    assert!(row.get("token").is_none(), "{row}");
    assert_eq!(row["name"], "ci");

    let client = server.anonymous().bearer(&secret);
    assert_eq!(client.get(ME).await.data()["auth_method"], "pat");
    client.get(SESSION).await.is(403, "FORBIDDEN");
    // At once, though it is written later.
    assert!(admin.get(TOKENS).await.data()[0]["last_used_at"].is_string());
    let nothing = admin.request("POST", TOKENS).send().await;
    assert_eq!(nothing.expect("an answer").status(), 400, "no body at all");
    admin
        .post(TOKENS, json!({ "scopes": [] }))
        .await
        .is(400, "BAD_REQUEST")
        .says("name is required");
    admin
        .post(TOKENS, json!({ "name": ["x"] }))
        .await
        .is(400, "BAD_REQUEST")
        .says("name must be a string");
    let lower = server
        .anonymous()
        .with("authorization", &format!("bearer {secret}"));
    assert_eq!(lower.get(ME).await.status, 200);

    // Whatever is present and wrong is refused, whatever else comes with it.
    let session = server.sign_in(ADMIN).await;
    for header in [
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic eDp5",
        "hzel_x",
        "",
        &format!("Bearer {secret}x"),
    ] {
        let client = session.writing().with("authorization", header);
        client.get(ME).await.is(401, "UNAUTHORIZED");
        client
            .post(TOKENS, json!({ "name": "x" }))
            .await
            .is(401, "UNAUTHORIZED");
    }

    // Another's is not there.
    let other = server.user("other@example.org");
    let id = made.str("id");
    other
        .delete(&format!("{TOKENS}/{id}"))
        .await
        .is(404, "NOT_FOUND");
    assert_eq!(
        other.get(TOKENS).await.data().as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(
        admin.delete(&format!("{TOKENS}/{id}")).await.data(),
        "revoked"
    );
    client.get(ME).await.is(401, "UNAUTHORIZED");
    admin
        .delete(&format!("{TOKENS}/{id}"))
        .await
        .is(404, "NOT_FOUND");
    assert!(!admin.get(TOKENS).await.text.contains(&id));

    for (body, code) in [
        (json!({}), "BAD_REQUEST"),
        (json!({ "name": "" }), "VALIDATION_FAILED"),
        (json!({ "name": "x".repeat(101) }), "VALIDATION_FAILED"),
        (json!({ "name": "a\nb" }), "VALIDATION_FAILED"),
        (
            json!({ "name": "x", "expires_at": "2020-01-01T00:00:00Z" }),
            "VALIDATION_FAILED",
        ),
        (
            json!({ "name": "x", "expires_at": "soon" }),
            "VALIDATION_FAILED",
        ),
        (json!({ "name": "x", "scopes": [] }), "VALIDATION_FAILED"),
        (json!({ "name": "x", "expires_at": 5 }), "BAD_REQUEST"),
        (
            json!({ "name": "x", "scopes": ["root"] }),
            "VALIDATION_FAILED",
        ),
        (json!({ "name": "x", "scopes": "commands" }), "BAD_REQUEST"),
    ] {
        admin.post(TOKENS, body).await.is(400, code);
    }
    let long = admin.post(TOKENS, json!({ "name": "ü".repeat(100) })).await;
    server.secret(&long.str("token"));

    // The same key gives the first answer, without the secret; another body is a conflict.
    let keyed = admin.with("idempotency-key", "once");
    let first = keyed.post(TOKENS, json!({ "name": "once" })).await;
    server.secret(&first.str("token"));
    let again = keyed.post(TOKENS, json!({ "name": "once" })).await;
    assert_eq!(again.str("id"), first.str("id"));
    assert!(!again.text.contains(&first.str("token")));
    keyed
        .post(TOKENS, json!({ "name": "twice" }))
        .await
        .is(409, "CONFLICT");
}

async fn scopes(server: &mut Server) {
    let limited = |scopes: &str| {
        let token = server.token_of(ADMIN, &["--scopes", scopes]);
        server.anonymous().bearer(&token)
    };
    let read = limited("containers:read");
    assert_eq!(
        read.get(ME).await.data()["scopes"],
        json!(["containers:read"])
    );
    assert_eq!(read.get("/api/v1/containers").await.status, 200);
    let refused = read
        .post("/api/v1/containers", json!({ "hostname": "x" }))
        .await;
    refused.is(403, "FORBIDDEN");
    assert!(refused.message().contains("containers:write"));
    read.get(TOKENS).await.is(403, "FORBIDDEN");
    // The scope comes before the body and before the thing itself.
    read.post_raw("/api/v1/containers", "{")
        .await
        .is(403, "FORBIDDEN");
    read.get("/api/v1/commands/abc").await.is(403, "FORBIDDEN");

    let profile = limited("profile");
    profile.get("/api/v1/containers").await.is(403, "FORBIDDEN");
    assert_eq!(profile.get(TOKENS).await.status, 200);
    profile
        .post(TOKENS, json!({ "name": "more" }))
        .await
        .is(403, "FORBIDDEN");
    let more = json!({ "name": "more", "scopes": ["profile", "commands"] });
    profile.post(TOKENS, more).await.is(403, "FORBIDDEN");
    let same = profile
        .post(TOKENS, json!({ "name": "same", "scopes": ["profile"] }))
        .await;
    server.secret(&same.str("token"));
}

async fn disabled_users(server: &mut Server) {
    let email = "leaving@example.org";
    let token = server.user(email);
    let session = server.sign_in(email).await;
    assert_eq!(token.get(ME).await.status, 200);
    server.cli(&["user", "disable", email], "").ok();
    token
        .get(ME)
        .await
        .is(403, "FORBIDDEN")
        .says("This account is disabled");
    session.client.get(ME).await.is(401, "UNAUTHORIZED");
    let body = json!({ "email": email, "password": PASSWORD });
    let reply = server.anonymous().post("/api/v1/auth/login", body).await;
    reply.is(403, "FORBIDDEN").says("This account is disabled");
    // Only to who knows the password.
    let body = json!({ "email": email, "password": "another one than theirs" });
    let reply = server.anonymous().post("/api/v1/auth/login", body).await;
    reply.is(401, "UNAUTHORIZED");
    server.cli(&["user", "enable", email], "").ok();
    assert_eq!(token.get(ME).await.status, 200);
    session.client.get(ME).await.is(401, "UNAUTHORIZED");
    server.cli(&["user", "set-role", email, "admin"], "").ok();
    assert_eq!(token.get(ME).await.data()["role"], "admin");
    let told = server
        .cli(&["user", "disable", "nobody@example.org"], "")
        .failed();
    assert!(told.starts_with("hzel: "), "{told}");
    assert!(server.cli(&["user", "list"], "").ok().contains(email));
}

/// Time passes in the database.
async fn expiry(server: &mut Server) {
    let session = server.sign_in(ADMIN).await;
    let idle = server.sign_in(ADMIN).await;
    let token = server.token_of(ADMIN, &["--expires-in", "30d"]);
    let client = server.anonymous().bearer(&token);
    assert_eq!(client.get(ME).await.status, 200);
    let id = |s: &crate::harness::Session| {
        s.reply.data()["session"]["session_id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let past = "'2020-01-01 00:00:00'";
    for sql in [
        format!("UPDATE tokens SET expires_at = {past} WHERE expires_at IS NOT NULL"),
        format!(
            "UPDATE sessions SET expires_at = {past} WHERE id = '{}'",
            id(&session)
        ),
        format!(
            "UPDATE sessions SET last_seen_at = {past} WHERE id = '{}'",
            id(&idle)
        ),
    ] {
        server.database.execute(&sql).expect("one row");
    }
    client.get(ME).await.is(401, "UNAUTHORIZED");
    session.client.get(ME).await.is(401, "UNAUTHORIZED");
    idle.client.get(ME).await.is(401, "UNAUTHORIZED");
    let told = server.cli(
        &[
            "token",
            "create",
            "--user",
            ADMIN,
            "--name",
            "x",
            "--expires-in",
            "soon",
        ],
        "",
    );
    assert!(told.failed().contains("--expires-in"));
}

/// A page that looks by itself does not keep its session; whoever asks for something does.
async fn polls(server: &mut Server) {
    let session = server.sign_in(ADMIN).await;
    let before = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    let before = before.format("%Y-%m-%d %H:%M:%S");
    let set = format!("UPDATE sessions SET last_seen_at = '{before}'");
    let seen = format!("{set} WHERE last_seen_at > '{before}'");
    for (polls, kept) in [(true, 0), (false, 1)] {
        server.database.execute(&set).expect("one row");
        let mut request = session.client.request("GET", ME);
        if polls {
            request = request.header("x-hzel-poll", "1");
        }
        assert_eq!(request.send().await.expect("an answer").status(), 200);
        // What was gathered is written at the end.
        server.stop().await;
        assert_eq!(server.database.execute(&seen), Ok(kept), "{polls}");
        server.launch().await;
    }
}

async fn passwords(server: &mut Server) {
    const NEW: &str = "quite another sentence 77";
    server.secret(NEW);
    let email = "changing@example.org";
    server.add_user(email, "user");
    let (one, other) = (server.sign_in(email).await, server.sign_in(email).await);
    let path = "/api/v1/auth/password";
    let body =
        |current: &str, new: &str| json!({ "current_password": current, "new_password": new });
    for (current, new) in [
        ("wrong", NEW),
        (PASSWORD, "short"),
        (PASSWORD, ""),
        (PASSWORD, email),
    ] {
        one.writing()
            .post(path, body(current, new))
            .await
            .is(400, "VALIDATION_FAILED");
    }
    assert_eq!(
        one.writing().post(path, body(PASSWORD, NEW)).await.status,
        200
    );
    assert_eq!(one.client.get(ME).await.status, 200);
    other.client.get(ME).await.is(401, "UNAUTHORIZED");
    let old = json!({ "email": email, "password": PASSWORD });
    server
        .anonymous()
        .post("/api/v1/auth/login", old)
        .await
        .is(401, "UNAUTHORIZED");
    server.secret(&server.anonymous().sign_in(email, NEW).await.csrf);
    let upper = server
        .anonymous()
        .sign_in("Changing@Example.ORG", NEW)
        .await;
    server.secret(&upper.csrf);
    let told = server.cli(
        &["user", "create", "--email", email, "--password-stdin"],
        PASSWORD,
    );
    assert!(told.failed().starts_with("hzel: "));
    for bad in ["", "short"] {
        let args = [
            "user",
            "create",
            "--email",
            "new@example.org",
            "--password-stdin",
        ];
        server.cli(&args, bad).failed();
    }
}

async fn guessing(kind: Kind) {
    let options = Options {
        image: false,
        ..Options::with("HZEL_RATE_LIMIT", "on")
    };
    with_server(kind, options, async |server| {
        let nobody = server.anonymous();
        let wrong = json!({ "email": ADMIN, "password": "wrong" });
        let limited = eventually("a limit on guessing", 20, async || {
            let reply = nobody.post("/api/v1/auth/login", wrong.clone()).await;
            (reply.status == 429).then_some(reply)
        })
        .await;
        limited.is(429, "RATE_LIMITED");
        let wait: u64 = limited.header("retry-after").parse().expect("seconds");
        assert!((1..=900).contains(&wait), "{wait}");
        // A right one does not help before the wait is over; a token is not touched by it.
        let right = json!({ "email": ADMIN, "password": PASSWORD });
        nobody
            .post("/api/v1/auth/login", right.clone())
            .await
            .is(429, "RATE_LIMITED");
        assert_eq!(server.admin().get(ME).await.status, 200);
        tokio::time::sleep(std::time::Duration::from_secs(wait + 1)).await;
        assert_eq!(nobody.post("/api/v1/auth/login", right).await.status, 200);
    })
    .await;
}

async fn https(kind: Kind) {
    let options = Options {
        image: false,
        ..Options::with("HZEL_PUBLIC_URL", "https://cloud.example.org")
    };
    with_server(kind, options, async |server| {
        let body = json!({ "email": ADMIN, "password": PASSWORD });
        let request = server.anonymous().request("POST", "/api/v1/auth/login");
        let reply = send(request.json(&body)).await;
        let set = reply.header("set-cookie");
        assert!(set.starts_with("__Host-hzel_session="), "{set}");
        for part in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
            assert!(set.contains(part), "{set}");
        }
        assert!(!set.contains("Domain"), "{set}");
        assert!(
            reply
                .header("strict-transport-security")
                .contains("max-age")
        );
    })
    .await;
}
