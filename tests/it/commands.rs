//! Commands: how they run, what is kept of them, and how they end when they do not want to.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::containers::{CONTAINERS, exec, exec_with, output, over, running};
use crate::harness::{Kind, Options, Server, Tree, eventually, with_server};

on_both!(results, ends, floods, many, unwritable, elsewhere);
on_both_by_hand!(forgotten);

async fn ask(server: &Server, container: &str, body: Value) -> String {
    let path = format!("{CONTAINERS}/{container}/commands");
    server.admin().post(&path, body).await.str("id")
}

async fn results(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "results").await;
    let path = format!("{CONTAINERS}/{id}/commands");

    let made = admin
        .post(
            &path,
            json!({ "command": "echo out; echo err >&2; exit 3" }),
        )
        .await;
    let fresh = made.data();
    assert_eq!(fresh["status"], "queued");
    assert_eq!(fresh["exit_code"], json!(null));
    assert_eq!(fresh["container_id"], id.as_str());
    let row = over(server, &made.str("id"), 20).await;
    assert_eq!(row["status"], "failed");
    assert_eq!(row["exit_code"], 3);
    assert_eq!(row["stdout"], "out\n");
    assert_eq!(row["stderr"], "err\n");
    assert_eq!(row["truncated"], false);
    assert_eq!(row["command"], "echo out; echo err >&2; exit 3");
    assert!(row["started_at"].is_string() && row["finished_at"].is_string());

    let row = exec_with(
        server,
        &id,
        json!({ "program": "printf", "args": ["%s|", "a b", "$HOME", ""] }),
    )
    .await;
    assert_eq!(
        (&row["status"], &row["stdout"]),
        (&json!("completed"), &json!("a b|$HOME||"))
    );
    let row = exec_with(
        server,
        &id,
        json!({ "command": "pwd; id -un; echo $GREETING; echo $HOME", "cwd": "/var/tmp",
                "user": "nobody", "env": { "GREETING": "good day" } }),
    )
    .await;
    let text = row["stdout"].as_str().expect("text");
    assert!(text.starts_with("/var/tmp\nnobody\ngood day\n"), "{row}");
    assert_eq!(
        output(server, &id, "pwd; echo $HOME; command -v ls").await,
        "/root\n/root\n/usr/bin/ls"
    );

    for body in [
        json!({ "program": "no-such-program" }),
        json!({ "command": "true", "cwd": "/no/such/place" }),
        json!({ "command": "true", "user": "nosuchuser" }),
    ] {
        let row = exec_with(server, &id, body.clone()).await;
        assert_eq!(row["status"], "failed", "{body}");
        assert_eq!(row["exit_code"], json!(null), "{body}: {row}");
        assert!(
            row["error"].as_str().is_some_and(|text| !text.is_empty()),
            "{row}"
        );
    }
    assert_eq!(exec(server, &id, "no-such-program").await["exit_code"], 127);
    assert_eq!(exec(server, &id, "kill -9 $$").await["exit_code"], 137);

    // Bytes that are no text are shown as replacement characters, and nothing is lost around them.
    let row = exec(
        server,
        &id,
        r"printf 'a\377\376b\000c'; printf '\303\244\n' >&2",
    )
    .await;
    let text = row["stdout"].as_str().expect("text");
    assert!(
        text.starts_with('a') && text.contains('b') && text.ends_with('c'),
        "{row}"
    );
    assert_eq!(row["stderr"], "ä\n");

    for (body, code) in [
        (json!({}), "BAD_REQUEST"),
        (json!({ "command": 7 }), "BAD_REQUEST"),
        (json!({ "command": null }), "BAD_REQUEST"),
        (json!({ "command": "" }), "VALIDATION_FAILED"),
        (json!({ "command": "a\u{0}b" }), "VALIDATION_FAILED"),
        (
            json!({ "command": "true", "program": "true" }),
            "VALIDATION_FAILED",
        ),
        (
            json!({ "command": "true", "cwd": "tmp" }),
            "VALIDATION_FAILED",
        ),
        (
            json!({ "command": "true", "timeout_seconds": 0 }),
            "VALIDATION_FAILED",
        ),
        (
            json!({ "command": "true", "timeout_seconds": 86401 }),
            "VALIDATION_FAILED",
        ),
        (
            json!({ "command": "true", "timeout_seconds": "5" }),
            "BAD_REQUEST",
        ),
        (
            json!({ "command": "true", "env": { "A=B": "x" } }),
            "VALIDATION_FAILED",
        ),
        (
            json!({ "command": "true", "env": { "A": 1 } }),
            "BAD_REQUEST",
        ),
    ] {
        admin.post(&path, body).await.is(400, code);
    }
    let list = admin.get(&format!("{path}?limit=2")).await;
    assert_eq!(list.data().as_array().map(Vec::len), Some(2));
    assert!(list.header("link").contains("rel=\"next\""));

    // A list has the beginning of each stream, to the last whole character.
    let one = exec(server, &id, "true").await;
    let one = one["id"].as_str().expect("an id");
    let put = |stdout: String| {
        let stderr = "e".repeat(16 * 1024);
        let set = format!("stdout = '{stdout}', stderr = '{stderr}'");
        let sql = format!("UPDATE commands SET {set} WHERE id = '{one}'");
        assert_eq!(server.database.execute(&sql), Ok(1));
    };
    for (stdout, kept, truncated) in [
        ("€".repeat(20_000), 16 * 1024 - 1, true),
        ("e".repeat(16 * 1024 + 1), 16 * 1024, true),
        ("e".repeat(16 * 1024), 16 * 1024, false),
    ] {
        put(stdout.clone());
        let list = admin.get(&format!("{path}?limit=1")).await;
        let row = &list.data()[0];
        assert_eq!(row["id"], one);
        assert_eq!(row["stdout"].as_str().map(str::len), Some(kept));
        assert!(stdout.starts_with(row["stdout"].as_str().expect("text")));
        assert_eq!(row["stderr"].as_str().map(str::len), Some(16 * 1024));
        assert_eq!(row["truncated"], truncated);
        let whole = admin.get(&format!("/api/v1/commands/{one}")).await;
        assert_eq!(whole.data()["stdout"], stdout.as_str());
    }

    // The same key runs it once.
    let keyed = admin.with("idempotency-key", "run once");
    let body = json!({ "command": "echo x >> /root/once" });
    let (first, again) = (
        keyed.post(&path, body.clone()).await,
        keyed.post(&path, body).await,
    );
    assert_eq!(first.str("id"), again.str("id"));
    over(server, &first.str("id"), 20).await;
    assert_eq!(output(server, &id, "wc -l < /root/once").await, "1");

    // Waiting for the end, no longer than asked.
    let slow = ask(server, &id, json!({ "command": "sleep 3" })).await;
    let began = Instant::now();
    let row = admin
        .get(&format!("/api/v1/commands/{slow}?wait_seconds=1"))
        .await;
    assert_ne!(row.data()["status"], "completed");
    assert!(began.elapsed() >= Duration::from_millis(900));
    let row = admin
        .get(&format!("/api/v1/commands/{slow}?wait_seconds=30"))
        .await;
    assert_eq!(row.data()["status"], "completed");
    assert!(began.elapsed() < Duration::from_secs(8));
    for wait in ["-1", "61"] {
        let path = format!("/api/v1/commands/{slow}?wait_seconds={wait}");
        admin.get(&path).await.is(400, "VALIDATION_FAILED");
    }
    admin
        .act(&format!("/api/v1/commands/{slow}/cancel"))
        .await
        .is(409, "CONFLICT");
}

