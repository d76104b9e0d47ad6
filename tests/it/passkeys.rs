//! Passkeys, in Chromium with a device that its driver plays.

use serde_json::json;

use crate::browser::Browser;
use crate::harness::{ADMIN, Kind, Options, PASSWORD, Server, free_port};

on_both!(where_there_are_none);
on_both_by_hand!(made_and_used);

const PATH: &str = "/api/v1/auth/passkeys";

/// An address without a name has no passkeys.
async fn where_there_are_none(server: &mut Server) {
    let session = server.sign_in(ADMIN).await;
    let reply = session.writing().act(&format!("{PATH}/start")).await;
    reply.is(501, "NOT_IMPLEMENTED");
    let reply = server
        .anonymous()
        .act("/api/v1/auth/login/passkey/start")
        .await;
    reply.is(501, "NOT_IMPLEMENTED");
    for (client, path) in [(server.anonymous(), "/login"), (session.client, "/profile")] {
        let page = client.get(path).await;
        let offers = ["js/passkey", "id=\"sign-in-passkey\"", "id=\"passkeys\""];
        let offered = offers.iter().find(|part| page.text.contains(**part));
        assert_eq!(offered, None, "{page:?}");
    }
}

async fn made_and_used(kind: Kind) {
    let port = free_port();
    let options = Options::with("HZEL_LISTEN", format!("127.0.0.1:{port}"))
        .and("HZEL_PUBLIC_URL", format!("http://localhost:{port}"));
    let mut server = Server::prepare(kind, options);
    server.url = format!("http://127.0.0.1:{port}");
    server.launch().await;
    server.add_user("anna@example.org", "user");

    let browser = Browser::open(&format!("http://localhost:{port}"), true).await;
    browser.plug_in_authenticator().await;
    browser.go("/login?next=/profile").await;
    browser.type_in("#email", "anna@example.org").await;
    browser.type_in("#password", PASSWORD).await;
    browser.click("#sign-in").await;
    browser.type_in("#passkey-name", "my phone").await;
    browser.click("#add-passkey-button").await;
    browser.see("[data-passkey-id]", false).await;
    assert!(browser.source().await.contains("my phone"));
    // The device has one already, and says so.
    browser.type_in("#passkey-name", "again").await;
    browser.click("#add-passkey-button").await;
    browser
        .see("[data-passkey-problem]:not([hidden])", false)
        .await;

    browser.click("#logout button").await;
    browser.find("#login").await;
    browser.go("/login?next=/tokens").await;
    browser.click("#sign-in-passkey").await;
    browser.see("#new-token", false).await;
    assert_eq!(browser.path().await, "/tokens");

    refusals(&server).await;

    // Who is disabled does not come in with it either.
    let users = server.admin().get("/api/v1/admin/users?q=anna").await;
    assert_eq!(users.data()[0]["passkeys"], json!(1));
    let id = users.data()[0]["id"].as_str().expect("an id").to_owned();
    set_status(&server, &id, "disabled").await;
    browser.go("/login").await;
    browser.click("#sign-in-passkey").await;
    browser
        .see("[data-passkey-problem]:not([hidden])", false)
        .await;
    set_status(&server, &id, "active").await;
    browser.go("/login?next=/profile").await;
    browser.click("#sign-in-passkey").await;
    browser.see("[data-passkey-id]", false).await;

    // Removed, it signs nobody in.
    browser.click("[data-test=remove-passkey]").await;
    browser.see("#passkeys .notice", false).await;
    browser.click("#logout button").await;
    browser.find("#login").await;
    browser.click("#sign-in-passkey").await;
    browser
        .see("[data-passkey-problem]:not([hidden])", false)
        .await;
    browser.close().await;
    server.finish().await;
}

async fn set_status(server: &Server, id: &str, status: &str) {
    let path = format!("/api/v1/admin/users/{id}");
    let request = server.admin().request("PATCH", &path);
    let request = request.json(&json!({ "status": status }));
    assert_eq!(crate::harness::client::send(request).await.status, 200);
}

/// What comes without the device.
async fn refusals(server: &Server) {
    let nobody = server.anonymous();
    let asked = nobody.act("/api/v1/auth/login/passkey/start").await;
    let ticket = asked.str("ticket");
    server.secret(&ticket);
    let body = json!({ "ticket": ticket, "credential": { "id": "x" } });
    for _ in 0..2 {
        let reply = nobody
            .post("/api/v1/auth/login/passkey", body.clone())
            .await;
        reply
            .is(401, "UNAUTHORIZED")
            .says("This passkey signs nobody in here");
    }
    let session = server.sign_in(ADMIN).await;
    let client = session.writing();
    let asked = client.act(&format!("{PATH}/start")).await;
    assert_eq!(
        asked.data()["options"]["publicKey"]["rp"]["id"],
        json!("localhost")
    );
    for (name, credential) in [
        ("", json!({})),
        ("a\nb", json!({})),
        ("x", json!({ "id": "x" })),
    ] {
        let body = json!({ "ticket": asked.str("ticket"), "name": name, "credential": credential });
        client.post(PATH, body).await.is(400, "VALIDATION_FAILED");
    }
    // Another's are not shown, and cannot be removed.
    assert_eq!(client.get(PATH).await.data(), &json!([]));
    client
        .delete(&format!("{PATH}/{}", asked.str("ticket")))
        .await
        .is(404, "NOT_FOUND");
}
