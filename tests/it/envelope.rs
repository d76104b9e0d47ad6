//! The form of errors: one envelope for everything that can be wrong with a request, and pages that
//! say the same to people.

use serde_json::json;

use crate::harness::client::send;
use crate::harness::{ADMIN, PASSWORD, Server};

on_both!(bodies, addresses, strange_texts, order, pages);

const CONTAINERS: &str = "/api/v1/containers";

async fn addresses(server: &mut Server) {
    let (admin, nobody) = (server.admin(), server.anonymous());
    for client in [&admin, &nobody] {
        for path in [
            "/api",
            "/api/v1",
            "/api/v1/nothing",
            "/api/v1/containers/",
            "/api/v2/x",
        ] {
            client.get(path).await.is(404, "NOT_FOUND");
            client.post(path, json!({})).await.is(404, "NOT_FOUND");
        }
        for (method, path, allow) in [
            ("PUT", CONTAINERS, "GET, HEAD, POST"),
            ("PATCH", "/api/v1/tokens", "GET, HEAD, POST"),
            ("DELETE", "/api/v1/auth/login", "POST"),
            ("GET", "/api/v1/auth/login", "POST"),
            ("BREW", "/api/v1/healthz", "GET, HEAD"),
        ] {
            let reply = send(client.request(method, path)).await;
            reply.is(405, "METHOD_NOT_ALLOWED");
            assert_eq!(reply.header("allow"), allow, "{method} {path}");
        }
    }
    for id in [
        "abc123",
        "00000000-0000-7000-8000-000000000000",
        "%00",
        "%ff",
        "a%2Fb",
        "é",
    ] {
        let reply = admin.get(&format!("{CONTAINERS}/{id}")).await;
        assert!(matches!(reply.status, 400 | 404), "{id}: {reply:?}");
    }
    let missing = admin.get(&format!("{CONTAINERS}/abc123")).await;
    missing
        .is(404, "CONTAINER_NOT_FOUND")
        .says("Container abc123 was not found");
    for action in ["start", "stop", "restart"] {
        let reply = admin.act(&format!("{CONTAINERS}/abc123/{action}")).await;
        reply
            .is(404, "CONTAINER_NOT_FOUND")
            .says("Container abc123 was not found");
    }
    for part in ["metrics", "logs", "commands"] {
        let reply = admin.get(&format!("{CONTAINERS}/abc123/{part}")).await;
        reply.is(404, "CONTAINER_NOT_FOUND");
    }
    admin
        .delete(&format!("{CONTAINERS}/abc123"))
        .await
        .is(404, "CONTAINER_NOT_FOUND");
    let reply = admin.get("/api/v1/commands/abc123").await;
    reply
        .is(404, "COMMAND_NOT_FOUND")
        .says("Command job abc123 was not found");
    admin
        .act("/api/v1/commands/abc123/cancel")
        .await
        .is(404, "COMMAND_NOT_FOUND");
    admin
        .delete("/api/v1/tokens/abc123")
        .await
        .is(404, "NOT_FOUND");
    admin
        .delete("/api/v1/images/nothing")
        .await
        .is(404, "NOT_FOUND");

    for (query, code) in [
        ("limit=0", "VALIDATION_FAILED"),
        ("limit=201", "VALIDATION_FAILED"),
        ("limit=-1", "VALIDATION_FAILED"),
        ("limit=many", "BAD_REQUEST"),
        ("cursor=%00", "VALIDATION_FAILED"),
        ("state=sleeping", "VALIDATION_FAILED"),
        ("mine=perhaps", "BAD_REQUEST"),
    ] {
        admin
            .get(&format!("{CONTAINERS}?{query}"))
            .await
            .is(400, code);
    }

    let alive = nobody.get("/healthz").await;
    assert_eq!(alive.data()["status"], "ok");
    assert!(
        send(nobody.request("HEAD", "/api/v1/healthz"))
            .await
            .text
            .is_empty()
    );
    let first = nobody
        .get("/healthz")
        .await
        .header("x-request-id")
        .to_owned();
    assert_ne!(first, alive.header("x-request-id"));
    nobody
        .get("/api/v1/auth/oidc/authorize")
        .await
        .is(501, "NOT_IMPLEMENTED")
        .says("OIDC is not enabled");
    eventually_logged(server, &first);
}

fn eventually_logged(server: &Server, id: &str) {
    assert!(server.log().contains(id), "{id} is in no line of the log");
}

