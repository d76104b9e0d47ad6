//! The question and its answer: what is refused, where it leads, what the page says.

use serde_json::{Value, json};

use super::{AUTHORIZE, Answer, App, CALLBACK, VERIFIER, but, challenge, merge, without_image};
use crate::harness::client::send;
use crate::harness::{ADMIN, Client, Kind, Reply, Session};

on_both_by_hand!(question, decision, page, metadata);

fn query(fields: &Value) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields.as_object().expect("an object") {
        query.append_pair(name, value.as_str().expect("a text"));
    }
    query.finish()
}

fn asked_by(app: &App) -> Value {
    json!({
        "client_id": app.client_id, "redirect_uri": app.redirect_uri, "response_type": "code",
        "state": "s t&1", "code_challenge": challenge(), "code_challenge_method": "S256",
    })
}

async fn question(kind: Kind) {
    without_image(kind, async |server| {
        let app = App::register(server, &server.admin(), CALLBACK).await;
        let public = App::make(server, &server.admin(), "org.example.app:/cb", true).await;
        let nobody = server.anonymous();
        let good = asked_by(&app);
        let ask =
            async |fields: Value| nobody.get(&format!("{AUTHORIZE}?{}", query(&fields))).await;

        let reply = ask(good.clone()).await;
        assert_eq!(reply.status, 302, "{reply:?}");
        let place = reply.header("location").to_owned();
        assert!(place.starts_with("/oauth/consent?"), "{place}");
        let passed = Answer::of(&place);
        for name in ["client_id", "redirect_uri", "state", "code_challenge"] {
            assert_eq!(passed.get(name), good[name].as_str(), "{name}");
        }

        ask(but(&good, json!({ "response_type": "token" })))
            .await
            .is(400, "VALIDATION_FAILED")
            .says("response_type must be \"code\"");
        ask(but(&good, json!({ "response_type": null })))
            .await
            .is(400, "VALIDATION_FAILED")
            .says("response_type must be \"code\"");
        for client_id in ["nothing", "\u{0}", "x'--"] {
            ask(but(&good, json!({ "client_id": client_id })))
                .await
                .is(404, "NOT_FOUND");
        }
        for uri in [
            "https://evil.example/callback",
            "https://app.example.org/callback/",
            "https://app.example.org/callback?x=1",
            "https://app.example.org/Callback",
            "https://app.example.org/callback#",
            "https://app.example.org:443/callback",
        ] {
            let reply = ask(but(&good, json!({ "redirect_uri": uri }))).await;
            reply.is(400, "VALIDATION_FAILED");
            assert!(reply.header("location").is_empty(), "{reply:?}");
        }
        for more in [
            json!({ "code_challenge_method": "plain" }),
            json!({ "code_challenge_method": null }),
            json!({ "code_challenge": null }),
            json!({ "code_challenge": VERIFIER[..42] }),
            json!({ "code_challenge": "!".repeat(43) }),
            json!({ "scope": "containers:read root" }),
            json!({ "state": "x".repeat(5000) }),
        ] {
            ask(but(&good, more)).await.is(400, "VALIDATION_FAILED");
        }
        for missing in ["client_id", "redirect_uri"] {
            let reply = ask(but(&good, json!({ missing: null }))).await;
            reply.is(400, "BAD_REQUEST");
            assert!(reply.message().contains(missing), "{reply:?}");
        }
        // Either binds the answer to the browser; none is none.
        let without = json!({ "code_challenge": null, "code_challenge_method": null });
        assert_eq!(ask(but(&good, json!({ "state": null }))).await.status, 302);
        assert_eq!(ask(but(&good, without.clone())).await.status, 302);
        let neither = but(&but(&good, without.clone()), json!({ "state": null }));
        ask(neither).await.is(400, "BAD_REQUEST");
        ask(but(&asked_by(&public), without))
            .await
            .is(400, "VALIDATION_FAILED");
        assert_eq!(ask(asked_by(&public)).await.status, 302);
        let twice = format!("{AUTHORIZE}?{}&client_id=x", query(&good));
        nobody.get(&twice).await.is(400, "BAD_REQUEST");
    })
    .await;
}

