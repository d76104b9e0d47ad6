//! Tokens: what they are given for, what they may do, and every way in which they end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    APPS, App, CALLBACK, ME, TOKEN, Tokens, VERIFIER, but, form, form_with, without_image, works,
};
use crate::harness::{ADMIN, Kind, Server};

on_both_by_hand!(
    codes,
    refusals,
    refresh,
    races,
    rights,
    expiry,
    revocation,
    introspection
);

const REVOKE: &str = "/api/v1/oauth/token/revoke";
const INTROSPECT: &str = "/api/v1/oauth/introspect";

async fn as_json(server: &Server, body: &Value) -> (u16, Value) {
    let reply = server.anonymous().post(TOKEN, body.clone()).await;
    assert_eq!(reply.header("cache-control"), "no-store");
    (reply.status, reply.json)
}

fn is(answer: &(u16, Value), status: u16, error: &str) {
    let (told, body) = answer;
    let code = body["error"].as_str().or(body["error"]["code"].as_str());
    assert_eq!((*told, code), (status, Some(error)), "{body}");
}

async fn codes(kind: Kind) {
    without_image(kind, async |server| {
        server.add_user("user@example.org", "user");
        let user = server.sign_in("user@example.org").await;
        let app = App::register(server, &server.admin(), CALLBACK).await;
        for json_body in [true, false] {
            let answer = app.authorize(server, &user, json!({})).await;
            let body = app.with_code(answer.get("code").expect("a code"));
            let (status, issued) = if json_body {
                as_json(server, &body).await
            } else {
                form(server, TOKEN, &body).await
            };
            assert_eq!(status, 200, "{issued}");
            let tokens = Tokens::of(server, &issued);
            assert!(tokens.access.starts_with("hzat_") && tokens.refresh.starts_with("hzrt_"));
            assert_eq!(issued["token_type"], "Bearer");
            assert_eq!(issued["expires_in"], 900);
            let all =
                "containers:read containers:write commands terminal networks webhooks profile";
            assert_eq!(issued["scope"], all);
            assert!(works(server, &tokens.access).await);

            // The second use fails, and takes back what the first one gave.
            let wrong = but(&body, json!({ "client_secret": "hzcs_wrong" }));
            is(&form(server, TOKEN, &wrong).await, 401, "invalid_client");
            assert!(
                works(server, &tokens.access).await,
                "only the client itself can"
            );
            is(&form(server, TOKEN, &body).await, 400, "invalid_grant");
            assert!(!works(server, &tokens.access).await);
            let again = app.with_refresh(&tokens.refresh);
            is(&form(server, TOKEN, &again).await, 400, "invalid_grant");
        }

        // By header, as RFC 6749 prefers; one way only.
        let secret = app.secret.clone().expect("a secret");
        let basic = STANDARD.encode(format!("{}:{secret}", app.client_id));
        server.secret(&basic);
        let header = server
            .anonymous()
            .with("authorization", &format!("Basic {basic}"));
        let answer = app.authorize(server, &user, json!({})).await;
        let body = app.with_code(answer.get("code").expect("a code"));
        let (status, _, told) = form_with(&header, TOKEN, &body).await;
        is(&(status, told), 400, "invalid_request");
        let body = but(&body, json!({ "client_id": null, "client_secret": null }));
        let wrong = server.anonymous().with("authorization", "Basic eDp5");
        let (status, headers, told) = form_with(&wrong, TOKEN, &body).await;
        is(&(status, told), 401, "invalid_client");
        assert!(
            headers["www-authenticate"]
                .to_str()
                .is_ok_and(|h| h.starts_with("Basic"))
        );
        let (status, _, issued) = form_with(&header, TOKEN, &body).await;
        assert_eq!(status, 200, "{issued}");
        Tokens::of(server, &issued);

        // Without a challenge there is no verifier, and a public application has both.
        let none = json!({ "code_challenge": null });
        let answer = app.authorize(server, &user, none.clone()).await;
        let body = app.with_code(answer.get("code").expect("a code"));
        is(&form(server, TOKEN, &body).await, 400, "invalid_grant");
        let body = but(&body, json!({ "code_verifier": null }));
        let (status, issued) = form(server, TOKEN, &body).await;
        assert_eq!(status, 200, "{issued}");
        Tokens::of(server, &issued);
        let public = App::make(server, &server.admin(), "org.example.app:/cb", true).await;
        let answer = public.authorize(server, &user, json!({})).await;
        let body = public.with_code(answer.get("code").expect("a code"));
        let given = but(&body, json!({ "client_secret": "hzcs_x" }));
        is(&form(server, TOKEN, &given).await, 401, "invalid_client");
        let bare = but(&body, json!({ "code_verifier": null }));
        is(&form(server, TOKEN, &bare).await, 400, "invalid_grant");
        let (status, issued) = form(server, TOKEN, &body).await;
        assert_eq!(status, 200, "{issued}");
        Tokens::of(server, &issued);
    })
    .await;
}

