//! Real containers: their life, what is inside, and what a list shows.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Reply, Server, eventually};

on_both!(life, lists, one_hostname, one_key, elsewhere, inside);

pub const CONTAINERS: &str = "/api/v1/containers";

/// Makes one and waits until it runs; its id.
pub async fn running(server: &Server, hostname: &str) -> String {
    let made = server
        .admin()
        .post(CONTAINERS, json!({ "hostname": hostname }))
        .await;
    let id = made.str("id");
    wait_for(server, &id, "running").await;
    id
}

/// Waits for a state.
pub async fn wait_for(server: &Server, id: &str, state: &str) -> Value {
    let admin = server.admin();
    let path = format!("{CONTAINERS}/{id}");
    eventually(&format!("{state} of {id}"), 60, async || {
        let row = admin.get(&path).await.data().clone();
        let now = row["state"].as_str().unwrap_or_default().to_owned();
        assert!(
            now != "failed" || state == "failed",
            "{row}\n{}",
            crate::harness::doctor()
        );
        (now == state).then_some(row)
    })
    .await
}

/// Runs a command to its end.
pub async fn exec(server: &Server, id: &str, command: &str) -> Value {
    exec_with(server, id, json!({ "command": command })).await
}

/// Runs what `body` says to its end.
pub async fn exec_with(server: &Server, id: &str, body: Value) -> Value {
    let made = server
        .admin()
        .post(&format!("{CONTAINERS}/{id}/commands"), body)
        .await;
    over(server, &made.str("id"), 300).await
}

/// Waits for a command's end.
pub async fn over(server: &Server, id: &str, seconds: u64) -> Value {
    let path = format!("/api/v1/commands/{id}?wait_seconds=20");
    eventually(&format!("the end of command {id}"), seconds, async || {
        let row = server.admin().get(&path).await.data().clone();
        let status = row["status"].as_str().unwrap_or_default();
        (!matches!(status, "queued" | "running")).then_some(row)
    })
    .await
}

/// What a command that ends well writes.
pub async fn output(server: &Server, id: &str, command: &str) -> String {
    let row = exec(server, id, command).await;
    assert_eq!(row["status"], "completed", "{command}: {row}");
    row["stdout"].as_str().expect("text").trim().to_owned()
}

async fn act(server: &Server, id: &str, action: &str) -> Reply {
    server
        .admin()
        .act(&format!("{CONTAINERS}/{id}/{action}"))
        .await
}

