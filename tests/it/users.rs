//! Accounts: what administrators do with them, links to choose a password, one-time codes, and the
//! limits and headers around all of it.

use serde_json::{Value, json};
use totp_rs::{Builder, Secret, Totp};

use crate::harness::client::send;
use crate::harness::{ADMIN, Client, Kind, Options, PASSWORD, Reply, Server, Session};

on_both!(
    accounts,
    links_to_choose_a_password,
    the_last_administrator_stays,
    one_time_codes,
    sensitive_things_ask_again,
    pages_for_administrators,
    pages_for_codes,
);
on_both_by_hand!(limits, behind_https);

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
    reply.is(401, "UNAUTHORIZED");
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

fn authenticator(server: &Server, reply: &Reply) -> Totp {
    let secret = reply.str("secret");
    server.secret(&secret);
    assert!(reply.str("otpauth_url").starts_with("otpauth://totp/"));
    Builder::new()
        .with_secret(Secret::try_from_base32(secret).expect("base32"))
        .with_account_name("anyone")
        .build()
        .expect("an authenticator")
}

/// The code of the step that is `steps` away from now.
fn code(totp: &Totp, steps: i64) -> String {
    let now = chrono::Utc::now().timestamp() + 30 * steps;
    totp.generate(u64::try_from(now).expect("after 1970"))
        .to_string()
}

/// Waits until the present step will last for some seconds.
async fn early_in_a_step() {
    let into = chrono::Utc::now().timestamp() % 30;
    if into > 18 {
        let wait = u64::try_from(30 - into).expect("positive");
        tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
    }
}

async fn try_login(server: &Server, email: &str, code: &str) -> Reply {
    let body = json!({ "email": email, "password": PASSWORD, "totp": code });
    server.anonymous().post("/api/v1/auth/login", body).await
}

async fn one_time_codes(server: &mut Server) {
    let email = "anna@example.org";
    server.add_user(email, "user");
    let session = server.sign_in(email).await;
    let (client, path) = (session.writing(), "/api/v1/auth/totp");
    assert_eq!(client.get(path).await.data()["enabled"], json!(false));
    let body = json!({ "code": "123456" });
    client
        .post("/api/v1/auth/totp/confirm", body)
        .await
        .is(409, "CONFLICT");
    // Begun anew, the first seed is void; and what is not confirmed asks for nothing.
    let first = authenticator(server, &client.act(path).await);
    let totp = authenticator(server, &client.act(path).await);
    server.sign_in(email).await;
    early_in_a_step().await;
    for wrong in [
        code(&first, 0),
        code(&totp, -3),
        "12345".into(),
        String::new(),
        "ABCDEF".into(),
    ] {
        let reply = client
            .post("/api/v1/auth/totp/confirm", json!({ "code": wrong }))
            .await;
        reply.is(400, "VALIDATION_FAILED");
    }
    let used = code(&totp, -1);
    let reply = client
        .post("/api/v1/auth/totp/confirm", json!({ "code": used }))
        .await;
    let recovery = codes_of(server, &reply);
    assert_eq!(recovery.len(), 10);
    client.act(path).await.is(409, "CONFLICT");
    assert_eq!(
        client.get(path).await.data(),
        &json!({ "enabled": true, "recovery_codes_left": 10 })
    );

    // From now on the password is not enough, and says nothing before it is right.
    let login = |password: &str| json!({ "email": email, "password": password });
    let nobody = server.anonymous();
    let reply = nobody.post("/api/v1/auth/login", login(PASSWORD)).await;
    reply
        .is(401, "UNAUTHORIZED")
        .says("A one-time code is required");
    assert!(reply.header("set-cookie").is_empty(), "{reply:?}");
    let reply = nobody
        .post("/api/v1/auth/login", login("not the password"))
        .await;
    reply.says("E-mail or password is wrong");
    for wrong in [
        used,
        code(&totp, 5),
        "000 000 000".into(),
        "ABCD-EFGH-JKMN".into(),
    ] {
        let reply = try_login(server, email, &wrong).await;
        reply
            .is(401, "UNAUTHORIZED")
            .says("The one-time code is wrong or was used");
    }
    // A code works once, also for many who have it at the same moment.
    for (now, spaced) in [(code(&totp, 0), true), (code(&totp, 1), false)] {
        let typed = if spaced {
            format!("{} {}", &now[..3], &now[3..])
        } else {
            now.clone()
        };
        let tries = (0..6).map(|_| try_login(server, email, &typed));
        let answers = futures_util::future::join_all(tries).await;
        let entered = answers.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(entered, 1, "{answers:?}");
    }
    // A code for recovery likewise, as people type it.
    let typed = recovery[0].to_lowercase().replace('-', " ");
    let tries = (0..4).map(|_| try_login(server, email, &typed));
    let answers = futures_util::future::join_all(tries).await;
    let entered = answers.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(entered, 1, "{answers:?}");
    assert_eq!(
        client.get(path).await.data()["recovery_codes_left"],
        json!(9)
    );

    // New codes for recovery and turning off ask for the password.
    for password in ["", "wrong"] {
        let body = json!({ "password": password });
        let reply = client
            .post("/api/v1/auth/totp/recovery", body.clone())
            .await;
        reply.is(400, "VALIDATION_FAILED");
        send(client.request("DELETE", path).json(&body))
            .await
            .is(400, "VALIDATION_FAILED");
    }
    client.delete(path).await.is(415, "UNSUPPORTED_MEDIA_TYPE");
    let body = json!({ "password": PASSWORD });
    let reply = client
        .post("/api/v1/auth/totp/recovery", body.clone())
        .await;
    let renewed = codes_of(server, &reply);
    try_login(server, email, &recovery[1])
        .await
        .is(401, "UNAUTHORIZED");
    try_login(server, email, &renewed[1]).await.data();
    assert_eq!(
        send(client.request("DELETE", path).json(&body))
            .await
            .status,
        200
    );
    send(client.request("DELETE", path).json(&body))
        .await
        .is(409, "CONFLICT");
    server.sign_in(email).await;

    let totp = authenticator(server, &client.act(path).await);
    client
        .post(
            "/api/v1/auth/totp/confirm",
            json!({ "code": code(&totp, 0) }),
        )
        .await
        .data();
    let id = id_of(server, email).await;
    assert_eq!(
        server
            .admin()
            .get(&format!("/api/v1/admin/users/{id}"))
            .await
            .data()["totp_enabled"],
        json!(true)
    );
    // An administrator can turn it off for who has lost everything.
    let remove = format!("/api/v1/admin/users/{id}/totp");
    server.admin().delete(&remove).await.data();
    server.admin().delete(&remove).await.is(409, "CONFLICT");
    server.sign_in(email).await;
}