/// Time limits, cancelling, and a container that stops underneath.
async fn ends(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "ends").await;
    // A number nobody else sleeps for marks our processes on this machine.
    let mark = format!("86{}", std::process::id());
    let stubborn = format!(
        "trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM HUP; sleep {mark}' </dev/null >/dev/null 2>&1 & \
         (sleep {mark} &) ; echo begun; sleep {mark}"
    );
    let none_left = async |server: &Server| {
        eventually("the end of its processes", 15, async || {
            Tree::with(&mark).is_empty().then_some(())
        })
        .await;
        let row = exec(
            server,
            &id,
            &format!("ps ax 2>/dev/null | grep -c '[s]leep {mark}' || true"),
        )
        .await;
        assert_ne!(row["status"], "timed_out");
    };

    let row = exec_with(
        server,
        &id,
        json!({ "command": stubborn, "timeout_seconds": 2 }),
    )
    .await;
    assert_eq!(row["status"], "timed_out", "{row}");
    assert_eq!(row["stdout"], "begun\n");
    none_left(server).await;

    let command = ask(server, &id, json!({ "command": stubborn })).await;
    eventually("a start", 10, async || {
        let row = admin.get(&format!("/api/v1/commands/{command}")).await;
        (row.data()["status"] == "running" && !Tree::with(&mark).is_empty()).then_some(())
    })
    .await;
    let row = admin
        .act(&format!("/api/v1/commands/{command}/cancel"))
        .await;
    assert_eq!(row.data()["status"], "cancelled", "{row:?}");
    none_left(server).await;
    let again = admin
        .act(&format!("/api/v1/commands/{command}/cancel"))
        .await;
    assert_eq!(again.data()["status"], "cancelled");

    // One that waits for its turn never runs.
    let mut open = Vec::new();
    for _ in 0..24 {
        open.push(ask(server, &id, json!({ "command": format!("sleep {mark}") })).await);
    }
    let last = ask(server, &id, json!({ "command": "touch /root/never" })).await;
    let row = admin.act(&format!("/api/v1/commands/{last}/cancel")).await;
    assert_eq!(row.data()["status"], "cancelled");
    for command in &open {
        admin
            .act(&format!("/api/v1/commands/{command}/cancel"))
            .await;
    }
    for command in &open {
        let row = over(server, command, 30).await;
        assert_eq!(row["status"], "cancelled", "{row}");
    }
    none_left(server).await;
    assert_eq!(
        exec(server, &id, "test -e /root/never").await["exit_code"],
        1
    );

    // A child that lives on does not hold the command's end up.
    let began = Instant::now();
    let row = exec(server, &id, "nohup sleep 30 >/dev/null 2>&1 & echo done").await;
    assert_eq!(row["stdout"], "done\n");
    assert!(began.elapsed() < Duration::from_secs(8));
    // Not even with the pipes in its hands.
    let row = exec(server, &id, "sleep 20 & echo done").await;
    assert_eq!(
        (&row["status"], &row["stdout"]),
        (&json!("completed"), &json!("done\n")),
        "{row}"
    );
    assert!(began.elapsed() < Duration::from_secs(16));

    let command = ask(server, &id, json!({ "command": format!("sleep {mark}") })).await;
    eventually("a start", 10, async || {
        (!Tree::with(&mark).is_empty()).then_some(())
    })
    .await;
    admin
        .act(&format!("{CONTAINERS}/{id}/stop?force=true"))
        .await
        .data();
    let row = over(server, &command, 20).await;
    assert_eq!(row["status"], "failed", "{row}");
    let path = format!("{CONTAINERS}/{id}/commands");
    admin
        .post(&path, json!({ "command": "true" }))
        .await
        .is(409, "CONFLICT");
    // Its record stays readable until the container goes.
    admin.delete(&format!("{CONTAINERS}/{id}")).await.data();
    admin
        .get(&format!("/api/v1/commands/{command}"))
        .await
        .is(404, "COMMAND_NOT_FOUND");
}

