//! How far a token is good: what it may do, every way in which it ends, and what can be asked of it.

use serde_json::{Value, json};

use super::tokens::{as_json, is};
use super::{App, CALLBACK, ME, TOKEN, Tokens, but, form, without_image, works};
use crate::harness::{ADMIN, Kind};

on_both_by_hand!(rights, expiry, revocation, introspection);

const REVOKE: &str = "/api/v1/oauth/token/revoke";
const INTROSPECT: &str = "/api/v1/oauth/introspect";

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