fn codes_of(server: &Server, reply: &Reply) -> Vec<String> {
    let codes = reply.data()["recovery_codes"].as_array().expect("codes");
    let codes: Vec<String> = codes
        .iter()
        .map(|code| code.as_str().expect("a code").to_owned())
        .collect();
    for code in &codes {
        assert_eq!(code.len(), 14, "{code}");
        server.secret(code);
    }
    codes
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

async fn pages_for_administrators(server: &mut Server) {
    let session = server.sign_in(ADMIN).await;
    let client = &session.client;
    let page = client
        .post_form(
            "/admin/users",
            &field(
                &session,
                &[
                    ("email", "carl@example.org"),
                    ("display_name", "Carl"),
                    ("role", "user"),
                ],
            ),
        )
        .await;
    assert_eq!(page.status, 200, "{page:?}");
    let secret = secret_of(
        server,
        between(&page.text, "data-test=\"reset-link\">", "<"),
    );
    assert!(!client.get("/admin/users").await.text.contains(&secret));

    let refused = client
        .post_form(
            "/admin/users",
            &field(&session, &[("email", "x"), ("display_name", "Kept")]),
        )
        .await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.text.contains("id=\"email-error\""), "{refused:?}");
    assert!(refused.text.contains("value=\"Kept\""), "{refused:?}");

    // The owner's side, without scripts: the link pasted into the form.
    let nobody = server.anonymous();
    let form = nobody.get("/reset").await;
    let token = between(&form.text, "name=\"csrf_token\" value=\"", "\"");
    let cookie = form
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let browser = nobody.with("cookie", &cookie);
    let pasted = format!("{}/reset#{secret}", server.url);
    let refused = browser
        .post_form(
            "/reset",
            &[
                ("csrf_token", token),
                ("token", &pasted),
                ("new_password", "short"),
            ],
        )
        .await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(
        refused.text.contains("id=\"new_password-error\""),
        "{refused:?}"
    );
    let done = browser
        .post_form(
            "/reset",
            &[
                ("csrf_token", token),
                ("token", &pasted),
                ("new_password", NEW),
            ],
        )
        .await;
    assert_eq!(
        (done.status, done.header("location")),
        (303, "/login?changed=password")
    );
    let carl = nobody.sign_in("carl@example.org", NEW).await;

    let id = id_of(server, "carl@example.org").await;
    let path = format!("/admin/users/{id}");
    let page = client.get(&path).await;
    assert!(page.text.contains("carl@example.org"), "{page:?}");
    for (way, fields) in [
        (path.clone(), vec![("status", "disabled")]),
        (path.clone(), vec![("status", "active")]),
        (path.clone(), vec![("role", "admin")]),
        (format!("{path}/sessions/end"), vec![]),
    ] {
        let reply = client.post_form(&way, &field(&session, &fields)).await;
        assert_eq!(
            (reply.status, reply.header("location")),
            (303, path.as_str()),
            "{way}"
        );
    }
    carl.client
        .get("/api/v1/auth/me")
        .await
        .is(401, "UNAUTHORIZED");
    let found = client.get("/admin/users?q=carl&status=active").await;
    assert!(found.text.contains(&id), "{found:?}");
    let found = client.get("/admin/users?q=carl&status=disabled").await;
    assert!(!found.text.contains(&id), "{found:?}");

    server.add_user("dora@example.org", "user");
    let dora = server.sign_in("dora@example.org").await;
    for path in ["/admin/users", &path] {
        assert_eq!(dora.client.get(path).await.status, 403, "{path}");
    }
    let reply = dora
        .client
        .post_form(&path, &field(&dora, &[("role", "admin")]))
        .await;
    assert_eq!(reply.status, 403, "{reply:?}");
}