/// A gigabyte of output costs the server next to nothing.
async fn floods(server: &mut Server) {
    let id = running(server, "floods").await;
    let before = Tree::resident_mib(server.pid());
    let flood = "head -c 1000000000 /dev/zero | tr '\\0' x; echo the-end >&2";
    let command = ask(
        server,
        &id,
        json!({ "command": flood, "timeout_seconds": 240 }),
    )
    .await;
    let mut most = before;
    let row = eventually("the end of the flood", 250, async || {
        most = most.max(Tree::resident_mib(server.pid()));
        let row = server
            .admin()
            .get(&format!("/api/v1/commands/{command}"))
            .await
            .data()
            .clone();
        (row["status"] != "queued" && row["status"] != "running").then_some(row)
    })
    .await;
    assert_eq!(row["status"], "completed", "{:.300}", row.to_string());
    assert_eq!(row["truncated"], true);
    let kept = row["stdout"].as_str().expect("text");
    assert_eq!(kept.len(), 1024 * 1024);
    assert_eq!(row["stderr"], "the-end\n");
    assert!(most < before + 100, "from {before} to {most} MiB");
    let list = server
        .admin()
        .get(&format!("{CONTAINERS}/{id}/commands"))
        .await;
    assert!(list.text.len() < 100_000, "a list shows the beginning only");
}

