//! What the configuration bounds: the output that is kept, sockets, and commands side by side.

use super::{listen, path, start, told};
use crate::containers::{over, running};
use crate::harness::{Kind, Options, eventually, with_server};

on_both_by_hand!(bounded, capped, queued);

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
