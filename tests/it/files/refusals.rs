//! Who may not have files, and what may not be asked of them.

use serde_json::json;

use super::transfers::noise;
use super::{Files, audited};
use crate::containers::{CONTAINERS, output, running};
use crate::harness::Server;
use crate::harness::client::send;

on_both!(refusals);

async fn refusals(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "refusals").await;
    let files = Files::of(&admin, &id);
    files.put("/root/mine", "mine").await.data();
    let stranger = server.user("stranger@example.org");
    let theirs = Files::of(&stranger, &id);
    for reply in [
        theirs.get("/root/mine").await,
        theirs.put("/root/mine", "theirs").await,
        theirs.delete("/root/mine").await,
        theirs.post("mkdir", json!({ "path": "/x" })).await,
        theirs
            .post("move", json!({ "from": "/root/mine", "to": "/x" }))
            .await,
        theirs
            .post("chmod", json!({ "path": "/root/mine", "mode": "0777" }))
            .await,
    ] {
        reply.is(403, "FORBIDDEN");
    }
    for scope in ["containers:read", "containers:write", "commands", "profile"] {
        let token = server.token_of(crate::harness::ADMIN, &["--scopes", scope]);
        let limited = server.anonymous().bearer(&token);
        let reply = Files::of(&limited, &id).get("/root/mine").await;
        reply
            .is(403, "FORBIDDEN")
            .says("This token lacks the scope terminal");
    }
    let token = server.token_of(crate::harness::ADMIN, &["--scopes", "terminal"]);
    let limited = server.anonymous().bearer(&token);
    assert_eq!(Files::of(&limited, &id).text("/root/mine").await, "mine");
    let session = server.sign_in(crate::harness::ADMIN).await;
    let by_cookie = Files::of(&session.client, &id);
    assert_eq!(by_cookie.text("/root/mine").await, "mine");
    by_cookie
        .put("/root/mine", "x")
        .await
        .is(403, "CSRF_REJECTED");
    let writing = session.writing();
    Files::of(&writing, &id)
        .put("/root/mine", "mine")
        .await
        .data();

    let nobody = "00000000-0000-7000-8000-000000000000";
    let reply = Files::of(&admin, nobody).get("/x").await;
    reply.is(404, "CONTAINER_NOT_FOUND");
    let reply = Files::of(&admin, "abc123").put("/x", "x").await;
    reply.is(404, "CONTAINER_NOT_FOUND");
    let long = format!("/{}", "a/".repeat(2100));
    let longer = format!("/{}", "a".repeat(300));
    for path in ["", "root/mine", "./x", "/a\0b", &long, &longer] {
        for reply in [files.get(path).await, files.put(path, "x").await] {
            reply.is(400, "VALIDATION_FAILED");
            assert!(reply.message().starts_with("path"), "{reply:?}");
        }
    }
    let reply = send(files.request("PUT", &[]).body("x")).await;
    reply.is(400, "BAD_REQUEST").says("path is required");
    let reply = files.post("move", json!({ "from": "/x" })).await;
    reply.is(400, "BAD_REQUEST").says("to is required");
    // What is wrong with the new place is said of that.
    let reply = files
        .post("move", json!({ "from": "/root/mine", "to": "/proc/mine" }))
        .await;
    assert!(reply.message().starts_with("to:"), "{reply:?}");
    let reply = files
        .post(
            "move",
            json!({ "from": "/proc/uptime", "to": "/root/mine2" }),
        )
        .await;
    assert!(!reply.message().starts_with("to:"), "{reply:?}");
    // What is mounted stays where it is, whoever asks.
    for path in ["/proc", "/sys", "/dev"] {
        let moved = json!({ "from": path, "to": "/elsewhere" });
        files.post("move", moved).await.is(409, "CONFLICT");
        files.delete(path).await.is(409, "CONFLICT");
    }
    files
        .post("mkdir", json!({ "path": "/root/empty" }))
        .await
        .data();
    let over = json!({ "from": "/root/empty", "to": "/proc", "overwrite": true });
    let reply = files.post("move", over).await;
    assert!(reply.status == 409, "{reply:?}");
    assert_eq!(
        output(server, &id, "ls /proc/self/exe").await,
        "/proc/self/exe"
    );
    // A slash at the end names a directory.
    files.delete("/root/mine/").await.is(404, "NOT_FOUND");
    let reply = files
        .post(
            "move",
            json!({ "from": "/root/mine", "to": "/root/other/" }),
        )
        .await;
    reply.is(404, "NOT_FOUND");
    // A directory and a file do not take each other's place.
    let over = json!({ "from": "/root/empty", "to": "/root/mine", "overwrite": true });
    files.post("move", over).await.is(409, "CONFLICT");
    let made = json!({ "path": "/root/mine", "parents": true });
    files.post("mkdir", made).await.is(409, "CONFLICT");
    files
        .post("mkdir", json!({ "path": "/", "parents": true }))
        .await
        .data();
    // A name that is not UTF-8 is refused, rather than taken for another one.
    let reply = admin
        .get(&format!("{CONTAINERS}/{id}/files?path=/root/%ff"))
        .await;
    reply.is(400, "BAD_REQUEST");
    let reply = files.put("/root/", "x").await;
    reply.is(400, "VALIDATION_FAILED");
    let reply = send(files.request("GET", &[("path", "/"), ("limit", "0")])).await;
    reply.is(400, "VALIDATION_FAILED");
    let reply = send(files.request("GET", &[("path", "/"), ("cursor", "%")])).await;
    reply.is(400, "VALIDATION_FAILED");
    files.get("/root/nothing").await.is(404, "NOT_FOUND");
    files.get("/etc/passwd/x").await.is(404, "NOT_FOUND");
    files.put("/no/such/place", "x").await.is(404, "NOT_FOUND");
    let request = files.request("PUT", &[("path", "/root/x")]);
    let reply = send(request.header("content-encoding", "gzip").body("x")).await;
    reply.is(415, "UNSUPPORTED_MEDIA_TYPE");
    // A key is of no use here, and does no harm.
    let keyed = admin.with("idempotency-key", "one");
    let keyed = Files::of(&keyed, &id);
    keyed.put("/root/keyed", "one").await.data();
    keyed.put("/root/keyed", "two").await.data();
    assert_eq!(files.text("/root/keyed").await, "two");

    // The limit is the configuration's, whether the size is announced or not.
    server.stop().await;
    server.set_env("HZEL_UPLOAD_LIMIT_MB", "3");
    server.launch().await;
    files.put("/root/three", vec![1_u8; 3 << 20]).await.data();
    let reply = files.put("/root/four", vec![1_u8; (3 << 20) + 1]).await;
    reply
        .is(413, "PAYLOAD_TOO_LARGE")
        .says("The request body must not be larger than 3145728 bytes");
    let body = reqwest::Body::wrap_stream(noise(4));
    files
        .put("/root/four", body)
        .await
        .is(413, "PAYLOAD_TOO_LARGE");
    files.get("/root/four").await.is(404, "NOT_FOUND");
    assert!(audited(server, "file.upload", "failure", "/root/four"));
}