async fn many(server: &mut Server) {
    let (one, two) = (
        running(server, "many-1").await,
        running(server, "many-2").await,
    );
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..200 {
        let (admin, id) = (
            server.admin(),
            if n % 2 == 0 { one.clone() } else { two.clone() },
        );
        asking.spawn(async move {
            let path = format!("{CONTAINERS}/{id}/commands");
            let body = json!({ "command": format!("echo {n}; echo {n} >> /root/ran") });
            (n, admin.post(&path, body).await.str("id"))
        });
    }
    for (n, id) in asking.join_all().await {
        let row = over(server, &id, 120).await;
        assert_eq!(row["status"], "completed", "{row}");
        assert_eq!(row["stdout"], format!("{n}\n"));
    }
    for id in [&one, &two] {
        assert_eq!(
            output(
                server,
                id,
                "sort -n /root/ran | uniq | wc -l; wc -l < /root/ran"
            )
            .await,
            "100\n100"
        );
    }
}

async fn status(server: &Server, command: &str) -> String {
    let path = format!("/api/v1/commands/{command}");
    server.admin().get(&path).await.str("status")
}

async fn begun(server: &Server, command: &str) {
    eventually("a start", 20, async || {
        (status(server, command).await == "running").then_some(())
    })
    .await;
}

/// While no row of a command can be changed: nothing is lost, and nothing spins.
async fn unwritable(server: &mut Server) {
    let id = running(server, "unwritable").await;
    let (stop, go): (&[&str], &str) = match server.database.kind {
        Kind::Sqlite => (
            &["CREATE TRIGGER not_now BEFORE UPDATE ON commands \
               BEGIN SELECT RAISE(ABORT, 'not now'); END"],
            "DROP TRIGGER not_now",
        ),
        Kind::Postgres => (
            &[
                "CREATE FUNCTION not_now() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'not now'; END $$",
                "CREATE TRIGGER not_now BEFORE UPDATE ON commands \
                 FOR EACH ROW EXECUTE FUNCTION not_now()",
            ],
            "DROP TRIGGER not_now ON commands",
        ),
    };
    let first = ask(server, &id, json!({ "command": "sleep 5; echo first" })).await;
    begun(server, &first).await;
    for sql in stop {
        server.database.execute(sql).expect(sql);
    }
    let second = ask(server, &id, json!({ "command": "echo second" })).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(status(server, &first).await, "running");
    assert_eq!(status(server, &second).await, "queued");
    let log = server.log();
    for line in [
        "the queue of commands could not be read",
        "a command's end could not be recorded",
    ] {
        let lines = log.matches(line).count();
        assert!((1..=8).contains(&lines), "{lines} of {line}");
    }
    server.database.execute(go).expect(go);
    for (command, word) in [(&first, "first\n"), (&second, "second\n")] {
        let row = over(server, command, 40).await;
        assert_eq!(row["status"], "completed", "{row}");
        assert_eq!(row["stdout"], word);
    }
}

