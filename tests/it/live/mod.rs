//! WebSockets: how commands are followed by them, who gets one, and how they end.
//!
//! To add a test: an `async fn` in the file that it is about, and its name in that file's `on_both!`.

mod access;
mod limits;

use serde_json::{Value, json};

use crate::containers::{CONTAINERS, over, running};
use crate::harness::socket::{Said, Socket};
use crate::harness::{Client, Kind, Options, Server, Tree, eventually, with_server};

on_both!(follow, flood, ends);
on_both_by_hand!(killed);

async fn start(server: &Server, container: &str, command: &str) -> String {
    let path = format!("{CONTAINERS}/{container}/commands");
    let body = json!({ "command": command });
    server.admin().post(&path, body).await.str("id")
}

fn path(job: &str) -> String {
    format!("/ws/jobs/{job}")
}

/// All that one socket told of a command.
#[derive(Debug, Default)]
struct Told {
    kinds: Vec<String>,
    stdout: String,
    stderr: String,
    dropped: u64,
    finished: Value,
    end: (u16, String),
}

async fn listen(socket: &mut Socket) -> Told {
    let mut told = Told::default();
    loop {
        let message = match socket.next().await {
            Said::Json(message) => message,
            Said::Closed(code, reason) => {
                told.end = (code, reason);
                return told;
            }
            other => panic!("{other:?} after {:?}", told.kinds),
        };
        let kind = message["type"].as_str().expect("a type").to_owned();
        if kind == "output" {
            let chunk = message["chunk"].as_str().expect("text");
            assert!(!chunk.is_empty());
            match message["stream"].as_str() {
                Some("stdout") => told.stdout.push_str(chunk),
                Some("stderr") => told.stderr.push_str(chunk),
                other => panic!("{other:?}"),
            }
        }
        if kind == "truncated" {
            told.dropped += message["bytes"].as_u64().unwrap_or_default();
        }
        if kind == "finished" {
            told.finished = message;
        }
        if told.kinds.last() != Some(&kind) {
            told.kinds.push(kind);
        }
    }
}

async fn told(client: &Client, job: &str) -> Told {
    listen(&mut client.socket(&path(job)).await).await
}

/// From the first byte, for early, late and several listeners, each stream whole and in order.
async fn follow(server: &mut Server) {
    let id = running(server, "follow").await;
    let admin = server.admin();
    let command = "echo one; echo two >&2; while [ ! -e /tmp/go ]; do sleep 0.1; done; \
                   printf 'thr\\303'; sleep 0.3; printf '\\251\\360\\237'; sleep 0.3; \
                   printf '\\230\\200\\377|'; echo last >&2; exit 7";
    let job = start(server, &id, command).await;
    let mut early = admin.socket(&path(&job)).await;
    let first = early.message().await;
    assert_eq!(first, json!({ "type": "queued", "job_id": job }));
    assert_eq!(early.message().await, json!({ "type": "started" }));
    // What was written is told while it runs.
    let mut seen = (String::new(), String::new());
    while seen != ("one\n".into(), "two\n".into()) {
        let message = early.message().await;
        let chunk = message["chunk"].as_str().expect("text");
        match message["stream"].as_str() {
            Some("stdout") => seen.0.push_str(chunk),
            _ => seen.1.push_str(chunk),
        }
    }
    let (mut late, mut another) = (
        admin.socket(&path(&job)).await,
        admin.socket(&path(&job)).await,
    );
    crate::containers::exec(server, &id, "touch /tmp/go").await;
    let rest = listen(&mut early).await;
    assert_eq!(rest.stdout, "thré😀\u{FFFD}|");
    assert_eq!(rest.stderr, "last\n");
    for socket in [&mut late, &mut another] {
        let told = listen(socket).await;
        assert_eq!(told.stdout, "one\nthré😀\u{FFFD}|");
        assert_eq!(told.stderr, "two\nlast\n");
        assert_eq!(told.kinds[..2], ["queued", "started"]);
        assert_eq!(
            told.finished,
            json!({ "type": "finished", "status": "failed", "exit_code": 7, "success": false })
        );
        assert_eq!(told.end.0, 1000);
    }
    // Long after its end, and of one that wrote nothing.
    let after = told(&admin, &job).await;
    assert_eq!(after.stdout, "one\nthré😀\u{FFFD}|");
    let quiet = start(server, &id, "true").await;
    let told = told(&admin, &quiet).await;
    assert_eq!(told.kinds, ["queued", "started", "finished"]);
    assert_eq!(told.finished["success"], true);
    assert_eq!(told.finished["status"], "completed");
    // The output of one that was answered from its record, for the whole is kept no more.
    let spool = server.data_dir().join("spool/commands").join(&job);
    std::fs::remove_dir_all(spool).expect("its spool");
    let recorded = crate::live::told(&admin, &job).await;
    assert_eq!(recorded.stdout, after.stdout);
    assert_eq!(recorded.stderr, after.stderr);

    for (job, code, status) in [
        ("nonsense", "COMMAND_NOT_FOUND", 404),
        (
            "00000000-0000-7000-8000-000000000000",
            "COMMAND_NOT_FOUND",
            404,
        ),
    ] {
        admin.refused(&path(job)).await.is(status, code);
    }
}

