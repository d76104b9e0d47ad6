//! Registering applications, and what users have authorized.

use serde_json::json;

use super::{APPS, App, CALLBACK, ME, form, patch, without_image, works};
use crate::harness::{ADMIN, Kind};

on_both_by_hand!(applications, rules, authorizations);

async fn applications(kind: Kind) {
    without_image(kind, async |server| {
        let owner = server.user("owner@example.org");
        let body = json!({
            "name": " Deploy bot ", "description": "Deploys.",
            "redirect_uris": [CALLBACK, "http://localhost:3000/cb", CALLBACK],
        });
        let keyed = owner.with("idempotency-key", "once");
        let made = keyed.post(APPS, body.clone()).await;
        let (id, secret) = (made.str("id"), made.str("client_secret"));
        server.secret(&secret);
        assert!(
            secret.starts_with("hzcs_") && secret.len() == 41,
            "{secret}"
        );
        assert_eq!(made.str("client_secret_prefix"), secret[..13]);
        assert_eq!(made.str("name"), "Deploy bot");
        assert_eq!(made.data()["public"], false);
        let uris = json!([CALLBACK, "http://localhost:3000/cb"]);
        assert_eq!(made.data()["redirect_uris"], uris);
        let again = keyed.post(APPS, body).await;
        assert_eq!(again.str("id"), id);
        assert!(again.data().get("client_secret").is_none(), "{again:?}");

        let one = owner.get(&format!("{APPS}/{id}")).await;
        assert!(one.data().get("client_secret").is_none(), "{one:?}");
        assert!(!one.text.contains(&secret[13..]));
        let list = owner.get(APPS).await;
        assert_eq!(list.data().as_array().map(Vec::len), Some(1));
        assert_eq!(list.data()[0], *one.data());

        let client_id = made.str("client_id");
        let public = server
            .anonymous()
            .get(&format!("{APPS}/public/{client_id}"))
            .await;
        let known = json!({
            "client_id": client_id, "name": "Deploy bot", "description": "Deploys.",
            "owner_name": "owner",
        });
        assert_eq!(*public.data(), known);
        for unknown in ["nothing", "%00", &id] {
            let reply = server
                .anonymous()
                .get(&format!("{APPS}/public/{unknown}"))
                .await;
            reply.is(404, "NOT_FOUND");
        }

        // Whoever else asks, administrators too, there is no such application.
        for other in [server.admin(), server.user("other@example.org")] {
            assert_eq!(other.get(APPS).await.data(), &json!([]));
            let path = format!("{APPS}/{id}");
            other.get(&path).await.is(404, "NOT_FOUND");
            patch(&other, &path, json!({ "name": "Mine" }))
                .await
                .is(404, "NOT_FOUND");
            other
                .act(&format!("{path}/secret"))
                .await
                .is(404, "NOT_FOUND");
            other.delete(&path).await.is(404, "NOT_FOUND");
        }
        for hopeless in ["abc", "%00", "00000000-0000-7000-8000-000000000000"] {
            let path = format!("{APPS}/{hopeless}");
            owner.get(&path).await.is(404, "NOT_FOUND");
            owner
                .act(&format!("{path}/secret"))
                .await
                .is(404, "NOT_FOUND");
            patch(&owner, &path, json!({})).await.is(404, "NOT_FOUND");
            owner.delete(&path).await.is(404, "NOT_FOUND");
        }

        let path = format!("{APPS}/{id}");
        let changed = patch(
            &owner,
            &path,
            json!({ "description": "Line one\nline two" }),
        )
        .await;
        assert_eq!(changed.str("description"), "Line one\nline two");
        assert_eq!(changed.str("name"), "Deploy bot");
        assert_eq!(changed.data()["redirect_uris"], uris);
        patch(&owner, &path, json!({ "public": true }))
            .await
            .is(400, "VALIDATION_FAILED");
        patch(&owner, &path, json!({ "redirect_uris": [] }))
            .await
            .is(400, "VALIDATION_FAILED")
            .says("At least one redirect URI is required");
        patch(&owner, &path, json!({ "name": " " }))
            .await
            .is(400, "VALIDATION_FAILED")
            .says("Application name must not be empty");

        let rotated = owner.act(&format!("{path}/secret")).await;
        let fresh = rotated.str("client_secret");
        server.secret(&fresh);
        assert_ne!(fresh, secret);
        assert_eq!(rotated.str("client_secret_prefix"), fresh[..13]);

        let public = App::make(server, &owner, "org.example.app:/cb", true).await;
        assert!(public.secret.is_none());
        owner
            .act(&format!("{APPS}/{}/secret", public.id))
            .await
            .is(409, "CONFLICT");

        let first = owner.get(&format!("{APPS}?limit=1")).await;
        assert_eq!(first.data()[0]["id"].as_str(), Some(public.id.as_str()));
        assert!(first.header("link").contains("rel=\"next\""), "{first:?}");
        assert_eq!(owner.delete(&path).await.data(), "deleted");
        owner.get(&path).await.is(404, "NOT_FOUND");
        owner.delete(&path).await.is(404, "NOT_FOUND");
    })
    .await;
}