/// What another server of the database was asked to cancel ends here, where nobody rings.
async fn elsewhere(server: &mut Server) {
    if server.database.kind == Kind::Sqlite {
        return;
    }
    let id = running(server, "elsewhere").await;
    let command = ask(server, &id, json!({ "command": "echo begun; sleep 600" })).await;
    begun(server, &command).await;
    let sql = format!("UPDATE commands SET cancel_requested = true WHERE id = '{command}'");
    assert_eq!(server.database.execute(&sql), Ok(1));
    let row = over(server, &command, 20).await;
    assert_eq!(row["status"], "cancelled", "{row}");
}

/// What ended long ago goes, and what is too much of one box, with its output; nothing else does.
async fn forgotten(kind: Kind) {
    let options = Options::with("HZEL_COMMANDS_DAYS", "7");
    with_server(kind, options, async |server| {
        let id = running(server, "forgotten").await;
        // Of February 2020.
        let old = |n: u32| format!("01700000-0000-7000-8000-{n:012}");
        let spools = server.data_dir().join("spool/commands");
        for (n, ended) in [(1, "'2020-02-01 00:00:00'"), (2, "CURRENT_TIMESTAMP")] {
            let row = exec(server, &id, "echo old").await;
            let (was, is) = (row["id"].as_str().expect("an id"), old(n));
            let set = format!("id = '{is}', finished_at = {ended}");
            let sql = format!("UPDATE commands SET {set} WHERE id = '{was}'");
            assert_eq!(server.database.execute(&sql), Ok(1));
            std::fs::rename(spools.join(was), spools.join(is)).expect("its output");
        }
        let fresh = exec(server, &id, "echo fresh").await;
        let fresh = fresh["id"].as_str().expect("an id").to_owned();
        let answer = async |server: &Server, command: &str| {
            let path = format!("/api/v1/commands/{command}");
            server.admin().get(&path).await.status
        };
        // It makes its round at the start.
        server.stop().await;
        server.launch().await;
        eventually("the end of the oldest", 20, async || {
            let gone = answer(server, &old(1)).await == 404;
            (gone && !spools.join(old(1)).exists()).then_some(())
        })
        .await;
        for command in [&old(2), &fresh] {
            assert_eq!(answer(server, command).await, 200);
            assert!(spools.join(command).exists());
        }

        // Seven more than are kept, with these two.
        let ids: Vec<String> = (100..1105).map(|n| format!("('{}')", old(n))).collect();
        let rest = "container_id, requested_by, node_name, command, spec, timeout_seconds, status, \
                    cancel_requested, exit_code, stdout, stderr, truncated, error, created_at, \
                    started_at, finished_at";
        let sql = format!(
            "INSERT INTO commands (id, {rest}) SELECT n.column1, {rest} \
             FROM commands CROSS JOIN (VALUES {}) AS n WHERE id = '{fresh}'",
            ids.join(", ")
        );
        assert_eq!(server.database.execute(&sql), Ok(1005));
        server.stop().await;
        server.launch().await;
        let all = format!("UPDATE commands SET exit_code = 0 WHERE container_id = '{id}'");
        eventually("the end of the oldest seven", 20, async || {
            (server.database.execute(&all) == Ok(1000)).then_some(())
        })
        .await;
        for command in [old(2), old(100), old(105)] {
            assert_eq!(answer(server, &command).await, 404, "{command}");
        }
        for command in [&old(106), &old(1104), &fresh] {
            assert_eq!(answer(server, command).await, 200, "{command}");
        }
        eventually("the end of its output", 10, async || {
            (!spools.join(old(2)).exists()).then_some(())
        })
        .await;
    })
    .await;
}
