//! WebSockets: who gets one, how commands are followed by them, and how they end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::containers::{CONTAINERS, over, running};
use crate::harness::socket::{Said, Socket};
use crate::harness::{ADMIN, Client, Kind, Options, Server, Tree, eventually, with_server};

on_both!(follow, flood, ends, credentials, revoked, misbehaving);
on_both_by_hand!(killed, bounded, capped, queued);

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

/// Past its bound a command's output loses its beginning, and who still wanted that is told.
async fn bounded(kind: Kind) {
    let options = Options::with("HZEL_JOB_OUTPUT_MB", "1");
    with_server(kind, options, async |server| {
        let id = running(server, "bounded").await;
        let line = "seq -w 1 1000000; echo done >&2";
        let job = start(server, &id, line).await;
        over(server, &job, 30).await;
        let told = told(&server.admin(), &job).await;
        assert_eq!(told.stdout.len() as u64 + told.dropped, 8_000_000);
        assert!(told.dropped > 0 && told.stdout.ends_with("\n1000000\n"));
        assert_eq!(told.stderr, "done\n");
        assert_eq!(told.finished["status"], "completed");
    })
    .await;
}

/// Sockets and streams of one user are counted together, and given back.
async fn capped(kind: Kind) {
    let options = Options::with("HZEL_SOCKETS_PER_USER", "3");
    with_server(kind, options, async |server| {
        let admin = server.admin();
        let mut sockets = Vec::new();
        for _ in 0..3 {
            sockets.push(admin.socket("/ws/events").await);
        }
        let reply = admin.refused("/ws/events").await;
        reply.is(429, "RATE_LIMITED");
        assert!(!reply.header("retry-after").is_empty());
        admin.get("/api/v1/events").await.is(429, "RATE_LIMITED");
        // Another user's are others.
        let other = server.user("other@example.org");
        other.socket("/ws/events").await.close().await;
        sockets.pop().expect("three").close().await;
        eventually("room for one more", 10, async || {
            admin.try_socket("/ws/events").await.ok().map(|_| ())
        })
        .await;
    })
    .await;
}

/// More than may run side by side wait their turn, and nobody's many keep another's one waiting.
async fn queued(kind: Kind) {
    let options = Options::with("HZEL_JOBS_PER_CONTAINER", "2").and("HZEL_JOBS_PER_USER", "3");
    with_server(kind, options, async |server| {
        let admin = server.admin();
        let (one, two) = (running(server, "one").await, running(server, "two").await);
        let hold = "while [ ! -e /tmp/go ]; do sleep 0.1; done";
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(start(server, &one, hold).await);
        }
        let last = start(server, &one, "echo last").await;
        let mut waiting = admin.socket(&path(&last)).await;
        assert_eq!(waiting.message().await["type"], "queued");
        let status = |reply: crate::harness::Reply| reply.str("status");
        eventually("two run", 10, async || {
            let mut running = 0;
            for job in &held {
                let reply = admin.get(&format!("/api/v1/commands/{job}")).await;
                running += usize::from(status(reply) == "running");
            }
            (running == 2).then_some(())
        })
        .await;
        // Of three places of the user's, one is left for the other box.
        let elsewhere = start(server, &two, "echo elsewhere").await;
        assert_eq!(over(server, &elsewhere, 10).await["status"], "completed");
        let reply = admin.get(&format!("/api/v1/commands/{last}")).await;
        assert_eq!(status(reply), "queued");
        // One that waits can be cancelled, and its listener hears of it without a start.
        let cancelled = start(server, &one, "echo never").await;
        let mut socket = admin.socket(&path(&cancelled)).await;
        admin
            .act(&format!("/api/v1/commands/{cancelled}/cancel"))
            .await
            .data();
        let told = listen(&mut socket).await;
        assert_eq!(told.kinds, ["queued", "finished"]);
        assert_eq!(told.finished["status"], "cancelled");

        // What runs is at its limit, so the file is made from outside.
        let free = format!("/api/v1/commands/{}/cancel", held[0]);
        admin.act(&free).await.data();
        let go = admin
            .act(&format!("/api/v1/commands/{}/cancel", held[1]))
            .await;
        go.data();
        for job in &held[2..] {
            admin
                .act(&format!("/api/v1/commands/{job}/cancel"))
                .await
                .data();
        }
        let told = listen(&mut waiting).await;
        assert_eq!(told.kinds, ["started", "output", "finished"]);
        assert_eq!(told.stdout, "last\n");
    })
    .await;
}