async fn rules(kind: Kind) {
    without_image(kind, async |server| {
        let owner = server.admin();
        let uri = json!([CALLBACK]);
        for (body, message) in [
            (
                json!({ "redirect_uris": uri }),
                "Application name must not be empty",
            ),
            (
                json!({ "name": "", "redirect_uris": uri }),
                "Application name must not be empty",
            ),
            (
                json!({ "name": " \t", "redirect_uris": uri }),
                "Application name must not be empty",
            ),
            (
                json!({ "name": "x" }),
                "At least one redirect URI is required",
            ),
            (
                json!({ "name": "x", "redirect_uris": [] }),
                "At least one redirect URI is required",
            ),
            (
                json!({ "name": "", "redirect_uris": [] }),
                "Application name must not be empty; At least one redirect URI is required",
            ),
            (
                json!({ "name": "x".repeat(101), "redirect_uris": uri }),
                "Application name must be at most 100 characters",
            ),
        ] {
            let reply = owner.post(APPS, body).await;
            reply.is(400, "VALIDATION_FAILED").says(message);
        }
        for body in [
            json!({ "name": "a\u{0}b", "redirect_uris": uri }),
            json!({ "name": "a\nb", "redirect_uris": uri }),
            json!({ "name": "safe \u{202e}ecin", "redirect_uris": uri }),
            json!({ "name": "x", "description": "a\u{0}", "redirect_uris": uri }),
            json!({ "name": "x", "description": "d".repeat(501), "redirect_uris": uri }),
            json!({ "name": "x", "redirect_uris": ["http://app.example.org/cb"] }),
            json!({ "name": "x", "redirect_uris": ["https://app.example.org/cb#x"] }),
            json!({ "name": "x", "redirect_uris": ["/cb"] }),
            json!({ "name": "x", "redirect_uris": ["javascript:alert(1)"], "public": true }),
            json!({ "name": "x", "redirect_uris": ["org.example.app:/cb"] }),
            json!({ "name": "x", "redirect_uris": ["https://app.example.org/\u{0}"] }),
            json!({ "name": "x", "redirect_uris": (0..11).map(|n| format!("{CALLBACK}{n}"))
                .collect::<Vec<_>>() }),
        ] {
            owner.post(APPS, body).await.is(400, "VALIDATION_FAILED");
        }
        for body in [
            json!({ "name": null, "redirect_uris": uri }),
            json!({ "name": 1, "redirect_uris": uri }),
            json!({ "name": "x", "redirect_uris": CALLBACK }),
            json!({ "name": "x", "redirect_uris": [1] }),
            json!({ "name": "x", "redirect_uris": uri, "public": "yes" }),
            json!([]),
        ] {
            owner.post(APPS, body).await.is(400, "BAD_REQUEST");
        }
    })
    .await;
}

async fn authorizations(kind: Kind) {
    without_image(kind, async |server| {
        const LIST: &str = "/api/v1/oauth/authorizations";
        server.add_user("user@example.org", "user");
        let user = server.sign_in("user@example.org").await;
        let app = App::register(server, &server.admin(), CALLBACK).await;
        assert_eq!(user.client.get(LIST).await.data(), &json!([]));
        let tokens = app.tokens(server, &user, "profile").await;
        let more = app.tokens(server, &user, "containers:read").await;
        let list = user.client.get(LIST).await;
        let one = &list.data()[0];
        assert_eq!(list.data().as_array().map(Vec::len), Some(1));
        assert_eq!(one["app_id"].as_str(), Some(app.id.as_str()));
        assert_eq!(one["name"], "Test app");
        assert_eq!(one["owner_name"], "admin");
        assert_eq!(one["scopes"], json!(["profile", "containers:read"]));
        assert!(!list.text.contains(ADMIN), "no e-mail: {list:?}");
        let page = user.client.get("/authorizations").await;
        assert!(
            page.text
                .contains("read your name, e-mail address and role")
        );

        // Nobody else's can be seen or revoked, and the application cannot do it itself.
        let path = format!("{LIST}/{}", app.id);
        let admin = server.sign_in(ADMIN).await;
        assert_eq!(admin.client.get(LIST).await.data(), &json!([]));
        admin.writing().delete(&path).await.is(404, "NOT_FOUND");
        let itself = server.anonymous().bearer(&tokens.access);
        itself.delete(&path).await.is(403, "FORBIDDEN");

        let unused = app.authorize(server, &user, json!({})).await;
        let others = app.tokens(server, &admin, "profile").await;
        assert_eq!(user.writing().delete(&path).await.data(), "revoked");
        user.writing().delete(&path).await.is(404, "NOT_FOUND");
        for access in [&tokens.access, &more.access] {
            assert!(!works(server, access).await);
        }
        assert!(works(server, &others.access).await);
        let (status, body) = form(server, super::TOKEN, &app.with_refresh(&tokens.refresh)).await;
        assert_eq!(
            (status, body["error"].as_str()),
            (400, Some("invalid_grant"))
        );
        let code = unused.get("code").expect("a code");
        let (status, body) = form(server, super::TOKEN, &app.with_code(code)).await;
        assert_eq!(
            (status, body["error"].as_str()),
            (400, Some("invalid_grant"))
        );

        // An application that is gone takes its tokens along.
        server
            .admin()
            .delete(&format!("{APPS}/{}", app.id))
            .await
            .data();
        let gone = server.anonymous().bearer(&others.access);
        gone.get(ME).await.is(401, "UNAUTHORIZED");
    })
    .await;
}
