//! Accounts: what administrators do with them, and links to choose a password.

mod codes;
mod limits;
mod pages;

use serde_json::{Value, json};

use crate::harness::client::send;
use crate::harness::{ADMIN, Client, PASSWORD, Reply, Server, Session};

on_both!(
    accounts,
    links_to_choose_a_password,
    the_last_administrator_stays,
    sensitive_things_ask_again,
);

const NEW: &str = "a brand new pass phrase";

async fn patch(client: &Client, id: &str, body: Value) -> Reply {
    let path = format!("/api/v1/admin/users/{id}");
    send(client.request("PATCH", &path).json(&body)).await
}

async fn id_of(server: &Server, email: &str) -> String {
    let reply = server
        .admin()
        .get(&format!("/api/v1/admin/users?q={email}"))
        .await;
    reply.data()[0]["id"].as_str().expect("an id").to_owned()
}

async fn accounts(server: &mut Server) {
    let admin = server.admin();
    let made = admin
        .post(
            "/api/v1/admin/users",
            json!({ "email": "Anna@Example.org", "display_name": "Anna", "password": NEW }),
        )
        .await;
    assert_eq!(made.str("email"), "anna@example.org");
    assert_eq!(
        (made.str("role"), made.str("status")),
        ("user".into(), "active".into())
    );
    assert_eq!(made.data()["has_password"], json!(true));
    assert_eq!(made.data().get("reset"), None);
    let id = made.str("id");
    assert_eq!(
        admin
            .get(&format!("/api/v1/admin/users/{id}"))
            .await
            .str("id"),
        id
    );

    let again = admin
        .post(
            "/api/v1/admin/users",
            json!({ "email": "anna@example.org", "password": NEW }),
        )
        .await;
    again.is(409, "CONFLICT");
    let reply = admin
        .post(
            "/api/v1/admin/users",
            json!({ "email": "x", "role": "king", "password": "short" }),
        )
        .await;
    reply.is(400, "VALIDATION_FAILED");
    for field in ["email", "role", "password"] {
        assert!(reply.message().contains(field), "{reply:?}");
    }
    // Letters of other scripts that look like ours are no address.
    for email in [
        "аnna@example.org",
        "anna@exаmple.org",
        "a\0@x.org",
        "a\n@x.org",
    ] {
        let reply = admin
            .post(
                "/api/v1/admin/users",
                json!({ "email": email, "password": NEW }),
            )
            .await;
        reply.is(400, "VALIDATION_FAILED");
    }
    for id in ["nothing", "00000000-0000-7000-8000-000000000000"] {
        let path = format!("/api/v1/admin/users/{id}");
        let reply = admin.get(&path).await;
        reply
            .is(404, "NOT_FOUND")
            .says(&format!("User {id} was not found"));
        patch(&admin, id, json!({})).await.is(404, "NOT_FOUND");
        admin
            .act(&format!("{path}/reset"))
            .await
            .is(404, "NOT_FOUND");
        admin
            .delete(&format!("{path}/sessions"))
            .await
            .is(404, "NOT_FOUND");
    }

    // The same key makes one account.
    let keyed = admin.with("idempotency-key", "once");
    let body = json!({ "email": "twice@example.org" });
    let first = keyed.post("/api/v1/admin/users", body.clone()).await;
    assert!(first.data()["reset"]["url"].is_string());
    let second = keyed.post("/api/v1/admin/users", body).await;
    assert_eq!(first.str("id"), second.str("id"));
    assert_eq!(second.data().get("reset"), None);

    // Lists: newest first, in pieces, narrowed.
    let all = admin.get("/api/v1/admin/users?limit=2").await;
    assert_eq!(all.data()[0]["email"], json!("twice@example.org"));
    let link = all.header("link").to_owned();
    let next = link.split(['<', '>']).nth(1).expect("a next page");
    assert_eq!(admin.get(next).await.data()[0]["email"], json!(ADMIN));
    for (query, found) in [
        ("q=ANNA", 1),
        ("q=%25", 0),
        ("q=_", 0),
        ("role=admin", 1),
        ("status=disabled", 0),
    ] {
        let reply = admin.get(&format!("/api/v1/admin/users?{query}")).await;
        assert_eq!(
            reply.data().as_array().map(Vec::len),
            Some(found),
            "{query}"
        );
    }
    admin
        .get("/api/v1/admin/users?role=king")
        .await
        .is(400, "VALIDATION_FAILED");

    // Disabling ends sessions and refuses tokens at the very next request.
    let session = server.anonymous().sign_in("anna@example.org", NEW).await;
    let token = server
        .anonymous()
        .bearer(&server.token_of("anna@example.org", &[]));
    assert_eq!(token.get("/api/v1/auth/me").await.status, 200);
    let account = admin.get(&format!("/api/v1/admin/users/{id}")).await;
    assert_eq!(account.data()["sessions"], json!(1));
    assert!(account.data()["last_login_at"].is_string());
    let reply = patch(&admin, &id, json!({ "status": "disabled" })).await;
    assert_eq!(reply.str("status"), "disabled");
    session
        .client
        .get("/api/v1/auth/me")
        .await
        .is(401, "UNAUTHORIZED");
    token.get("/api/v1/auth/me").await.is(403, "FORBIDDEN");
    let login = json!({ "email": "anna@example.org", "password": NEW });
    let reply = server.anonymous().post("/api/v1/auth/login", login).await;
    reply.is(403, "FORBIDDEN");
    patch(&admin, &id, json!({ "status": "active" }))
        .await
        .data();
    // The session is over for good; the token works again.
    session
        .client
        .get("/api/v1/auth/me")
        .await
        .is(401, "UNAUTHORIZED");
    assert_eq!(token.get("/api/v1/auth/me").await.status, 200);

    // A role counts from the next request on.
    admins_only(server, &token, &id).await;
    patch(
        &admin,
        &id,
        json!({ "role": "admin", "display_name": "Anna M." }),
    )
    .await
    .data();
    assert_eq!(token.get("/api/v1/admin/users").await.status, 200);
    assert_eq!(
        token.get("/api/v1/auth/me").await.str("display_name"),
        "Anna M."
    );
    for body in [
        json!({ "role": "king" }),
        json!({ "status": "gone" }),
        json!({ "display_name": "a\nb" }),
        json!({ "display_name": "" }),
    ] {
        patch(&admin, &id, body).await.is(400, "VALIDATION_FAILED");
    }
    patch(&admin, &id, json!({ "role": 1 }))
        .await
        .is(400, "BAD_REQUEST");
    let narrow = server.token_of("anna@example.org", &["--scopes", "profile"]);
    let narrow = server.anonymous().bearer(&narrow);
    admins_only(server, &narrow, &id).await;

    sessions_of_others(server, &id).await;
}

