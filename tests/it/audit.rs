//! The audit log and the published description of the API.

mod denials;
mod lists;

use serde_json::{Value, json};

use crate::harness::{ADMIN, Client, Server};

on_both!(entries, append_only, openapi);

/// Actions and outcomes in the order they were written.
pub fn actions(server: &Server, action: &str, outcome: &str) -> i64 {
    // The statement fails on an empty set through the division: both databases can count so.
    let mut count = 0;
    while server
        .database
        .execute(&format!(
            "UPDATE settings SET value = value WHERE (SELECT count(*) FROM audit_logs WHERE \
             action = '{action}' AND outcome = '{outcome}') > {count}"
        ))
        .is_ok_and(|rows| rows > 0)
    {
        count += 1;
    }
    count
}

/// A whole list, piece by piece.
async fn walk(client: &Client, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut next = path.to_owned();
    loop {
        let reply = client.get(&next).await;
        found.extend(reply.data().as_array().expect("a list").iter().cloned());
        let link = reply.header("link");
        let Some((path, rest)) = link.strip_prefix('<').and_then(|rest| rest.split_once('>'))
        else {
            return found;
        };
        assert_eq!(rest, "; rel=\"next\"");
        next = path.to_owned();
    }
}

async fn entries(server: &mut Server) {
    let admin = server.admin();
    let stranger = server.user("stranger@example.org");
    let session = server.sign_in(ADMIN).await;
    let before = |action: &str, outcome: &str| actions(server, action, outcome);

    let was = before("auth.login", "success");
    let wrong = json!({ "email": ADMIN, "password": "wrong" });
    server
        .anonymous()
        .post("/api/v1/auth/login", wrong)
        .await
        .is(401, "UNAUTHORIZED");
    assert_eq!(before("auth.login", "denied"), 1);
    server.sign_in(ADMIN).await;
    assert_eq!(before("auth.login", "success"), was + 1);

    let was = before("token.create", "success");
    let token = admin.post("/api/v1/tokens", json!({ "name": "x" })).await;
    server.secret(&token.str("token"));
    assert_eq!(before("token.create", "success"), was + 1);
    admin
        .delete(&format!("/api/v1/tokens/{}", token.str("id")))
        .await;
    assert_eq!(before("token.revoke", "success"), 1);

    stranger
        .post("/api/v1/containers", json!({ "hostname": "x" }))
        .await
        .is(403, "FORBIDDEN");
    assert_eq!(before("container.create", "denied"), 1);
    session
        .client
        .post("/api/v1/tokens", json!({ "name": "x" }))
        .await
        .is(403, "CSRF_REJECTED");
    assert_eq!(before("token.create", "denied"), 1);
    session.writing().act("/api/v1/auth/logout").await;
    assert_eq!(before("auth.logout", "success"), 1);
    assert_eq!(before("user.create", "success"), 2);
    server
        .cli(&["user", "disable", "stranger@example.org"], "")
        .ok();
    assert_eq!(before("user.disable", "success"), 1);

    let id = crate::containers::running(server, "audited").await;
    assert_eq!(before("container.create", "success"), 1);
    for action in ["stop", "start", "restart"] {
        admin
            .act(&format!("/api/v1/containers/{id}/{action}"))
            .await
            .data();
        assert_eq!(before(&format!("container.{action}"), "success"), 1);
    }
    let path = format!("/api/v1/containers/{id}/commands");
    admin.post(&path, json!({ "command": "true" })).await.data();
    assert_eq!(before("command.create", "success"), 1);
    admin
        .delete(&format!("/api/v1/containers/{id}"))
        .await
        .data();
    assert_eq!(before("container.delete", "success"), 1);
}

async fn append_only(server: &mut Server) {
    for sql in [
        "UPDATE audit_logs SET outcome = 'success'",
        "UPDATE audit_logs SET hash = 'x' WHERE seq = 1",
        "DELETE FROM audit_logs",
        "DELETE FROM audit_logs WHERE seq = 1",
    ] {
        let refused = server.database.execute(sql).expect_err(sql);
        assert!(refused.contains("append-only"), "{sql}: {refused}");
    }
    let whole = server.cli(&["audit", "verify"], "").ok();
    assert!(whole.contains("whole"), "{whole}");
    // Two entries written past the program do not fit the chain.
    let forged = "INSERT INTO audit_logs (id, seq, action, outcome, metadata, created_at, hash) \
                  SELECT 'forged', 1 + max(seq), 'auth.login', 'success', '{}', \
                  CURRENT_TIMESTAMP, 'x' FROM audit_logs";
    server.database.execute(forged).expect("one row");
    let told = server.cli(&["audit", "verify"], "").failed();
    assert!(told.contains("broken"), "{told}");
    server.expect_broken_audit();
}

async fn openapi(server: &mut Server) {
    let served = server.anonymous().get("/openapi.json").await;
    assert_eq!(served.status, 200);
    let document = served.json;
    let told: Value = serde_json::from_str(&server.cli(&["openapi"], "").ok()).expect("JSON");
    assert_eq!(told, document);
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|v| v.starts_with("3.1"))
    );
    for endpoint in hzel::web::routes::api() {
        let Some(path) = endpoint.path.strip_prefix("/api/v1") else {
            continue;
        };
        let method = endpoint.verb.as_str().to_lowercase();
        let paths = &document["paths"];
        let operation = [endpoint.path, path]
            .iter()
            .map(|path| &paths[*path][&method])
            .find(|operation| operation.is_object())
            .unwrap_or_else(|| panic!("{method} {path} is not described"));
        let answers = operation["responses"].as_object().expect("answers");
        assert!(!answers.is_empty());
        if endpoint.access != hzel::web::routes::Access::Anyone {
            assert!(answers.contains_key("401"), "{method} {path}");
        }
        for (name, _) in path.match_indices('{') {
            let rest = &path[name + 1..];
            let name = rest.split('}').next().expect("a name");
            let parameters = operation["parameters"].as_array().expect("parameters");
            assert!(parameters.iter().any(|p| p["name"] == name), "{path}");
        }
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().expect("a pointer");
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}