async fn bodies(server: &mut Server) {
    let admin = server.admin();
    let good = json!({ "hostname": "web" });

    for (body, code) in [
        (&b""[..], "BAD_REQUEST"),
        (b"   ", "BAD_REQUEST"),
        (b"{", "BAD_REQUEST"),
        (b"{\"hostname\":", "BAD_REQUEST"),
        (b"null", "BAD_REQUEST"),
        (b"[]", "BAD_REQUEST"),
        (b"\"web\"", "BAD_REQUEST"),
        (b"[\"web\"]", "BAD_REQUEST"),
        (b"{}", "BAD_REQUEST"),
        (b"{\"hostname\":null}", "BAD_REQUEST"),
        (b"{\"hostname\":7}", "BAD_REQUEST"),
        (b"{\"hostname\":\"a\"} x", "BAD_REQUEST"),
        (b"{\"hostname\":\"a\",\"hostname\":\"b\"}", "BAD_REQUEST"),
        (b"{\"hostname\":\"\xff\xfe\"}", "BAD_REQUEST"),
        (b"\xff\xfe\x00", "BAD_REQUEST"),
        (b"{\"hostname\":\"a\",\"disk_gb\":\"18\"}", "BAD_REQUEST"),
        (b"{\"hostname\":\"a\",\"disk_gb\":18.5}", "BAD_REQUEST"),
        (b"{\"hostname\":\"a\",\"disk_gb\":true}", "BAD_REQUEST"),
        (b"{\"hostname\":\"a\",\"disk_gb\":[18]}", "BAD_REQUEST"),
        (b"{\"hostname\":\"a\",\"ssh_keys\":\"x\"}", "BAD_REQUEST"),
        (b"{\"hostname\":\"a\",\"disk_gb\":1e999}", "BAD_REQUEST"),
    ] {
        let reply = admin.post_raw(CONTAINERS, body.to_vec()).await;
        assert_eq!((reply.status, reply.code()), (400, code), "{reply:?}");
    }
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    admin
        .post_raw(CONTAINERS, deep.clone())
        .await
        .is(400, "BAD_REQUEST");
    let nested = format!("{{\"hostname\":{deep}}}");
    admin
        .post_raw(CONTAINERS, nested)
        .await
        .is(400, "BAD_REQUEST");

    for number in [
        "17",
        "33",
        "-1",
        "0",
        "-18",
        "99999999999",
        "100000000000000000000",
        "-99999999999999999999",
        "1e20",
    ] {
        let body = format!("{{\"hostname\":\"a\",\"disk_gb\":{number}}}");
        let reply = admin.post_raw(CONTAINERS, body).await;
        reply
            .is(400, "VALIDATION_FAILED")
            .says("disk_gb must be between 18 and 32");
    }
    for field in ["cpu_cores", "memory_mb"] {
        for number in [-1_i64, 0, 1 << 40] {
            let mut body = good.clone();
            body[field] = json!(number);
            let reply = admin.post(CONTAINERS, body).await;
            reply.is(400, "VALIDATION_FAILED");
            assert!(
                reply
                    .message()
                    .starts_with(&format!("{field} must be between "))
            );
        }
    }
    let reply = admin
        .post(
            CONTAINERS,
            json!({ "hostname": "A_b", "disk_gb": 1, "cpu_cores": 0, "memory_mb": -1 }),
        )
        .await;
    reply.is(400, "VALIDATION_FAILED");
    for field in ["hostname", "disk_gb", "cpu_cores", "memory_mb"] {
        assert!(reply.message().contains(field), "{reply:?}");
    }
    for hostname in [
        "",
        "-a",
        "a-",
        "A",
        "a.b",
        "a_b",
        "ä",
        "a b",
        "a\u{0}",
        &"a".repeat(64),
    ] {
        let reply = admin
            .post(CONTAINERS, json!({ "hostname": hostname }))
            .await;
        reply.is(400, "VALIDATION_FAILED");
        assert!(reply.message().starts_with("hostname "), "{reply:?}");
    }

    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
    ] {
        let request = admin.request("POST", CONTAINERS).body(good.to_string());
        let reply = send(request.header("content-type", kind)).await;
        reply.is(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let request = admin.request("POST", CONTAINERS).body(good.to_string());
    send(request).await.is(415, "UNSUPPORTED_MEDIA_TYPE");

    let large = format!("{{\"hostname\":\"{}\"}}", "a".repeat(10 * 1024 * 1024));
    for path in [CONTAINERS, "/api/v1/auth/login", "/api/v1/tokens"] {
        let reply = admin.post_raw(path, large.clone()).await;
        reply.is(413, "PAYLOAD_TOO_LARGE");
    }
    // Authentication comes before the body.
    let nobody = server.anonymous();
    nobody
        .post_raw(CONTAINERS, "{")
        .await
        .is(401, "UNAUTHORIZED")
        .says("Authentication required");
    assert!(
        admin
            .get(CONTAINERS)
            .await
            .data()
            .as_array()
            .is_some_and(Vec::is_empty)
    );
}

/// NUL, controls, right-to-left marks and very long texts in every string that is taken.
async fn strange_texts(server: &mut Server) {
    let admin = server.admin();
    let long = "x".repeat(100_000);
    for text in [
        "\u{0}",
        "a\u{0}b",
        "\u{202e}",
        "\u{feff}",
        "'; DROP TABLE users; --",
        "%00",
        "\u{1f600}",
        &long,
    ] {
        for (path, body) in [
            (CONTAINERS, json!({ "hostname": text })),
            (CONTAINERS, json!({ "hostname": "web", "image": text })),
            (CONTAINERS, json!({ "hostname": "web", "ssh_keys": [text] })),
            (
                "/api/v1/images",
                json!({ "name": text, "source": "default" }),
            ),
            ("/api/v1/tokens", json!({ "name": "ok", "scopes": [text] })),
            (
                "/api/v1/tokens",
                json!({ "name": "ok", "expires_at": text }),
            ),
            ("/api/v1/containers/x/commands", json!({ "command": text })),
        ] {
            let reply = admin.post(path, body).await;
            assert!(
                matches!(reply.status, 400 | 404),
                "{path} {text:.20}: {reply:?}"
            );
        }
        for (email, password) in [(text, PASSWORD), (ADMIN, text)] {
            let body = json!({ "email": email, "password": password });
            let reply = server.anonymous().post("/api/v1/auth/login", body).await;
            assert!(matches!(reply.status, 400 | 401), "{text:.20}: {reply:?}");
        }
        let name = json!({ "name": text });
        let reply = admin.post("/api/v1/tokens", name).await;
        assert!(matches!(reply.status, 200 | 400), "{text:.20}: {reply:?}");
        if let Some(token) = reply.json["data"]["token"].as_str() {
            server.secret(token);
        }
    }
    for query in [
        "q=%00",
        "q=%ff",
        "q=%25",
        "q=_",
        "q='",
        "cursor=%ff",
        "cursor='",
    ] {
        let reply = admin.get(&format!("{CONTAINERS}?{query}")).await;
        assert!(matches!(reply.status, 200 | 400), "{query}: {reply:?}");
    }
    // A key that is too long, or none, breaks a rule of its own.
    for key in ["", &"k".repeat(5000)] {
        let client = admin.with("idempotency-key", key);
        let reply = client.post(CONTAINERS, json!({ "hostname": "web" })).await;
        assert_eq!(reply.status, 400, "{reply:?}");
    }
}

/// Whether something is there, and for whom, is said before what is wrong with the question.
async fn order(server: &mut Server) {
    let admin = server.admin();
    let nobody = "00000000-0000-7000-8000-000000000000";
    for path in ["logs?tail=0", "files?limit=0", "commands?limit=0"] {
        let reply = admin
            .get(&format!("/api/v1/containers/{nobody}/{path}"))
            .await;
        reply.is(404, "CONTAINER_NOT_FOUND");
    }
    let reply = admin
        .get(&format!("/api/v1/commands/{nobody}?wait_seconds=61"))
        .await;
    reply.is(404, "COMMAND_NOT_FOUND");
}

async fn pages(server: &mut Server) {
    let nobody = server.anonymous();
    let html = nobody.with("accept", "text/html");
    for path in ["/nothing", "/a/b/c", "/static/nothing.css"] {
        let reply = html.get(path).await;
        assert_eq!(reply.status, 404, "{reply:?}");
        assert!(
            reply.header("content-type").starts_with("text/html"),
            "{reply:?}"
        );
        assert!(
            reply
                .header("content-security-policy")
                .contains("script-src 'self'")
        );
        let reply = nobody.with("accept", "application/json").get(path).await;
        reply.is(404, "NOT_FOUND");
    }
    for path in ["/", "/nothing", "/api/v1/nothing", "/healthz"] {
        let reply = html.get(path).await;
        for header in [
            "x-content-type-options",
            "referrer-policy",
            "content-security-policy",
        ] {
            assert!(!reply.header(header).is_empty(), "{path} has no {header}");
        }
        assert!(!reply.header("content-security-policy").contains("unsafe"));
    }
}