/// That this credential is refused everywhere.
async fn admins_only(server: &Server, client: &Client, id: &str) {
    let one = format!("/api/v1/admin/users/{id}");
    for reply in [
        client.get("/api/v1/admin/users").await,
        client
            .post("/api/v1/admin/users", json!({ "email": "x@x.org" }))
            .await,
        client.get(&one).await,
        patch(client, id, json!({ "role": "admin" })).await,
        client.act(&format!("{one}/reset")).await,
        client.get(&format!("{one}/sessions")).await,
        client.delete(&format!("{one}/sessions")).await,
        client.delete(&format!("{one}/sessions/{id}")).await,
        client.delete(&format!("{one}/totp")).await,
        // No hint whether there is such an account.
        client.get("/api/v1/admin/users/nothing").await,
    ] {
        reply.is(403, "FORBIDDEN");
    }
    assert_eq!(server.admin().get(&one).await.status, 200);
}

async fn sessions_of_others(server: &Server, id: &str) {
    let admin = server.admin();
    let path = format!("/api/v1/admin/users/{id}/sessions");
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(server.anonymous().sign_in("anna@example.org", NEW).await);
    }
    let list = admin.get(&path).await;
    assert_eq!(list.data().as_array().map(Vec::len), Some(3));
    let first = list.data()[2]["id"].as_str().expect("an id").to_owned();
    admin.delete(&format!("{path}/{first}")).await.data();
    admin
        .delete(&format!("{path}/{first}"))
        .await
        .is(404, "NOT_FOUND");
    sessions[0]
        .client
        .get("/api/v1/auth/me")
        .await
        .is(401, "UNAUTHORIZED");
    // One's own session that asks stays.
    let own = sessions[1].writing().delete(&path).await;
    assert_eq!(own.data()["ended"], json!(1));
    assert_eq!(sessions[1].client.get("/api/v1/auth/me").await.status, 200);
    sessions[2]
        .client
        .get("/api/v1/auth/me")
        .await
        .is(401, "UNAUTHORIZED");
    assert_eq!(admin.delete(&path).await.data()["ended"], json!(1));
    sessions[1]
        .client
        .get("/api/v1/auth/me")
        .await
        .is(401, "UNAUTHORIZED");
}

