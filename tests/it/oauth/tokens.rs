//! Tokens: what they are given for, once each.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    APPS, App, CALLBACK, TOKEN, Tokens, VERIFIER, but, form, form_with, without_image, works,
};
use crate::harness::{ADMIN, Kind, Server};

on_both_by_hand!(codes, refusals, refresh, races);

pub(super) async fn as_json(server: &Server, body: &Value) -> (u16, Value) {
    let reply = server.anonymous().post(TOKEN, body.clone()).await;
    assert_eq!(reply.header("cache-control"), "no-store");
    (reply.status, reply.json)
}

pub(super) fn is(answer: &(u16, Value), status: u16, error: &str) {
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