async fn life(server: &mut Server) {
    let admin = server.admin();
    let made = admin.post(CONTAINERS, json!({ "hostname": "life" })).await;
    let data = made.data();
    assert_eq!(data["state"], "provisioning");
    for (field, value) in [
        ("hostname", json!("life")),
        ("name", json!("life")),
        ("cpu_cores", json!(1)),
        ("memory_mb", json!(512)),
        ("disk_gb", json!(18)),
        ("permissions", json!(255)),
        ("image", json!(crate::harness::default_image())),
    ] {
        assert_eq!(data[field], value, "{field}");
    }
    let id = made.str("id");
    let row = wait_for(server, &id, "running").await;
    assert!(
        row["ipv4"].is_string() && row["started_at"].is_string(),
        "{row}"
    );
    assert_eq!(row["state_reason"], json!(null));

    // Starting a running one answers the record, unchanged.
    let again = act(server, &id, "start").await;
    assert_eq!(again.data(), &row);

    assert_eq!(output(server, &id, "hostname; id -u").await, "life\n0");
    output(server, &id, "echo kept > /root/kept; sync").await;

    let metrics = admin.get(&format!("{CONTAINERS}/{id}/metrics")).await;
    let metrics = metrics.data();
    assert_eq!(metrics["memory_limit_mb"], 512);
    assert_eq!(metrics["disk_limit_mb"], 18 * 1024);
    assert!(
        metrics["processes"].as_u64().is_some_and(|n| n > 0),
        "{metrics}"
    );
    let cpu = metrics["cpu_percent"].as_f64().expect("a number");
    assert!((0.0..=100.0).contains(&cpu));

    output(server, &id, "head -c 50M /dev/urandom > /root/noise; sync").await;
    let metrics = admin.get(&format!("{CONTAINERS}/{id}/metrics")).await;
    let used = metrics.data()["disk_used_mb"].as_u64().expect("a number");
    assert!((50..200).contains(&used), "{metrics:?}");

    let stopped = act(server, &id, "stop").await;
    assert_eq!(stopped.data()["state"], "stopped");
    assert_eq!(act(server, &id, "stop").await.data()["state"], "stopped");
    let path = format!("{CONTAINERS}/{id}/commands");
    admin
        .post(&path, json!({ "command": "true" }))
        .await
        .is(409, "CONFLICT");
    let metrics = admin.get(&format!("{CONTAINERS}/{id}/metrics")).await;
    assert_eq!(metrics.data()["processes"], 0);

    let started = act(server, &id, "start").await;
    assert_eq!(started.data()["state"], "running");
    assert_eq!(output(server, &id, "cat /root/kept").await, "kept");

    // A restart really restarts.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let path = format!("{CONTAINERS}/{id}/metrics");
    assert!(admin.get(&path).await.data()["uptime_seconds"].as_u64() >= Some(3));
    let before = started.str("started_at");
    let restarted = act(server, &id, "restart").await;
    assert_eq!(restarted.data()["state"], "running");
    assert_ne!(restarted.str("started_at"), before);
    assert!(admin.get(&path).await.data()["uptime_seconds"].as_u64() < Some(3));
    assert_eq!(output(server, &id, "cat /root/kept").await, "kept");
    let logs = admin.get(&format!("{CONTAINERS}/{id}/logs?tail=10")).await;
    assert!(logs.data()["logs"].is_string(), "{logs:?}");
    for tail in ["0", "-1", "10001"] {
        let path = format!("{CONTAINERS}/{id}/logs?tail={tail}");
        admin.get(&path).await.is(400, "VALIDATION_FAILED");
    }

    // At once, and again from stopped.
    let forced = admin
        .act(&format!("{CONTAINERS}/{id}/stop?force=true"))
        .await;
    assert_eq!(forced.data()["state"], "stopped");
    assert_eq!(act(server, &id, "restart").await.data()["state"], "running");

    // The init's death is noticed.
    let pid = crate::isolation::init_pid(server);
    let began = std::time::Instant::now();
    crate::isolation::kill(pid);
    let dead = wait_for(server, &id, "stopped").await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert!(dead["state_reason"].is_string(), "{dead}");
    assert_eq!(act(server, &id, "start").await.data()["state"], "running");
    assert_eq!(output(server, &id, "cat /root/kept").await, "kept");

    // The power goes off from inside.
    exec(server, &id, "kill -TERM 1; sleep 5; poweroff -f").await;
    eventually("an end or a life of it", 20, async || {
        let row = admin
            .get(&format!("{CONTAINERS}/{id}"))
            .await
            .data()
            .clone();
        matches!(row["state"].as_str(), Some("running" | "stopped")).then_some(())
    })
    .await;

    let reply = admin.delete(&format!("{CONTAINERS}/{id}")).await;
    assert_eq!(reply.data(), "deleted");
    let gone = admin.get(&format!("{CONTAINERS}/{id}")).await;
    gone.is(404, "CONTAINER_NOT_FOUND")
        .says(&format!("Container {id} was not found"));
    admin
        .delete(&format!("{CONTAINERS}/{id}"))
        .await
        .is(404, "CONTAINER_NOT_FOUND");
    crate::harness::Leftovers::assert_none(&server.data_dir());

    // Its name can be had again.
    let id = running(server, "life").await;
    assert_eq!(exec(server, &id, "cat /root/kept").await["exit_code"], 1);
}