async fn sensitive_things_ask_again(server: &mut Server) {
    let session = server.sign_in(ADMIN).await;
    let client = session.writing();
    let id = id_of(server, ADMIN).await;
    let app = crate::oauth::App::register(server, &client, crate::oauth::CALLBACK).await;
    server
        .database
        .execute("UPDATE sessions SET proved_at = '2020-01-01 00:00:00'")
        .expect("a row");
    let one = format!("/api/v1/admin/users/{id}");
    for reply in [
        client.post("/api/v1/tokens", json!({ "name": "x" })).await,
        client.act("/api/v1/auth/totp").await,
        client
            .post("/api/v1/admin/users", json!({ "email": "x@example.org" }))
            .await,
        patch(&client, &id, json!({ "display_name": "x" })).await,
        client.act(&format!("{one}/reset")).await,
        client.delete(&format!("{one}/totp")).await,
        client
            .act(&format!("/api/v1/oauth/apps/{}/secret", app.id))
            .await,
    ] {
        reply.is(403, "FORBIDDEN");
        assert!(
            reply.message().contains("/api/v1/auth/confirm"),
            "{reply:?}"
        );
    }
    // The rest of the session is as before, and a token is asked nothing.
    assert_eq!(client.get("/api/v1/tokens").await.status, 200);
    server
        .admin()
        .post("/api/v1/tokens", json!({ "name": "x" }))
        .await
        .data();

    // A page leads to the question and back.
    let page = &session.client;
    let referer = format!("{}/tokens", server.url);
    let fields = field(&session, &[("name", "by page")]);
    let reply = page
        .with("referer", &referer)
        .post_form("/tokens", &fields)
        .await;
    assert_eq!(
        (reply.status, reply.header("location")),
        (303, "/confirm?next=%2Ftokens")
    );
    let form = page.get("/confirm?next=%2Ftokens").await;
    assert!(
        form.text.contains("name=\"next\" value=\"/tokens\""),
        "{form:?}"
    );
    let fields = field(&session, &[("next", "/tokens"), ("password", "wrong")]);
    let reply = page.post_form("/confirm", &fields).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    let fields = field(&session, &[("next", "/tokens"), ("password", PASSWORD)]);
    let reply = page.post_form("/confirm", &fields).await;
    assert_eq!((reply.status, reply.header("location")), (303, "/tokens"));
    client
        .post("/api/v1/tokens", json!({ "name": "y" }))
        .await
        .data();

    server
        .database
        .execute("UPDATE sessions SET proved_at = '2020-01-01 00:00:00'")
        .expect("a row");
    let body = json!({ "password": "wrong" });
    client
        .post("/api/v1/auth/confirm", body)
        .await
        .is(400, "VALIDATION_FAILED");
    client
        .post("/api/v1/tokens", json!({ "name": "z" }))
        .await
        .is(403, "FORBIDDEN");
    let body = json!({ "password": PASSWORD });
    client.post("/api/v1/auth/confirm", body).await.data();
    client
        .post("/api/v1/tokens", json!({ "name": "z" }))
        .await
        .data();
}

/// The secret of a link, which the log must not have.
fn secret_of(server: &Server, url: &str) -> String {
    let (page, secret) = url.split_once('#').expect("the secret is behind the #");
    assert_eq!(page, format!("{}/reset", server.url));
    assert!(secret.starts_with("hzpr_"), "{secret}");
    server.secret(secret);
    secret.to_owned()
}

