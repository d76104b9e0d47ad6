//! One-time codes: the API and the pages.

use serde_json::json;
use totp_rs::{Builder, Secret, Totp};

use super::{between, field, id_of};
use crate::harness::client::send;
use crate::harness::{PASSWORD, Reply, Server};

on_both!(one_time_codes, pages_for_codes);

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
    client.delete(path).await.is(400, "BAD_REQUEST");
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