async fn refusals(kind: Kind) {
    without_image(kind, async |server| {
        let user = server.sign_in(ADMIN).await;
        let app = App::register(server, &server.admin(), CALLBACK).await;
        let other = App::register(server, &server.admin(), CALLBACK).await;
        let answer = app.authorize(server, &user, json!({})).await;
        let good = app.with_code(answer.get("code").expect("a code"));
        let theft = json!({
            "client_id": other.client_id, "client_secret": other.secret.clone().expect("one"),
        });
        for (more, in_json, in_form) in [
            (
                json!({ "client_id": "nothing" }),
                (401, "UNAUTHORIZED"),
                (401, "invalid_client"),
            ),
            (
                json!({ "client_secret": "x" }),
                (401, "UNAUTHORIZED"),
                (401, "invalid_client"),
            ),
            (
                json!({ "client_secret": null }),
                (401, "UNAUTHORIZED"),
                (401, "invalid_client"),
            ),
            (
                json!({ "client_id": null }),
                (400, "VALIDATION_FAILED"),
                (401, "invalid_client"),
            ),
            (
                json!({ "code": null }),
                (400, "VALIDATION_FAILED"),
                (400, "invalid_request"),
            ),
            (
                json!({ "code": "" }),
                (400, "VALIDATION_FAILED"),
                (400, "invalid_request"),
            ),
            (
                json!({ "code": "\u{0}" }),
                (400, "VALIDATION_FAILED"),
                (400, "invalid_grant"),
            ),
            (
                json!({ "code": "x".repeat(43) }),
                (400, "VALIDATION_FAILED"),
                (400, "invalid_grant"),
            ),
            (
                json!({ "redirect_uri": null }),
                (400, "VALIDATION_FAILED"),
                (400, "invalid_request"),
            ),
            (
                json!({ "redirect_uri": "https://evil.example/" }),
                (400, "VALIDATION_FAILED"),
                (400, "invalid_grant"),
            ),
            (
                json!({ "code_verifier": null }),
                (400, "VALIDATION_FAILED"),
                (400, "invalid_grant"),
            ),
            (
                json!({ "code_verifier": format!("{VERIFIER}x") }),
                (400, "VALIDATION_FAILED"),
                (400, "invalid_grant"),
            ),
            (
                json!({ "grant_type": null }),
                (400, "VALIDATION_FAILED"),
                (400, "invalid_request"),
            ),
            (
                json!({ "grant_type": "password" }),
                (400, "VALIDATION_FAILED"),
                (400, "unsupported_grant_type"),
            ),
            (theft, (400, "VALIDATION_FAILED"), (400, "invalid_grant")),
        ] {
            let body = but(&good, more);
            is(&as_json(server, &body).await, in_json.0, in_json.1);
            is(&form(server, TOKEN, &body).await, in_form.0, in_form.1);
        }
        for (token, json_code) in [("nonsense", 401), (&"hzrt_".repeat(8), 401)] {
            let body = app.with_refresh(token);
            is(&as_json(server, &body).await, json_code, "UNAUTHORIZED");
            is(&form(server, TOKEN, &body).await, 400, "invalid_grant");
        }
        let nobody = server.anonymous();
        nobody
            .post(TOKEN, json!({ "code": 1 }))
            .await
            .is(400, "BAD_REQUEST");
        nobody.post_raw(TOKEN, "{").await.is(400, "BAD_REQUEST");
        let plain = nobody
            .request("POST", TOKEN)
            .header("content-type", "text/plain");
        let reply = crate::harness::client::send(plain.body("x")).await;
        reply.is(415, "UNSUPPORTED_MEDIA_TYPE");
        let huge = but(&good, json!({ "code": "x".repeat(2_000_000) }));
        is(&form(server, TOKEN, &huge).await, 413, "invalid_request");
        let twice = nobody
            .request("POST", TOKEN)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("grant_type=authorization_code&grant_type=authorization_code");
        let told: Value = twice
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        assert_eq!(told["error"], "invalid_request");

        // None of it used the code up.
        let (status, issued) = as_json(server, &good).await;
        assert_eq!(status, 200, "{issued}");
        Tokens::of(server, &issued);
    })
    .await;
}