async fn links_to_choose_a_password(server: &mut Server) {
    let (admin, nobody) = (server.admin(), server.anonymous());
    let made = admin
        .post("/api/v1/admin/users", json!({ "email": "new@example.org" }))
        .await;
    assert_eq!(made.data()["has_password"], json!(false));
    let id = made.str("id");
    let secret = secret_of(server, made.data()["reset"]["url"].as_str().unwrap());
    server.secret(NEW);
    let choose = async |token: &str, password: &str| {
        let body = json!({ "token": token, "new_password": password });
        nobody.post("/api/v1/auth/reset", body).await
    };
    for wrong in [
        "",
        "hzpr_",
        "x",
        &secret[..secret.len() - 1],
        "hzpr_000000000000000000000000000000000000",
    ] {
        let reply = choose(wrong, NEW).await;
        reply.is(400, "VALIDATION_FAILED");
        assert!(reply.message().starts_with("token "), "{reply:?}");
    }
    let reply = choose(&secret, "short").await;
    assert!(reply.message().starts_with("new_password "), "{reply:?}");
    // Many at once: one of them is the one.
    let asked = (0..6).map(|_| choose(&secret, NEW));
    let answers = futures_util::future::join_all(asked).await;
    let done = answers.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(done, 1, "{answers:?}");
    choose(&secret, NEW).await.is(400, "VALIDATION_FAILED");
    let session = nobody.sign_in("new@example.org", NEW).await;

    // A newer link makes an older one void, and the old password works until it is used.
    let reset = format!("/api/v1/admin/users/{id}/reset");
    let older = admin.act(&reset).await;
    let older = secret_of(server, &older.str("url"));
    let newer = admin.act(&reset).await;
    let newer = secret_of(server, &newer.str("url"));
    choose(&older, PASSWORD).await.is(400, "VALIDATION_FAILED");
    assert_eq!(session.client.get("/api/v1/auth/me").await.status, 200);
    choose(&newer, PASSWORD).await.data();
    session
        .client
        .get("/api/v1/auth/me")
        .await
        .is(401, "UNAUTHORIZED");
    nobody.sign_in("new@example.org", PASSWORD).await;

    // Disabling, and choosing a password oneself, make links void.
    let link = secret_of(server, &admin.act(&reset).await.str("url"));
    patch(&admin, &id, json!({ "status": "disabled" }))
        .await
        .data();
    admin.act(&reset).await.is(409, "CONFLICT");
    patch(&admin, &id, json!({ "status": "active" }))
        .await
        .data();
    choose(&link, NEW).await.is(400, "VALIDATION_FAILED");
    let link = secret_of(server, &admin.act(&reset).await.str("url"));
    let session = nobody.sign_in("new@example.org", PASSWORD).await;
    let body = json!({ "current_password": PASSWORD, "new_password": NEW });
    session
        .writing()
        .post("/api/v1/auth/password", body)
        .await
        .data();
    choose(&link, PASSWORD).await.is(400, "VALIDATION_FAILED");
    // One that is past.
    let link = secret_of(server, &admin.act(&reset).await.str("url"));
    server
        .database
        .execute("UPDATE password_resets SET expires_at = '2020-01-01 00:00:00'")
        .expect("a row");
    choose(&link, PASSWORD).await.is(400, "VALIDATION_FAILED");
}

async fn the_last_administrator_stays(server: &mut Server) {
    let admin = server.admin();
    let id = id_of(server, ADMIN).await;
    for body in [json!({ "role": "user" }), json!({ "status": "disabled" })] {
        let reply = patch(&admin, &id, body).await;
        reply
            .is(409, "CONFLICT")
            .says("This is the last administrator");
    }
    // Two who remove each other at the same moment: one of them stays.
    for round in 0..6 {
        let email = format!("second{round}@example.org");
        server.add_user(&email, "admin");
        let second = server.anonymous().bearer(&server.token_of(&email, &[]));
        let other = id_of(server, &email).await;
        let body = if round % 2 == 0 {
            json!({ "role": "user" })
        } else {
            json!({ "status": "disabled" })
        };
        let (a, b) = futures_util::future::join(
            patch(&admin, &other, body.clone()),
            patch(&second, &id, body),
        )
        .await;
        let done = [&a, &b].iter().filter(|reply| reply.status == 200).count();
        assert_eq!(done, 1, "{a:?} {b:?}");
        if b.status == 200 {
            // For the next round.
            patch(&second, &id, json!({ "role": "admin", "status": "active" }))
                .await
                .data();
            patch(&admin, &other, json!({ "role": "user" }))
                .await
                .data();
        }
    }
}

fn field<'a>(session: &'a Session, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![("csrf_token", session.csrf.as_str())];
    fields.extend_from_slice(more);
    fields
}

/// What stands between two texts of a page.
fn between<'a>(page: &'a str, before: &str, after: &str) -> &'a str {
    let from = page
        .find(before)
        .unwrap_or_else(|| panic!("{before} in {page}"))
        + before.len();
    page[from..].split(after).next().expect("a text")
}
