//! Who gets a socket, by what, and what ends it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{path, start};
use crate::containers::{CONTAINERS, running};
use crate::harness::{ADMIN, Client, Server};

on_both!(credentials, revoked, misbehaving);

async fn ticket(client: &Client, path: &str) -> String {
    let reply = client
        .post("/api/v1/ws-tickets", json!({ "for": path }))
        .await;
    assert!(reply.data()["expires_at"].is_string());
    reply.str("ticket")
}

/// By header, by query and by cookie; each refusal before the upgrade and in our form.
async fn credentials(server: &mut Server) {
    let admin = server.admin();
    let nobody = server.anonymous();
    let session = server.sign_in(ADMIN).await;
    let events = "/ws/events";

    admin.socket(events).await.close().await;
    let by_query = format!("{events}?token={}", server.admin_token);
    nobody.socket(&by_query).await.close().await;
    let oauth = crate::oauth::token_of(server, ADMIN, "containers:read").await;
    nobody
        .socket(&format!("{events}?token={oauth}"))
        .await
        .close()
        .await;

    // A cookie only with our own origin.
    let ours = session.client.with("origin", &server.url);
    ours.socket(events).await.close().await;
    for client in [
        session.client.clone(),
        session.client.with("origin", "https://elsewhere.example"),
        session.client.with("origin", "null"),
        ours.with("sec-fetch-site", "cross-site"),
    ] {
        client.refused(events).await.is(403, "CSRF_REJECTED");
    }

    // A ticket once, for one path, as its maker.
    for (client, what) in [(&admin, "token"), (&session.writing(), "session")] {
        let ticket = ticket(client, events).await;
        server.secret(&ticket);
        let with = format!("{events}?token={ticket}");
        nobody.socket(&with).await.close().await;
        nobody.refused(&with).await.is(401, "UNAUTHORIZED");
        assert!(what.len() > 1);
    }
    let elsewhere = ticket(&admin, "/ws/jobs/00000000-0000-7000-8000-000000000000").await;
    let with = format!("{events}?token={elsewhere}");
    nobody.refused(&with).await.is(401, "UNAUTHORIZED");
    // It is used up by that.
    let there = format!("/ws/jobs/00000000-0000-7000-8000-000000000000?token={elsewhere}");
    nobody.refused(&there).await.is(401, "UNAUTHORIZED");
    // Of two at once, one.
    let once = ticket(&admin, events).await;
    let with = format!("{events}?token={once}");
    let both = futures_util::future::join_all((0..8).map(|_| nobody.try_socket(&with))).await;
    assert_eq!(both.iter().filter(|one| one.is_ok()).count(), 1);
    // It has the scopes of its maker, and dies with it.
    let narrow = nobody.bearer(&server.token_of(ADMIN, &["--scopes", "commands"]));
    let with = format!("{events}?token={}", ticket(&narrow, events).await);
    nobody.refused(&with).await.is(403, "FORBIDDEN");
    let other = server.sign_in(ADMIN).await;
    let with = format!("{events}?token={}", ticket(&other.writing(), events).await);
    other.writing().act("/api/v1/auth/logout").await.data();
    nobody.refused(&with).await.is(401, "UNAUTHORIZED");
    for bad in [
        "",
        "/",
        "/ws",
        "/ws/",
        "/ws/nothing",
        "/ws/events?a=b",
        "/ws/jobs/",
        "/ws/jobs/a/b",
        "/api/v1/containers",
        "ws/events",
        "/ws/jobs/%2e",
    ] {
        let reply = admin
            .post("/api/v1/ws-tickets", json!({ "for": bad }))
            .await;
        reply.is(400, "VALIDATION_FAILED");
    }
    admin
        .post("/api/v1/ws-tickets", json!({}))
        .await
        .is(400, "BAD_REQUEST");

    // The first that is present decides.
    let bad = nobody.bearer("hzel_000000000000000000000000000000000000");
    bad.refused(&by_query).await.is(401, "UNAUTHORIZED");
    let with_bad = format!("{events}?token=hzws_nonsense");
    ours.refused(&with_bad).await.is(401, "UNAUTHORIZED");
    ours.refused(&format!("{events}?token="))
        .await
        .is(401, "UNAUTHORIZED");
    ours.refused(&format!("{by_query}&token=x"))
        .await
        .is(401, "UNAUTHORIZED");
    nobody.refused(events).await.is(401, "UNAUTHORIZED");
    // In the query it is a credential nowhere else.
    let elsewhere = format!("{CONTAINERS}?token={}", server.admin_token);
    nobody.get(&elsewhere).await.is(401, "UNAUTHORIZED");

    // What is no upgrade is told so; other methods are not served.
    admin.get(events).await.is(400, "BAD_REQUEST");
    admin.act(events).await.is(405, "METHOD_NOT_ALLOWED");
    admin.refused("/ws/nothing").await.is(404, "NOT_FOUND");
    let old = admin.with("sec-websocket-version", "8");
    let request = old
        .request("GET", events)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket");
    crate::harness::client::send(request)
        .await
        .is(400, "BAD_REQUEST");
}

