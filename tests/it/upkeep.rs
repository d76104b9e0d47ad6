//! What an operator does to the machine and to the database beneath hzel: nobody's data goes by it,
//! and what was taken away is put back.

use std::time::Duration;

use serde_json::json;

use crate::containers::{CONTAINERS, exec, output, running};
use crate::harness::{Leftovers, Server, eventually, process};
use crate::isolation::{init_pid, kill};

on_both!(unclaimed, after_boot, firewall, lost_job);

fn run(program: &str, args: &[&str]) -> String {
    let mut command = std::process::Command::new(program);
    command.args(args);
    process::run(command, "").stdout
}

/// A database that does not know a container (another one, or an old copy) costs nobody a disk.
async fn unclaimed(server: &mut Server) {
    let id = running(server, "kept").await;
    exec(server, &id, "echo mine > /root/mine").await;
    let pid = init_pid(server);
    server.kill();
    let set = |server: &Server, sql: &str| server.database.execute(sql).expect("the row");
    set(
        server,
        "UPDATE containers SET node_name = node_name || '-elsewhere'",
    );
    server.launch().await;
    assert_eq!(init_pid(server), pid, "it runs on");
    assert!(
        server.log().contains("is not in the database"),
        "the operator is told"
    );
    let page = server.sign_in(crate::harness::ADMIN).await;
    let page = page.client.get("/").await;
    assert!(page.text.contains("data-test=\"unclaimed\""), "and shown");

    // The right database is back, and all is as it was.
    server.kill();
    set(
        server,
        "UPDATE containers SET node_name = replace(node_name, '-elsewhere', '')",
    );
    server.launch().await;
    assert_eq!(output(server, &id, "cat /root/mine").await, "mine");
    let mark = server
        .data_dir()
        .join(format!("native/containers/{id}/unclaimed.json"));
    assert!(!mark.exists());

    // Nobody claims it for as long as the operator has set.
    server.set_env("HZEL_KEEP_UNCLAIMED", "1s");
    server.kill();
    set(server, "DELETE FROM containers");
    server.launch().await;
    assert_eq!(init_pid(server), pid);
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.kill();
    server.launch().await;
    Leftovers::assert_none(&server.data_dir());
}

/// What ran when the machine went down runs again, also if the engine could not work at first.
async fn after_boot(server: &mut Server) {
    let id = running(server, "back").await;
    let admin = server.admin();
    let stopped = admin
        .post(CONTAINERS, json!({ "hostname": "stopped" }))
        .await
        .str("id");
    crate::containers::wait_for(server, &stopped, "running").await;
    admin
        .act(&format!("{CONTAINERS}/{stopped}/stop?force=true"))
        .await
        .data();
    server.kill();
    kill(init_pid(server));
    // As after a restart: another boot than the one that is written down.
    let sql = "UPDATE settings SET value = 'another' WHERE name LIKE 'boot_id:%'";
    assert_eq!(server.database.execute(sql), Ok(1));
    server.set_env("HZEL_OCI_RUNTIME", "/nonexistent/crun");
    server.launch().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    server.kill();
    server.set_env("HZEL_OCI_RUNTIME", "auto");
    server.launch().await;
    let admin = server.admin();
    let state = async |id: &str| {
        let row = admin.get(&format!("{CONTAINERS}/{id}")).await;
        row.data()["state"].as_str().expect("a state").to_owned()
    };
    eventually("it runs again", 30, async || {
        (state(&id).await == "running").then_some(())
    })
    .await;
    assert_eq!(state(&stopped).await, "stopped", "as it was wished");
    // Once judged, an end is an end.
    kill(init_pid(server));
    eventually("it is stopped", 30, async || {
        (state(&id).await == "stopped").then_some(())
    })
    .await;
}

/// An administrator reloads the firewall, which removes every table.
async fn firewall(server: &mut Server) {
    let _id = running(server, "guarded").await;
    let instance = std::fs::read_to_string(server.data_dir().join("native/instance"));
    let table = format!("hzel_{}", instance.expect("its name").trim());
    let rules = run("nft", &["list", "table", "inet", &table]);
    assert!(rules.contains("drop"), "{rules}");
    run("nft", &["delete", "table", "inet", &table]);
    eventually("the rules are back", 40, async || {
        run("nft", &["list", "table", "inet", &table])
            .contains("drop")
            .then_some(())
    })
    .await;
}

/// A job that was claimed and that nobody works on is done all the same.
async fn lost_job(server: &mut Server) {
    let id = running(server, "lost-job").await;
    let sql = format!(
        "INSERT INTO jobs (id, kind, container_id, subject, request_id, node_name, status, attempts, \
         created_at, started_at) \
         SELECT '01a00000-0000-7000-8000-000000000000', 'container.stop', id, id, '', node_name, \
         'running', 1, created_at, created_at FROM containers WHERE id = '{id}'"
    );
    assert_eq!(server.database.execute(&sql), Ok(1));
    let admin = server.admin();
    eventually("it is done", 90, async || {
        let row = admin.get(&format!("{CONTAINERS}/{id}")).await;
        (row.data()["state"] == "stopped").then_some(())
    })
    .await;
}
