//! The server is killed in the middle of its work, again and again: nothing that was acknowledged
//! is lost or done twice, containers run on, and nothing is left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::containers::{CONTAINERS, output, over, running};
use crate::harness::client::try_send;
use crate::harness::{Leftovers, Server, eventually};
use crate::isolation::init_pid;

on_both!(killed_at_work, ends_cleanly);

/// Kills; each is at another moment of the same work.
const ROUNDS: u64 = 12;

/// The same moments at every run: a schedule, not luck.
fn pause(round: u64) -> Duration {
    let mut x = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    x ^= x >> 31;
    Duration::from_millis(x % 450)
}

async fn killed_at_work(server: &mut Server) {
    let stable = running(server, "stable").await;
    let pid = init_pid(server);
    // What was acknowledged.
    let mut made: Vec<String> = Vec::new();
    let mut deleted: Vec<String> = Vec::new();
    let mut commands: BTreeMap<String, String> = BTreeMap::new();

    for round in 0..ROUNDS {
        let admin = server.admin();
        let mut work = tokio::task::JoinSet::new();
        for n in 0..2 {
            let body = json!({ "hostname": format!("r{round}-{n}"), "memory_mb": 128 });
            let request = admin.request("POST", CONTAINERS).json(&body);
            work.spawn(async move { ("made", String::new(), try_send(request).await) });
        }
        for n in 0..4 {
            let mark = format!("c{round}-{n}");
            let line = format!("echo {mark} >> /root/ran; sleep 0.2; echo {mark}");
            let path = format!("{CONTAINERS}/{stable}/commands");
            let request = admin
                .request("POST", &path)
                .json(&json!({ "command": line }));
            work.spawn(async move { ("command", mark, try_send(request).await) });
        }
        // A delete is not acknowledged before it is done; so it is asked for in the background.
        let victim = made.iter().find(|id| !deleted.contains(id)).cloned();
        if let Some(id) = victim.clone() {
            let request = admin.request("DELETE", &format!("{CONTAINERS}/{id}?force=true"));
            work.spawn(async move { ("deleted", id, try_send(request).await) });
        }
        tokio::time::sleep(pause(round)).await;
        server.kill();
        while let Some(done) = work.join_next().await {
            let (what, mark, reply) = done.expect("no panic");
            let Some(reply) = reply.filter(|reply| reply.status == 200) else {
                continue;
            };
            match what {
                "made" => made.push(reply.str("id")),
                "command" => {
                    commands.insert(reply.str("id"), mark);
                }
                _ => deleted.push(mark),
            }
        }
        server.launch().await;
        assert_eq!(init_pid_of(server, &stable), pid, "the container runs on");
    }
    assert!(
        commands.len() > 4,
        "some work was acknowledged: {}",
        commands.len()
    );

    let admin = server.admin();
    for id in &deleted {
        admin
            .get(&format!("{CONTAINERS}/{id}"))
            .await
            .is(404, "CONTAINER_NOT_FOUND");
    }
    for id in made.iter().filter(|id| !deleted.contains(id)) {
        eventually(&format!("a lasting state of {id}"), 60, async || {
            let reply = admin.get(&format!("{CONTAINERS}/{id}")).await;
            match reply.json["data"]["state"].as_str() {
                // Its delete was begun, and went on after the restart.
                None => Some(reply.is(404, "CONTAINER_NOT_FOUND")).map(|_| ()),
                Some("running") => Some(()),
                // Killed at it three times; it says so, and is made when it is asked for again.
                Some("failed") => {
                    let reason = reply.json["data"]["state_reason"].as_str();
                    assert!(reason.is_some_and(|text| text.len() > 10), "{reply:?}");
                    let path = format!("{CONTAINERS}/{id}/start");
                    assert_eq!(admin.act(&path).await.data()["state"], "running");
                    Some(())
                }
                Some(_) => None,
            }
        })
        .await;
    }
    let ran = output(server, &stable, "cat /root/ran").await;
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    for line in ran.lines() {
        *times.entry(line).or_default() += 1;
    }
    for (mark, count) in &times {
        assert_eq!(*count, 1, "{mark} ran {count} times");
    }
    for (id, mark) in &commands {
        let row = over(server, id, 60).await;
        match row["status"].as_str() {
            Some("completed") => {
                assert_eq!(times.get(mark.as_str()), Some(&1), "{row}");
                assert_eq!(row["stdout"], format!("{mark}\n"));
            }
            Some("failed") => {
                assert_eq!(row["exit_code"], Value::Null, "{row}");
                assert!(
                    row["error"].as_str().is_some_and(|text| text.len() > 10),
                    "{row}"
                );
            }
            _ => panic!("{row}"),
        }
    }
    server.delete_all().await;
    Leftovers::assert_none(&server.data_dir());
}

fn init_pid_of(server: &Server, id: &str) -> i32 {
    let instance = std::fs::read_to_string(server.data_dir().join("native/instance"));
    let instance = instance.expect("the installation's name");
    let path = format!("/run/hzel/{}/{id}/pid", instance.trim());
    let text = std::fs::read_to_string(path).expect("its pid");
    text.trim().parse().expect("a number")
}

/// SIGTERM: within ten seconds, and containers run on, with what runs in them told the truth of.
async fn ends_cleanly(server: &mut Server) {
    let id = running(server, "stays").await;
    let pid = init_pid(server);
    let path = format!("{CONTAINERS}/{id}/commands");
    let reply = server
        .admin()
        .post(&path, json!({ "command": "sleep 300" }))
        .await;
    let command = reply.str("id");
    eventually("a start", 10, async || {
        let row = server
            .admin()
            .get(&format!("/api/v1/commands/{command}"))
            .await;
        (row.data()["status"] == "running").then_some(())
    })
    .await;
    let took = server.stop().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    server.launch().await;
    assert_eq!(init_pid(server), pid);
    let row = server.admin().get(&format!("{CONTAINERS}/{id}")).await;
    assert_eq!(row.data()["state"], "running");
    let row = over(server, &command, 20).await;
    assert_eq!(row["status"], "failed", "{row}");
    assert!(row["error"].is_string(), "{row}");

    // What dies while no server looks is known at the next start.
    server.stop().await;
    crate::isolation::kill(pid);
    server.launch().await;
    crate::containers::wait_for(server, &id, "stopped").await;
    let started = server
        .admin()
        .act(&format!("{CONTAINERS}/{id}/start"))
        .await;
    assert_eq!(started.data()["state"], "running");
}