/// 200 MB come whole; who reads slowly slows nobody, and costs the server no memory.
async fn flood(server: &mut Server) {
    const BYTES: usize = 200 * 1024 * 1024;
    let id = running(server, "flood").await;
    let admin = server.admin();
    let before = Tree::resident_mib(server.pid());
    let line = format!("head -c {BYTES} /dev/zero | tr '\\0' 'x'; echo end >&2");
    let job = start(server, &id, &line).await;
    // It reads nothing until the command is over.
    let mut slow = admin.socket(&path(&job)).await;
    let eager = told(&admin, &job).await;
    assert_eq!(
        (eager.stdout.len(), eager.stderr.as_str()),
        (BYTES, "end\n")
    );
    assert!(eager.stdout.bytes().all(|byte| byte == b'x'));
    assert_eq!(
        eager.finished["status"], "completed",
        "{:?}",
        eager.finished
    );
    let row = over(server, &job, 5).await;
    assert_eq!(row["truncated"], true);
    assert_eq!(row["stdout"].as_str().expect("text").len(), 1024 * 1024);
    let most = Tree::resident_mib(server.pid());
    assert!(most < before + 100, "{before} MiB before, {most} MiB after");
    let slow = listen(&mut slow).await;
    assert_eq!((slow.stdout.len(), slow.dropped), (BYTES, 0));
}

/// However a command ends, its stream says so.
async fn ends(server: &mut Server) {
    let id = running(server, "ends").await;
    let admin = server.admin();

    let job = start(server, &id, "echo begun; sleep 600").await;
    let mut socket = admin.socket(&path(&job)).await;
    while socket.message().await["type"] != "output" {}
    admin
        .act(&format!("/api/v1/commands/{job}/cancel"))
        .await
        .data();
    let told = listen(&mut socket).await;
    assert_eq!(told.finished["status"], "cancelled");
    assert_eq!(told.finished["exit_code"], json!(null));
    assert_eq!(told.end.0, 1000);

    let body = json!({ "command": "echo begun; sleep 600", "timeout_seconds": 1 });
    let reply = admin
        .post(&format!("{CONTAINERS}/{id}/commands"), body)
        .await;
    let told = crate::live::told(&admin, &reply.str("id")).await;
    assert_eq!(told.stdout, "begun\n");
    assert_eq!(told.finished["status"], "timed_out");

    let job = start(server, &id, "echo begun; sleep 600").await;
    let mut socket = admin.socket(&path(&job)).await;
    while socket.message().await["type"] != "output" {}
    let stop = format!("{CONTAINERS}/{id}/stop?force=true");
    assert_eq!(admin.act(&stop).await.data()["state"], "stopped");
    let told = listen(&mut socket).await;
    assert_eq!(told.finished["status"], "failed");
    let why = told.finished["error"].as_str().expect("a sentence");
    assert!(why.contains("stopped"), "{why}");

    // And when the box goes for good.
    let start_path = format!("{CONTAINERS}/{id}/start");
    assert_eq!(admin.act(&start_path).await.data()["state"], "running");
    let job = start(server, &id, "echo begun; sleep 600").await;
    let mut socket = admin.socket(&path(&job)).await;
    while socket.message().await["type"] != "output" {}
    admin
        .delete(&format!("{CONTAINERS}/{id}?force=true"))
        .await
        .data();
    let told = listen(&mut socket).await;
    let is_said = told.finished["status"] == "failed"
        || told.end == (1008, "The container was deleted".into());
    assert!(is_said, "{told:?}");
    eventually("its output is gone too", 10, async || {
        let spool = server.data_dir().join("spool/commands").join(&job);
        (!spool.exists()).then_some(())
    })
    .await;
}

/// Killed in the middle: the next server tells what there was, and that it ended.
async fn killed(kind: Kind) {
    with_server(kind, Options::default(), async |server| {
        let id = running(server, "killed").await;
        let job = start(server, &id, "echo before; echo too >&2; sleep 600").await;
        let mut socket = server.admin().socket(&path(&job)).await;
        let mut seen = 0;
        while seen < 2 {
            seen += usize::from(socket.message().await["type"] == "output");
        }
        server.kill();
        assert_eq!(socket.end().await.0, 0);
        server.launch().await;
        let told = told(&server.admin(), &job).await;
        assert_eq!(
            (told.stdout.as_str(), told.stderr.as_str()),
            ("before\n", "too\n")
        );
        assert_eq!(told.finished["status"], "failed");
        let why = told.finished["error"].as_str().expect("a sentence");
        assert!(why.contains("restarted"), "{why}");
        let row = over(server, &job, 5).await;
        assert_eq!(
            (&row["stdout"], &row["stderr"]),
            (&json!("before\n"), &json!("too\n"))
        );
    })
    .await;
}
