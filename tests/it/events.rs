//! Events: told to whoever may see them, as they happen, by WebSocket and as server-sent events.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::containers::{CONTAINERS, exec, running};
use crate::harness::socket::{Said, Socket};
use crate::harness::{ADMIN, Client, Kind, Leftovers, Options, Server, eventually, with_server};

on_both!(told, shared, server_sent);
on_both_by_hand!(between_servers);

/// The next event of that type, about that thing.
async fn until(socket: &mut Socket, kind: &str, id: &str) -> Value {
    loop {
        let message = socket.message().await;
        assert!(message["time"].is_string(), "{message}");
        if message["type"] == kind && (message["id"] == id || message["name"] == id) {
            return message;
        }
    }
}

async fn told(server: &mut Server) {
    let admin = server.admin();
    let stranger = server.user("stranger@example.org");
    // One who may see containers, but not what is run in them.
    let narrow = server
        .anonymous()
        .bearer(&server.token_of(ADMIN, &["--scopes", "containers:read"]));
    let mut all = admin.socket("/ws/events").await;
    let mut nothing = stranger.socket("/ws/events").await;
    let mut boxes = narrow.socket("/ws/events").await;

    let made = admin
        .post(CONTAINERS, json!({ "hostname": "told", "memory_mb": 128 }))
        .await;
    let id = made.str("id");
    let event = until(&mut all, "container.created", &id).await;
    assert_eq!(
        (&event["hostname"], &event["state"]),
        (&json!("told"), &json!("provisioning"))
    );
    let event = loop {
        let event = until(&mut all, "container.state", &id).await;
        if event["state"] == "running" {
            break event;
        }
    };
    assert!(
        event["ipv4"].is_string() && event["started_at"].is_string(),
        "{event}"
    );

    let row = exec(server, &id, "exit 3").await;
    let job = row["id"].as_str().expect("an id");
    let event = until(&mut all, "command.queued", job).await;
    assert_eq!(event["container_id"], id.as_str());
    until(&mut all, "command.started", job).await;
    let event = until(&mut all, "command.finished", job).await;
    assert_eq!(
        (&event["status"], &event["exit_code"]),
        (&json!("failed"), &json!(3))
    );

    let path = format!("{CONTAINERS}/{id}/stop?force=true");
    admin.act(&path).await.data();
    let event = until(&mut all, "container.state", &id).await;
    assert_eq!(event["state"], "stopped");
    // What nobody asked for is told too.
    admin.act(&format!("{CONTAINERS}/{id}/start")).await.data();
    assert_eq!(
        until(&mut all, "container.state", &id).await["state"],
        "running"
    );
    exec(server, &id, "kill -TERM 1; sleep 5; poweroff -f").await;
    loop {
        let event = until(&mut all, "container.state", &id).await;
        if event["state"] == "stopped" {
            assert!(event["state_reason"].is_string(), "{event}");
            break;
        }
    }
    let body = json!({ "name": "broken", "source": "/nothing/there.tar" });
    admin.post("/api/v1/images", body).await.data();
    loop {
        let event = until(&mut all, "image.progress", "broken").await;
        if event["status"] == "failed" {
            break;
        }
    }
    admin.delete("/api/v1/images/broken").await.data();
    until(&mut all, "image.removed", "broken").await;
    admin
        .delete(&format!("{CONTAINERS}/{id}?force=true"))
        .await
        .data();
    let event = until(&mut all, "container.state", &id).await;
    assert_eq!(event["state"], "deleting");
    until(&mut all, "container.deleted", &id).await;

    // The one without the scope has heard nothing of commands, the stranger nothing of the box.
    loop {
        let event = boxes.message().await;
        assert!(
            !event["type"]
                .as_str()
                .expect("a type")
                .starts_with("command."),
            "{event}"
        );
        if event["type"] == "container.deleted" {
            break;
        }
    }
    server
        .cli(&["user", "disable", "stranger@example.org"], "")
        .ok();
    loop {
        match nothing.next().await {
            Said::Json(event) => {
                let kind = event["type"].as_str().expect("a type");
                assert!(kind.starts_with("image."), "{event}");
            }
            Said::Closed(code, _) => break assert_eq!(code, 1008),
            other => panic!("{other:?}"),
        }
    }
}