/// A socket ends when what it was opened by does, and says why.
async fn revoked(server: &mut Server) {
    let events = "/ws/events";
    let admin = server.admin();
    server.add_user("gone@example.org", "user");
    let token = server.token_of("gone@example.org", &[]);
    let user = server.anonymous().bearer(&token);

    let session = server.sign_in("gone@example.org").await;
    let ours = session.client.with("origin", &server.url);
    let mut socket = ours.socket(events).await;
    session.writing().act("/api/v1/auth/logout").await.data();
    assert_eq!(socket.end().await, (1008, "The session has ended".into()));

    // Its other sessions, by another password; the one that asks stays.
    let (one, two) = (
        server.sign_in("gone@example.org").await,
        server.sign_in("gone@example.org").await,
    );
    let mut stays = one.client.with("origin", &server.url).socket(events).await;
    let mut goes = two.client.with("origin", &server.url).socket(events).await;
    let body = json!({
        "current_password": crate::harness::PASSWORD,
        "new_password": "another very long password"
    });
    one.writing()
        .post("/api/v1/auth/password", body)
        .await
        .data();
    assert_eq!(goes.end().await, (1008, "The session has ended".into()));

    // A token, with the ticket's socket that it made.
    let by_ticket = format!("{events}?token={}", ticket(&user, events).await);
    let mut socket = user.socket(events).await;
    let mut through = server.anonymous().socket(&by_ticket).await;
    let listed = user.get("/api/v1/tokens").await;
    let id = listed.data()[0]["id"].as_str().expect("an id").to_owned();
    user.delete(&format!("/api/v1/tokens/{id}")).await.data();
    let reason = "The token was revoked or has expired";
    assert_eq!(socket.end().await, (1008, reason.into()));
    assert_eq!(through.end().await, (1008, reason.into()));

    // Disabled by an administrator, here and at the command line, where nobody rings.
    let users = admin.get("/api/v1/admin/users?q=gone@").await;
    let id = users.data()[0]["user_id"]
        .as_str()
        .or(users.data()[0]["id"].as_str());
    let one = format!("/api/v1/admin/users/{}", id.expect("an id"));
    let request = |body: Value| admin.request("PATCH", &one).json(&body);
    crate::harness::client::send(request(json!({ "status": "disabled" })))
        .await
        .data();
    assert_eq!(stays.end().await, (1008, "The account is disabled".into()));
    crate::harness::client::send(request(json!({ "status": "active" })))
        .await
        .data();
    let fresh = server
        .anonymous()
        .bearer(&server.token_of("gone@example.org", &[]));
    let mut socket = fresh.socket(events).await;
    server
        .cli(&["user", "disable", "gone@example.org"], "")
        .ok();
    assert_eq!(socket.end().await, (1008, "The account is disabled".into()));

    // Another role sees other things.
    server.add_user("second@example.org", "admin");
    let second = server
        .anonymous()
        .bearer(&server.token_of("second@example.org", &[]));
    let mut socket = second.socket(events).await;
    server
        .cli(&["user", "set-role", "second@example.org", "user"], "")
        .ok();
    assert_eq!(
        socket.end().await,
        (1008, "The account's role has changed".into())
    );
    // Of an administrator's look into another's box nothing is left either.
    server
        .cli(&["user", "set-role", "second@example.org", "admin"], "")
        .ok();
    let id = running(server, "withdrawn").await;
    let job = start(server, &id, "sleep 600").await;
    let mut socket = second.socket(&path(&job)).await;
    server
        .cli(&["user", "set-role", "second@example.org", "user"], "")
        .ok();
    assert_eq!(socket.end().await, (1008, "Access was withdrawn".into()));
    second
        .refused(&path(&job))
        .await
        .is(404, "COMMAND_NOT_FOUND");

    // And of an application, when its user takes it back.
    let oauth = crate::oauth::token_of(server, ADMIN, "containers:read").await;
    let application = server.anonymous().bearer(&oauth);
    let mut socket = application.socket(events).await;
    let session = server.sign_in(ADMIN).await;
    let given = session.client.get("/api/v1/oauth/authorizations").await;
    for row in given.data().as_array().expect("a list") {
        let app = row["app_id"]
            .as_str()
            .or(row["id"].as_str())
            .expect("an id");
        session
            .writing()
            .delete(&format!("/api/v1/oauth/authorizations/{app}"))
            .await
            .data();
    }
    assert_eq!(socket.end().await, (1008, reason.into()));
}

/// Frames that are too large, or no text; and a server that ends.
async fn misbehaving(server: &mut Server) {
    let admin = server.admin();
    let mut socket = admin.socket("/ws/events").await;
    socket.text("hello").await;
    socket.binary(vec![1, 2, 3]).await;
    socket.try_text("x".repeat(70_000)).await;
    assert_eq!(
        socket.end().await,
        (1009, "The message is too large".into())
    );

    let mut sockets = Vec::new();
    for _ in 0..5 {
        sockets.push(admin.socket("/ws/events").await);
    }
    let took = server.stop().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    for mut socket in sockets {
        assert_eq!(
            socket.end().await,
            (1001, "The server is restarting".into())
        );
    }
    server.launch().await;
}