async fn refresh(kind: Kind) {
    without_image(kind, async |server| {
        let user = server.sign_in(ADMIN).await;
        let mut app = App::register(server, &server.admin(), CALLBACK).await;
        let first = app.tokens(server, &user, "containers:read profile").await;
        let more = but(
            &app.with_refresh(&first.refresh),
            json!({ "scope": "terminal" }),
        );
        is(&form(server, TOKEN, &more).await, 400, "invalid_scope");
        let fewer = but(&more, json!({ "scope": "profile" }));
        let (status, body) = form(server, TOKEN, &fewer).await;
        assert_eq!(
            (status, body["scope"].as_str()),
            (200, Some("profile")),
            "{body}"
        );
        let second = Tokens::of(server, &body);
        let narrow = server.anonymous().bearer(&second.access);
        narrow.get("/api/v1/containers").await.is(403, "FORBIDDEN");
        assert!(
            works(server, &first.access).await,
            "the one before lives on"
        );
        let (status, body) = as_json(server, &app.with_refresh(&second.refresh)).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["scope"], "containers:read profile");
        let third = Tokens::of(server, &body);

        // An old one in use again is in two hands: the whole family ends.
        is(
            &as_json(server, &app.with_refresh(&first.refresh)).await,
            401,
            "UNAUTHORIZED",
        );
        is(
            &form(server, TOKEN, &app.with_refresh(&third.refresh)).await,
            400,
            "invalid_grant",
        );
        for access in [&first.access, &second.access, &third.access] {
            assert!(!works(server, access).await);
        }

        // Another application's is no better than none, and stays good.
        let other = App::register(server, &server.admin(), CALLBACK).await;
        let own = app.tokens(server, &user, "profile").await;
        is(
            &form(server, TOKEN, &other.with_refresh(&own.refresh)).await,
            400,
            "invalid_grant",
        );
        let (status, body) = form(server, TOKEN, &app.with_refresh(&own.refresh)).await;
        assert_eq!(status, 200, "{body}");
        let own = Tokens::of(server, &body);

        // A new secret ends the old one and the refresh tokens.
        let path = format!("{APPS}/{}/secret", app.id);
        let secret = server.admin().act(&path).await.str("client_secret");
        server.secret(&secret);
        is(
            &form(server, TOKEN, &app.with_refresh(&own.refresh)).await,
            401,
            "invalid_client",
        );
        app.secret = Some(secret);
        is(
            &form(server, TOKEN, &app.with_refresh(&own.refresh)).await,
            400,
            "invalid_grant",
        );
        assert!(works(server, &own.access).await);
    })
    .await;
}

async fn races(kind: Kind) {
    without_image(kind, async |server| {
        let user = server.sign_in(ADMIN).await;
        let app = App::register(server, &server.admin(), CALLBACK).await;
        for _ in 0..8 {
            let answer = app.authorize(server, &user, json!({})).await;
            let code = app.with_code(answer.get("code").expect("a code"));
            let won = only_winner(server, &code).await;
            assert!(!works(server, &won.access).await, "the losers took it back");

            let tokens = app.tokens(server, &user, "profile").await;
            let refresh = app.with_refresh(&tokens.refresh);
            let won = only_winner(server, &refresh).await;
            for access in [&tokens.access, &won.access] {
                assert!(!works(server, access).await);
            }
        }
        // The same consent given many times at once is one authorization.
        let public = App::make(server, &server.admin(), "org.example.app:/cb", true).await;
        let all = join_all((0..8).map(|_| public.authorize(server, &user, json!({})))).await;
        assert!(all.iter().all(|answer| answer.get("code").is_some()));
        let list = user.client.get("/api/v1/oauth/authorizations").await;
        assert_eq!(list.data().as_array().map(Vec::len), Some(2));
    })
    .await;
}