async fn lists(server: &mut Server) {
    let admin = server.admin();
    let mut ids = Vec::new();
    for n in 0..5 {
        let body = json!({ "hostname": format!("box-{n}") });
        ids.push(admin.post(CONTAINERS, body).await.str("id"));
    }
    for id in &ids {
        wait_for(server, id, "running").await;
    }
    let hostnames = |reply: &Reply| -> Vec<String> {
        let rows = reply.data().as_array().expect("a list");
        rows.iter()
            .map(|r| r["hostname"].as_str().expect("a name").to_owned())
            .collect()
    };
    let all = admin.get(CONTAINERS).await;
    assert_eq!(
        hostnames(&all),
        ["box-4", "box-3", "box-2", "box-1", "box-0"]
    );
    assert_eq!(all.header("link"), "");

    let mut seen = Vec::new();
    let mut path = format!("{CONTAINERS}?limit=2");
    loop {
        let page = admin.get(&path).await;
        let names = hostnames(&page);
        assert!(names.len() <= 2);
        seen.extend(names);
        let link = page.header("link").to_owned();
        if link.is_empty() {
            break;
        }
        assert!(link.contains("rel=\"next\""), "{link}");
        let target = link.split(['<', '>']).nth(1).expect("an address");
        path = target.trim_start_matches(&server.url).to_owned();
    }
    assert_eq!(seen, hostnames(&all));

    assert_eq!(
        hostnames(&admin.get(&format!("{CONTAINERS}?q=x-3")).await),
        ["box-3"]
    );
    assert!(hostnames(&admin.get(&format!("{CONTAINERS}?q=%25")).await).is_empty());
    let path = format!("{CONTAINERS}?state=stopped");
    assert!(hostnames(&admin.get(&path).await).is_empty());
    act(server, &ids[0], "stop").await;
    assert_eq!(hostnames(&admin.get(&path).await), ["box-0"]);

    // A user sees none of it; another administrator all, but nothing of their own.
    let user = server.user("user@example.org");
    assert!(hostnames(&user.get(CONTAINERS).await).is_empty());
    server.add_user("second@example.org", "admin");
    let second = server
        .anonymous()
        .bearer(&server.token_of("second@example.org", &[]));
    assert_eq!(hostnames(&second.get(CONTAINERS).await).len(), 5);
    assert!(hostnames(&second.get(&format!("{CONTAINERS}?mine=true")).await).is_empty());

    // Idempotency: the same request is the same container.
    let keyed = admin.with("idempotency-key", "a key");
    let body = json!({ "hostname": "keyed" });
    let first = keyed.post(CONTAINERS, body.clone()).await.str("id");
    assert_eq!(keyed.post(CONTAINERS, body).await.str("id"), first);
    keyed
        .post(CONTAINERS, json!({ "hostname": "other" }))
        .await
        .is(409, "CONFLICT");
    let theirs = second.with("idempotency-key", "a key");
    let other = theirs
        .post(CONTAINERS, json!({ "hostname": "theirs" }))
        .await
        .str("id");
    assert_ne!(first, other);
}

/// The same key many times at once is one request.
async fn one_key(server: &mut Server) {
    for round in 0..3 {
        let name = format!("keyed-{round}");
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let keyed = server.admin().with("idempotency-key", &name);
            let body = json!({ "hostname": name });
            asking.spawn(async move { keyed.post(CONTAINERS, body).await });
        }
        let replies = asking.join_all().await;
        let first = replies[0].data();
        for reply in &replies {
            assert_eq!(reply.data(), first);
        }
        let list = server
            .admin()
            .get(&format!("{CONTAINERS}?q={name}"))
            .await
            .data()
            .clone();
        assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
        wait_for(server, &replies[0].str("id"), "running").await;
    }
}