async fn decide(user: &Session, app: &App, more: Value) -> Reply {
    let mut body = json!({
        "client_id": app.client_id, "redirect_uri": app.redirect_uri, "state": "s t&1",
        "code_challenge": challenge(), "approved": true,
    });
    merge(&mut body, more);
    user.writing().post(AUTHORIZE, body).await
}

async fn decision(kind: Kind) {
    without_image(kind, async |server| {
        let uri = "http://127.0.0.1:9/cb?tenant=1";
        let app = App::register(server, &server.admin(), uri).await;
        let user = server.sign_in(ADMIN).await;
        let answer = app.authorize(server, &user, json!({})).await;
        assert!(
            answer.url.starts_with(&format!("{uri}&code=")),
            "{}",
            answer.url
        );
        assert_eq!(answer.get("state"), Some("s t&1"));
        assert_eq!(answer.get("iss"), Some(server.url.as_str()));
        let denied = app
            .authorize(server, &user, json!({ "approved": false }))
            .await;
        assert_eq!(denied.get("error"), Some("access_denied"));
        assert_eq!(denied.get("state"), Some("s t&1"));
        assert_eq!(denied.get("iss"), Some(server.url.as_str()));
        assert_eq!(denied.get("code"), None);

        for more in [
            json!({ "redirect_uri": "https://evil.example/" }),
            json!({ "code_challenge": "short" }),
            json!({ "code_challenge_method": "plain" }),
            json!({ "scope": "root" }),
        ] {
            decide(&user, &app, more).await.is(400, "VALIDATION_FAILED");
        }
        for more in [
            json!({ "approved": null }),
            json!({ "approved": "true" }),
            json!({ "client_id": null }),
            json!({ "redirect_uri": null }),
            json!({ "state": 1 }),
            json!({ "state": null, "code_challenge": null }),
        ] {
            decide(&user, &app, more).await.is(400, "BAD_REQUEST");
        }
        decide(&user, &app, json!({ "client_id": "nothing" }))
            .await
            .is(404, "NOT_FOUND");
        server
            .anonymous()
            .post(AUTHORIZE, json!({}))
            .await
            .is(401, "UNAUTHORIZED");
        user.client
            .post(AUTHORIZE, json!({}))
            .await
            .is(403, "CSRF_REJECTED");
        server
            .admin()
            .post(AUTHORIZE, json!({}))
            .await
            .is(403, "FORBIDDEN");
    })
    .await;
}