async fn pages_for_codes(server: &mut Server) {
    let email = "anna@example.org";
    server.add_user(email, "user");
    let session = server.sign_in(email).await;
    let client = &session.client;
    let page = client
        .post_form("/profile/totp", &field(&session, &[]))
        .await;
    assert!(page.text.contains("<svg viewBox"), "{page:?}");
    assert_eq!(page.header("cache-control"), "no-store");
    let secret = between(&page.text, "data-test=\"totp-secret\">", "<").replace(' ', "");
    server.secret(&secret);
    let totp = Builder::new()
        .with_secret(Secret::try_from_base32(&secret).expect("base32"))
        .with_account_name("anyone")
        .build()
        .expect("an authenticator");
    let wrong = client
        .post_form("/profile/totp/confirm", &field(&session, &[("code", "1")]))
        .await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
    assert!(
        wrong.text.contains(&in_groups(&secret)),
        "the same key again"
    );
    early_in_a_step().await;
    let first = code(&totp, -1);
    let page = client
        .post_form(
            "/profile/totp/confirm",
            &field(&session, &[("code", &first)]),
        )
        .await;
    assert_eq!(page.status, 200, "{page:?}");
    let recovery = between(&page.text, "data-test=\"recovery-codes\">", "<");
    assert_eq!(recovery.lines().filter(|line| line.len() == 14).count(), 10);

    // Signing in takes two steps, and the password is in neither page.
    let nobody = server.anonymous();
    let form = nobody.get("/login?next=/tokens").await;
    let token = between(&form.text, "name=\"csrf_token\" value=\"", "\"");
    let cookie = form
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let browser = nobody.with("cookie", &cookie);
    let fields = [
        ("csrf_token", token),
        ("next", "/tokens"),
        ("email", email),
        ("password", PASSWORD),
    ];
    let page = browser.post_form("/login", &fields).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(!page.text.contains(PASSWORD));
    assert!(!page.header("set-cookie").contains("hzel_session"));
    let ticket = between(&page.text, "name=\"ticket\" value=\"", "\"").to_owned();
    server.secret(&ticket);
    let step = async |ticket: &str, code: &str| {
        let fields = [
            ("csrf_token", token),
            ("next", "/tokens"),
            ("ticket", ticket),
            ("totp", code),
        ];
        browser.post_form("/login/code", &fields).await
    };
    let page = step(&ticket, &first).await;
    assert_eq!(page.status, 401, "{page:?}");
    assert!(page.text.contains("id=\"totp-error\""), "{page:?}");
    for bad in ["", "x", &ticket[1..]] {
        let page = step(bad, &code(&totp, 0)).await;
        assert_eq!((page.status, page.header("location")), (303, "/login"));
    }
    let page = step(&ticket, &code(&totp, 0)).await;
    assert_eq!(
        (page.status, page.header("location")),
        (303, "/tokens"),
        "{page:?}"
    );
    assert!(page.headers.get_all("set-cookie").iter().count() > 0);

    let page = client
        .post_form(
            "/profile/totp/off",
            &field(&session, &[("password", "wrong")]),
        )
        .await;
    assert_eq!(page.status, 400, "{page:?}");
    assert!(page.text.contains("id=\"password-error\""), "{page:?}");
    let page = client
        .post_form(
            "/profile/totp/off",
            &field(&session, &[("password", PASSWORD)]),
        )
        .await;
    assert_eq!(page.status, 303, "{page:?}");
    server.sign_in(email).await;
}

fn in_groups(secret: &str) -> String {
    let groups: Vec<&str> = secret
        .as_bytes()
        .chunks(4)
        .map(|group| std::str::from_utf8(group).expect("ASCII"))
        .collect();
    groups.join(" ")
}

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