/// Sends the same eight times at once; exactly one gets tokens.
async fn only_winner(server: &Server, body: &Value) -> Tokens {
    let all = join_all((0..8).map(|_| form(server, TOKEN, body))).await;
    let (won, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(|(status, _)| *status == 200);
    assert_eq!(won.len(), 1, "{won:?} {lost:?}");
    for answer in &lost {
        is(answer, 400, "invalid_grant");
    }
    Tokens::of(server, &won[0].1)
}

async fn rights(kind: Kind) {
    without_image(kind, async |server| {
        let admin = server.sign_in(ADMIN).await;
        let app = App::register(server, &server.admin(), CALLBACK).await;
        let tokens = app.tokens(server, &admin, "").await;
        let client = server.anonymous().bearer(&tokens.access);
        let me = client.get(ME).await;
        assert_eq!(me.data()["role"], "user");
        assert_eq!(me.data()["auth_method"], "oauth");
        assert_eq!(me.data()["email"], ADMIN);
        let image = json!({ "name": "x", "source": "/nothing.tar" });
        client
            .post("/api/v1/images", image)
            .await
            .is(403, "FORBIDDEN");

        // Malformed ones, and a good session beside them, change nothing.
        let mut wrong = tokens.access.clone();
        wrong.replace_range(20..21, if &wrong[20..21] == "a" { "b" } else { "a" });
        for token in [
            wrong.as_str(),
            "hzat_",
            &tokens.refresh,
            &tokens.access[..40],
        ] {
            let reply = admin.writing().bearer(token).get(ME).await;
            reply.is(401, "UNAUTHORIZED");
        }

        let narrow = app.tokens(server, &admin, "containers:read").await;
        let narrow = server.anonymous().bearer(&narrow.access);
        assert_eq!(narrow.get("/api/v1/containers").await.status, 200);
        let reply = narrow
            .post("/api/v1/containers", json!({ "hostname": "x" }))
            .await;
        reply.is(403, "FORBIDDEN");
        assert!(reply.message().contains("containers:write"), "{reply:?}");

        // A disabled user is out at once, with everything that was given; so is a disabled owner.
        server.add_user("user@example.org", "user");
        let user = server.sign_in("user@example.org").await;
        let given = app.tokens(server, &user, "profile").await;
        let waiting = app.authorize(server, &user, json!({})).await;
        let owner = server.user("owner@example.org");
        let owned = App::register(server, &owner, CALLBACK).await;
        let through = owned.tokens(server, &admin, "profile").await;
        for email in ["user@example.org", "owner@example.org"] {
            server.cli(&["user", "disable", email], "").ok();
        }
        assert!(!works(server, &given.access).await);
        let refresh = app.with_refresh(&given.refresh);
        is(&form(server, TOKEN, &refresh).await, 400, "invalid_grant");
        let code = app.with_code(waiting.get("code").expect("a code"));
        is(&form(server, TOKEN, &code).await, 400, "invalid_grant");
        let refresh = owned.with_refresh(&through.refresh);
        is(&form(server, TOKEN, &refresh).await, 401, "invalid_client");
    })
    .await;
}

async fn expiry(kind: Kind) {
    without_image(kind, async |server| {
        let user = server.sign_in(ADMIN).await;
        let app = App::register(server, &server.admin(), CALLBACK).await;
        let past = "'2020-01-01 00:00:00'";
        let expire = |table: &str| {
            let sql = format!("UPDATE {table} SET expires_at = {past}");
            server.database.execute(&sql).expect("a change");
        };
        let answer = app.authorize(server, &user, json!({})).await;
        expire("oauth_codes");
        let code = app.with_code(answer.get("code").expect("a code"));
        is(&form(server, TOKEN, &code).await, 400, "invalid_grant");
        is(&as_json(server, &code).await, 400, "VALIDATION_FAILED");

        let tokens = app.tokens(server, &user, "profile").await;
        expire("oauth_access_tokens");
        assert!(!works(server, &tokens.access).await);
        let (status, body) = form(server, TOKEN, &app.with_refresh(&tokens.refresh)).await;
        assert_eq!(status, 200, "{body}");
        let fresh = Tokens::of(server, &body);
        assert!(works(server, &fresh.access).await);
        expire("oauth_refresh_tokens");
        let refresh = app.with_refresh(&fresh.refresh);
        is(&form(server, TOKEN, &refresh).await, 400, "invalid_grant");
    })
    .await;
}

fn about(app: &App, token: &str) -> Value {
    let mut body = json!({ "token": token, "client_id": app.client_id });
    if let Some(secret) = &app.secret {
        body["client_secret"] = json!(secret);
    }
    body
}

async fn revocation(kind: Kind) {
    without_image(kind, async |server| {
        let user = server.sign_in(ADMIN).await;
        let app = App::register(server, &server.admin(), CALLBACK).await;
        let other = App::make(server, &server.admin(), "org.example.app:/cb", true).await;
        let tokens = app.tokens(server, &user, "profile").await;
        let (status, body) = form(server, REVOKE, &about(&other, &tokens.access)).await;
        is(&(status, body), 400, "invalid_grant");
        is(
            &form(
                server,
                REVOKE,
                &but(&about(&app, "x"), json!({ "client_secret": "x" })),
            )
            .await,
            401,
            "invalid_client",
        );
        is(
            &form(
                server,
                REVOKE,
                &but(&about(&app, "x"), json!({ "token": null })),
            )
            .await,
            400,
            "invalid_request",
        );
        assert!(works(server, &tokens.access).await);
        // An access token alone; again is no error, and nonsense is none either.
        for token in [tokens.access.as_str(), tokens.access.as_str(), "nonsense"] {
            let reply = server.anonymous().post(REVOKE, about(&app, token)).await;
            assert_eq!(reply.data(), "revoked");
        }
        assert!(!works(server, &tokens.access).await);
        let (status, body) = form(server, TOKEN, &app.with_refresh(&tokens.refresh)).await;
        assert_eq!(status, 200, "{body}");
        let fresh = Tokens::of(server, &body);
        // A refresh token with all of its family.
        let hint = but(
            &about(&app, &fresh.refresh),
            json!({ "token_type_hint": "access_token" }),
        );
        assert_eq!(form(server, REVOKE, &hint).await.0, 200);
        assert!(!works(server, &fresh.access).await);
        let refresh = app.with_refresh(&fresh.refresh);
        is(&form(server, TOKEN, &refresh).await, 400, "invalid_grant");
    })
    .await;
}

async fn introspection(kind: Kind) {
    without_image(kind, async |server| {
        let user = server.sign_in(ADMIN).await;
        let app = App::register(server, &server.admin(), CALLBACK).await;
        let other = App::register(server, &server.admin(), CALLBACK).await;
        let public = App::make(server, &server.admin(), "org.example.app:/cb", true).await;
        let tokens = app.tokens(server, &user, "profile").await;
        let (status, told) = form(server, INTROSPECT, &about(&app, &tokens.access)).await;
        assert_eq!(status, 200, "{told}");
        assert_eq!(told["active"], true);
        assert_eq!(told["scope"], "profile");
        assert_eq!(told["token_type"], "Bearer");
        assert_eq!(told["client_id"].as_str(), Some(app.client_id.as_str()));
        assert_eq!(told["iss"].as_str(), Some(server.url.as_str()));
        let life = told["exp"]
            .as_i64()
            .zip(told["iat"].as_i64())
            .map(|(to, from)| to - from);
        assert_eq!(life, Some(900));
        let id = user.reply.data()["user"]["user_id"].clone();
        assert_eq!(told["sub"], id);
        let reply = server
            .anonymous()
            .post(INTROSPECT, about(&app, &tokens.refresh))
            .await;
        assert_eq!(reply.json["active"], true);
        // What is not this application's is worth nothing to it.
        let nothing = json!({ "active": false });
        for (app, token) in [
            (&other, tokens.access.as_str()),
            (&other, &tokens.refresh),
            (&app, "nonsense"),
            (&app, &server.admin_token),
        ] {
            assert_eq!(
                form(server, INTROSPECT, &about(app, token)).await,
                (200, nothing.clone())
            );
        }
        let anyone = about(&public, &tokens.access);
        is(
            &form(server, INTROSPECT, &anyone).await,
            401,
            "invalid_client",
        );
        let nobody = server
            .anonymous()
            .post(INTROSPECT, json!({ "token": "x" }))
            .await;
        nobody.is(400, "VALIDATION_FAILED");
        form(server, REVOKE, &about(&app, &tokens.refresh)).await;
        for token in [&tokens.access, &tokens.refresh] {
            let told = form(server, INTROSPECT, &about(&app, token)).await;
            assert_eq!(told, (200, nothing.clone()));
        }
    })
    .await;
}