/// What is on another server's machine is said to be there.
async fn elsewhere(server: &mut Server) {
    let id = uuid::Uuid::now_v7();
    let sql = format!(
        "INSERT INTO containers (id, user_id, hostname, image, node_name, state, wanted, \
         cpu_cores, memory_mb, disk_gb, ssh_keys, created_at, updated_at) SELECT '{id}', id, \
         'elsewhere', 'x', 'another', 'running', 'running', 1, 512, 18, '', CURRENT_TIMESTAMP, \
         CURRENT_TIMESTAMP FROM users WHERE email = '{}'",
        crate::harness::ADMIN
    );
    server.database.execute(&sql).expect("a container");
    let admin = server.admin();
    for part in ["metrics", "logs", "files?path=/"] {
        admin
            .get(&format!("{CONTAINERS}/{id}/{part}"))
            .await
            .is(409, "CONFLICT")
            .says("The container runs on another server, another");
    }
    admin
        .post(
            &format!("{CONTAINERS}/{id}/files/mkdir"),
            json!({ "path": "/x" }),
        )
        .await
        .is(409, "CONFLICT")
        .says("The container runs on another server, another");
    // Nobody is there to delete it.
    let sql = format!("DELETE FROM containers WHERE id = '{id}'");
    server.database.execute(&sql).expect("none of it");
}

async fn one_hostname(server: &mut Server) {
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let admin = server.admin();
        asking.spawn(async move { admin.post(CONTAINERS, json!({ "hostname": "one" })).await });
    }
    let replies = asking.join_all().await;
    let made: Vec<&Reply> = replies.iter().filter(|r| r.status == 200).collect();
    assert_eq!(made.len(), 1, "exactly one may have it");
    for reply in replies.iter().filter(|r| r.status != 200) {
        reply.is(409, "CONFLICT").says("Hostname one is taken");
    }
    wait_for(server, &made[0].str("id"), "running").await;

    // Many at once, each with its own name, address and disk.
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..8 {
        let admin = server.admin();
        let body = json!({ "hostname": format!("many-{n}"), "memory_mb": 128 });
        asking.spawn(async move { admin.post(CONTAINERS, body).await.str("id") });
    }
    let mut addresses = std::collections::BTreeSet::new();
    for id in asking.join_all().await {
        let row = wait_for(server, &id, "running").await;
        addresses.insert(row["ipv4"].as_str().expect("an address").to_owned());
    }
    assert_eq!(addresses.len(), 8);
}

/// What someone who comes in finds.
async fn inside(server: &mut Server) {
    let body = json!({
        "hostname": "inside",
        "memory_mb": 1024,
        "ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0bQ0FBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB me"],
        "user_data": "#!/bin/sh\necho from-user-data > /root/user-data\n",
    });
    let id = server.admin().post(CONTAINERS, body).await.str("id");
    wait_for(server, &id, "running").await;
    assert_eq!(
        output(server, &id, "nproc --all >/dev/null; cat /etc/hostname").await,
        "inside"
    );
    assert_eq!(
        output(server, &id, "getent hosts inside >/dev/null && echo yes").await,
        "yes"
    );
    assert!(
        output(server, &id, "cat /root/.ssh/authorized_keys")
            .await
            .contains("ssh-ed25519")
    );
    assert_eq!(
        output(server, &id, "stat -c %a:%u /root/.ssh/authorized_keys").await,
        "600:0"
    );
    let size = output(server, &id, "df -B1G --output=size / | tail -1").await;
    let size: u64 = size.trim().parse().expect("a size");
    assert!((16..=18).contains(&size), "{size}");
    eventually("the script of the first start", 20, async || {
        let row = exec(server, &id, "cat /root/user-data").await;
        (row["stdout"] == "from-user-data\n").then_some(())
    })
    .await;
    // The first start is over.
    output(server, &id, "rm /root/user-data").await;
    act(server, &id, "restart").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        exec(server, &id, "test -e /root/user-data").await["exit_code"],
        1
    );

    // A package from the sources of the image.
    let row = exec_with(
        server,
        &id,
        json!({
            "command": "apt-get update -q && apt-get install -y -q --no-install-recommends hello && hello",
            "env": { "DEBIAN_FRONTEND": "noninteractive" },
        }),
    )
    .await;
    assert_eq!(row["status"], "completed", "{row}");
    assert!(
        row["stdout"]
            .as_str()
            .expect("text")
            .contains("Hello, world!")
    );
}