/// The fields of the only form that is posted to the consent page.
fn fields(html: &str) -> Vec<(String, String)> {
    let input = regex::Regex::new(r#"<input type="hidden" name="([^"]*)" value="([^"]*)""#)
        .expect("an expression");
    input
        .captures_iter(html)
        .map(|found| (found[1].to_owned(), found[2].replace("&#38;", "&")))
        .collect()
}

async fn press(client: &Client, html: &str, decision: &str) -> Reply {
    let all = fields(html);
    let mut pairs: Vec<(&str, &str)> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    pairs.push(("decision", decision));
    send(client.request("POST", "/oauth/consent").form(&pairs)).await
}

async fn page(kind: Kind) {
    without_image(kind, async |server| {
        server.add_user("user@example.org", "user");
        let app = App::register(server, &server.admin(), CALLBACK).await;
        let user = server.sign_in("user@example.org").await;
        let good = but(&asked_by(&app), json!({ "scope": "commands profile" }));
        let path = format!("/oauth/consent?{}", query(&good));

        // It asks to sign in first, and comes back.
        let stranger = server.anonymous().get(&path).await;
        assert_eq!(stranger.status, 303);
        let next = Answer::of(stranger.header("location"));
        assert!(stranger.header("location").starts_with("/login?"));
        assert_eq!(next.get("next"), Some(path.as_str()));

        let shown = user.client.get(&path).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        for words in [
            "Test app",
            "admin",
            "user@example.org",
            "run commands in your containers",
            "read your name, e-mail address and role",
            "https://app.example.org",
        ] {
            assert!(shown.text.contains(words), "{words}: {}", shown.text);
        }
        assert!(!shown.text.contains(ADMIN) && !shown.text.contains("terminals"));
        let policy = shown.header("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(policy.contains("form-action 'self';"), "{policy}");
        assert_eq!(shown.header("x-frame-options"), "DENY");

        let browser = user.client.with("accept", "text/html");
        let without = server.anonymous().with("cookie", &user.cookie);
        let bare: Vec<(&str, &str)> = vec![("decision", "approve")];
        let reply = send(without.request("POST", "/oauth/consent").form(&bare)).await;
        assert_eq!(reply.status, 403, "{reply:?}");

        let denied = press(&user.client, &shown.text, "deny").await;
        assert_eq!(denied.status, 303, "{denied:?}");
        let answer = Answer::of(denied.header("location"));
        assert_eq!(answer.get("error"), Some("access_denied"));
        // Denied is not remembered.
        assert!(user.client.get(&path).await.text.contains("id=\"approve\""));

        let given = press(&user.client, &shown.text, "approve").await;
        let answer = Answer::of(given.header("location"));
        assert!(answer.url.starts_with(CALLBACK), "{}", answer.url);
        assert_eq!(answer.get("state"), Some("s t&1"));
        server.secret(answer.get("code").expect("a code"));

        // The same is not asked again; more is, and so is what asks for it.
        let again = user.client.get(&path).await;
        assert_eq!(again.status, 303, "{again:?}");
        let code = Answer::of(again.header("location"));
        server.secret(code.get("code").expect("a code"));
        let left = browser.get(&path).await;
        assert!(
            left.text.contains("http-equiv=\"refresh\""),
            "{}",
            left.text
        );
        let fewer = but(&good, json!({ "scope": "profile" }));
        let fewer = user
            .client
            .get(&format!("/oauth/consent?{}", query(&fewer)))
            .await;
        assert_eq!(fewer.status, 303);
        for more in [
            json!({ "scope": "terminal" }),
            json!({ "prompt": "consent" }),
        ] {
            let asked = but(&good, more);
            let asked = user
                .client
                .get(&format!("/oauth/consent?{}", query(&asked)))
                .await;
            assert!(asked.text.contains("id=\"approve\""), "{asked:?}");
        }
        // Any program can claim a scheme of its own: there the user is always asked.
        let public = App::make(server, &server.admin(), "org.example.app:/cb", true).await;
        let path = format!("/oauth/consent?{}", query(&asked_by(&public)));
        for _ in 0..2 {
            let shown = user.client.get(&path).await;
            assert!(shown.text.contains("id=\"approve\""), "{shown:?}");
            press(&user.client, &shown.text, "approve").await;
        }

        for (more, status) in [
            (json!({ "client_id": "nothing" }), 404),
            (json!({ "redirect_uri": "https://evil.example/" }), 400),
            (json!({ "response_type": "token" }), 400),
        ] {
            let asked = but(&good, more);
            let reply = user
                .client
                .get(&format!("/oauth/consent?{}", query(&asked)))
                .await;
            assert_eq!(reply.status, status, "{reply:?}");
            assert!(reply.header("location").is_empty() && !reply.text.contains("refresh\""));
        }
    })
    .await;
}

async fn metadata(kind: Kind) {
    without_image(kind, async |server| {
        let reply = server
            .anonymous()
            .get("/.well-known/oauth-authorization-server")
            .await;
        assert_eq!(reply.status, 200);
        let told = &reply.json;
        assert_eq!(told["issuer"].as_str(), Some(server.url.as_str()));
        for (name, path) in [
            ("authorization_endpoint", "/api/v1/oauth/authorize"),
            ("token_endpoint", "/api/v1/oauth/token"),
            ("revocation_endpoint", "/api/v1/oauth/token/revoke"),
            ("introspection_endpoint", "/api/v1/oauth/introspect"),
        ] {
            let whole = format!("{}{path}", server.url);
            assert_eq!(told[name].as_str(), Some(whole.as_str()));
        }
        assert_eq!(told["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(told["authorization_response_iss_parameter_supported"], true);
    })
    .await;
}