/// With whom a box is shared hears of it, of its commands by permission, and no longer than that.
async fn shared(server: &mut Server) {
    let id = running(server, "shared").await;
    let viewer = server.user("viewer@example.org");
    let operator = server.user("operator@example.org");
    for (email, bits) in [("viewer@example.org", 3), ("operator@example.org", 63)] {
        let sql = format!(
            "INSERT INTO container_members SELECT '{id}', id, {bits}, CURRENT_TIMESTAMP FROM users \
             WHERE email = '{email}'"
        );
        server.database.execute(&sql).expect("a member");
    }
    let mut sees = viewer.socket("/ws/events").await;
    let mut runs = operator.socket("/ws/events").await;
    let row = exec(server, &id, "sleep 600 & echo on; wait & exit 0").await;
    let job = row["id"].as_str().expect("an id");
    until(&mut runs, "command.finished", job).await;
    viewer
        .refused(&format!("/ws/jobs/{job}"))
        .await
        .is(404, "COMMAND_NOT_FOUND");
    let path = format!("{CONTAINERS}/{id}/commands");
    let body = json!({ "command": "echo on; sleep 600" });
    let job = server.admin().post(&path, body).await.str("id");
    let mut follows = operator.socket(&format!("/ws/jobs/{job}")).await;
    while follows.message().await["type"] != "output" {}
    let sql = "DELETE FROM container_members";
    server.database.execute(sql).expect("none");
    assert_eq!(follows.end().await, (1008, "Access was withdrawn".into()));
    server
        .admin()
        .act(&format!("{CONTAINERS}/{id}/stop?force=true"))
        .await
        .data();
    // What the viewer heard was of the box alone, and ended with the share.
    server
        .cli(&["user", "disable", "viewer@example.org"], "")
        .ok();
    assert!(matches!(sees.next().await, Said::Closed(1008, _)));
}

/// An open stream of server-sent events.
struct Stream {
    bytes: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>>>>,
    text: String,
}

impl Stream {
    async fn open(client: &Client) -> Self {
        let response = client
            .request("GET", "/api/v1/events")
            .header("accept-encoding", "gzip")
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 200);
        let kind = response.headers()["content-type"].to_str().expect("text");
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        Self {
            bytes: Box::pin(response.bytes_stream()),
            text: String::new(),
        }
    }

    /// The next block that says something, whole.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                if block.starts_with(':') {
                    continue;
                }
                return Some(block);
            }
            let next = tokio::time::timeout(Duration::from_secs(60), self.bytes.next());
            let bytes = next.await.expect("something comes")?.ok()?;
            self.text
                .push_str(std::str::from_utf8(&bytes).expect("UTF-8"));
        }
    }
}

async fn server_sent(server: &mut Server) {
    let session = server.sign_in(ADMIN).await;
    let mut stream = Stream::open(&session.client).await;
    let id = running(server, "sent").await;
    loop {
        let block = stream.next().await.expect("an event");
        let data = block.strip_prefix("data: ").expect("data");
        let event: Value = serde_json::from_str(data).expect("JSON");
        if event["type"] == "container.state" && event["state"] == "running" {
            assert_eq!(event["id"], id.as_str());
            break;
        }
    }
    session.writing().act("/api/v1/auth/logout").await.data();
    let last = loop {
        let block = stream.next().await.expect("an end");
        if block.starts_with("event: end") {
            break block;
        }
    };
    assert!(last.contains("The session has ended"), "{last}");
    assert_eq!(stream.next().await, None);
}

/// A second server of the same database, as on another machine.
struct Beside {
    child: std::process::Child,
    url: String,
    dir: std::path::PathBuf,
}

impl Beside {
    async fn start(server: &Server) -> Self {
        let dir = server.scratch().join("beside");
        std::fs::create_dir(&dir).expect("a directory");
        std::fs::write(dir.join("node"), "beside").expect("a name");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let url = format!("http://127.0.0.1:{port}");
        let log = std::fs::File::create(server.scratch().join("beside.log")).expect("a log");
        let child = server
            .command(&["serve"])
            .env("HZEL_LISTEN", url.trim_start_matches("http://"))
            .env("HZEL_PUBLIC_URL", &url)
            .env("HZEL_DATA_DIR", &dir)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        let beside = Self { child, url, dir };
        eventually("the second server", 40, async || {
            let log = std::fs::read_to_string(server.scratch().join("beside.log"));
            log.ok()?.contains("hzel is ready on").then_some(())
        })
        .await;
        beside
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
        Leftovers::remove(&self.dir);
    }
}

/// Two servers of one PostgreSQL tell each other; one of SQLite is alone.
async fn between_servers(kind: Kind) {
    if kind == Kind::Sqlite {
        return;
    }
    with_server(kind, Options::default(), async |server| {
        let other = Beside::start(server).await;
        let far = Client::new(&other.url).bearer(&server.admin_token);
        let mut socket = far.socket("/ws/events").await;
        let id = running(server, "far").await;
        until(&mut socket, "container.created", &id).await;
        loop {
            if until(&mut socket, "container.state", &id).await["state"] == "running" {
                break;
            }
        }
        // Access that one server takes, the other ends.
        let token = server.token_of(ADMIN, &[]);
        let user = server.anonymous().bearer(&token);
        let mut open = Client::new(&other.url)
            .bearer(&token)
            .socket("/ws/events")
            .await;
        let listed = user.get("/api/v1/tokens").await;
        let newest = listed.data()[0]["id"].as_str().expect("an id").to_owned();
        user.delete(&format!("/api/v1/tokens/{newest}"))
            .await
            .data();
        assert_eq!(open.end().await.0, 1008);
    })
    .await;
}
