//! What keeps containers from their host and from each other.

use std::fs;

use serde_json::json;

use crate::containers::{CONTAINERS, exec, exec_with, output, running, wait_for};
use crate::harness::Server;

on_both!(walls, hogs, ids);

/// The host's pid of the init of the only container.
pub fn init_pid(server: &Server) -> i32 {
    let instance = fs::read_to_string(server.data_dir().join("native/instance"));
    let instance = instance.expect("the installation's name");
    let run = format!("/run/hzel/{}", instance.trim());
    let mut pids = fs::read_dir(run)
        .expect("the installation's directory")
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("pid")).ok())
        .filter_map(|text| text.trim().parse().ok());
    pids.next().expect("a running container")
}

/// No process of a container's has a number of the machine's own users, whatever it asks for.
async fn ids(server: &mut Server) {
    let id = crate::containers::running(server, "ids").await;
    for user in ["4294967295", "4294967294", "65536"] {
        let body = serde_json::json!({ "command": "sleep 100", "user": user });
        let row = crate::containers::exec_with(server, &id, body).await;
        assert_eq!(row["status"], "failed", "{row}");
        assert_eq!(row["error"], format!("there is no user {user}"), "{row}");
        assert_eq!((&row["stdout"], &row["stderr"]), (&"".into(), &"".into()));
    }
    crate::containers::exec(
        server,
        &id,
        "echo 'gx:x:0:4294967295::/:/bin/sh' >> /etc/passwd; \
         echo 'all:x:4294967295:root,gx' >> /etc/group",
    )
    .await;
    let body = serde_json::json!({ "command": "id", "user": "gx" });
    let row = crate::containers::exec_with(server, &id, body).await;
    assert_eq!(row["error"], "there is no user gx", "{row}");
    let body = serde_json::json!({ "command": "id -G", "user": "root" });
    let row = crate::containers::exec_with(server, &id, body).await;
    assert_eq!(row["stdout"], "0\n", "{row}");
}

pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
}

async fn walls(server: &mut Server) {
    let one = running(server, "one").await;
    let status = fs::read_to_string(format!("/proc/{}/status", init_pid(server)));
    let status = status.expect("its status");
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .expect("a uid");
    let uid: u32 = uid
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a uid");
    assert!(uid >= 65_536, "root inside is {uid} outside");
    assert_eq!(
        output(server, &one, "id -u; awk '{print $1}' /proc/self/uid_map").await,
        "0\n0"
    );

    let other = running(server, "two").await;
    let address = wait_for(server, &other, "running").await["ipv4"]
        .as_str()
        .expect("one")
        .to_owned();
    // A listener on the host, on all addresses, as a database left open would be.
    let host = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = host.local_addr().expect("a port").port();
    let own: u16 = server
        .url
        .rsplit(':')
        .next()
        .and_then(|p| p.parse().ok())
        .expect("a port");
    let gateway = output(server, &one, "ip -4 route show default | awk '{print $3}'").await;
    assert!(!gateway.is_empty());
    let connect = |to: &str, port: u16| {
        format!(
            "timeout 3 bash -c 'exec 3<>/dev/tcp/{to}/{port}' 2>/dev/null && echo open || echo shut"
        )
    };
    let hosts: Vec<String> = host_addresses();
    for to in hosts.iter().chain([&gateway]) {
        for port in [port, own] {
            assert_eq!(
                output(server, &one, &connect(to, port)).await,
                "shut",
                "{to}:{port}"
            );
        }
    }
    exec(
        server,
        &other,
        "nohup sh -c 'while :; do nc -l -p 7777 || sleep 1; done' >/dev/null 2>&1 &",
    )
    .await;
    assert_eq!(output(server, &one, &connect(&address, 22)).await, "shut");
    let ping = format!("ping -c 1 -W 2 {address} >/dev/null 2>&1; echo $?");
    assert_ne!(output(server, &one, &ping).await, "0");
    // Not by a route of one's own either.
    let sneak = format!(
        "ip route replace {address}/32 via {gateway} dev eth0 onlink; {}",
        connect(&address, 22)
    );
    assert_eq!(output(server, &one, &sneak).await, "shut");
    let second = "ip addr add 10.0.0.99/32 dev eth0; ping -I 10.0.0.99 -c 1 -W 2 ";
    let forged = format!("{second}{address} >/dev/null 2>&1; echo $?");
    assert_ne!(output(server, &one, &forged).await, "0");

    for (what, command) in [
        ("devices", "mknod /tmp/disk b 8 0"),
        ("mounts of block devices", "mount /dev/vda /mnt"),
        ("the kernel's settings", "echo 1 > /proc/sys/kernel/panic"),
        ("the kernel's memory", "head -c 1 /proc/kcore"),
        ("modules", "insmod /tmp/x.ko 2>/dev/null || init_module"),
        (
            "the host's cgroups",
            "echo max > /sys/fs/cgroup/memory/memory.limit_in_bytes || echo max > /sys/fs/cgroup/memory.max",
        ),
        ("tracing", "echo 1 > /sys/kernel/debug/tracing/tracing_on"),
        ("reboots of the host", "echo b > /proc/sysrq-trigger"),
        ("the clock", "date -s 2020-01-01"),
    ] {
        let row = exec(server, &one, command).await;
        assert_ne!(row["exit_code"], 0, "{what}: {row}");
    }
    // Only its own processes are seen.
    let seen: u32 = output(server, &one, "ls -d /proc/[0-9]* | wc -l")
        .await
        .parse()
        .expect("a number");
    assert!(seen < 40, "{seen}");
    let mounts = output(server, &one, "cat /proc/self/mountinfo").await;
    let scratch = server.scratch().to_string_lossy().into_owned();
    assert!(
        !mounts.contains(&format!("{scratch}/data/hzel.db")),
        "{mounts}"
    );
    drop(host);
}

/// This machine's own addresses, without loopback's.
fn host_addresses() -> Vec<String> {
    let mut command = std::process::Command::new("ip");
    command.args(["-4", "-o", "addr", "show", "scope", "global"]);
    let text = crate::harness::process::run(command, "").ok();
    text.lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .filter_map(|cidr| cidr.split('/').next())
        .map(str::to_owned)
        .collect()
}

/// A fork bomb, a memory hog and a full disk hurt nobody but who has them.
async fn hogs(server: &mut Server) {
    let hog = server
        .admin()
        .post(CONTAINERS, json!({ "hostname": "hog", "memory_mb": 256 }))
        .await
        .str("id");
    wait_for(server, &hog, "running").await;
    let neighbour = running(server, "neighbour").await;

    let row = exec_with(
        server,
        &hog,
        json!({ "command": "b() { b | b & b; }; b", "timeout_seconds": 5 }),
    )
    .await;
    assert_ne!(row["status"], "completed");
    assert_eq!(output(server, &neighbour, "echo well").await, "well");
    server
        .admin()
        .act(&format!("{CONTAINERS}/{hog}/restart"))
        .await
        .data();
    assert_eq!(output(server, &hog, "echo well").await, "well");

    let row = exec_with(
        server,
        &hog,
        json!({ "command": "head -c 2000m /dev/zero | tail -c 1000m | wc -c", "timeout_seconds": 60 }),
    )
    .await;
    assert!(row["stdout"] != "1048576000\n", "{row}");
    assert_eq!(output(server, &neighbour, "echo well").await, "well");
    let row = wait_for_life(server, &hog).await;
    assert!(row == "running" || row == "stopped");
    if row == "stopped" {
        server
            .admin()
            .act(&format!("{CONTAINERS}/{hog}/start"))
            .await
            .data();
    }

    // Sparse, so that the host's disk does not fill: ext4 refuses to promise what it has not.
    let row = exec(server, &hog, "fallocate -l 30G /root/big").await;
    assert_ne!(row["exit_code"], 0, "{row}");
    assert!(
        row["stderr"]
            .as_str()
            .expect("text")
            .contains("No space left"),
        "{row}"
    );
    exec(server, &hog, "rm -f /root/big").await;
    assert_eq!(
        output(server, &hog, "echo room > /root/x && cat /root/x").await,
        "room"
    );
    let row = exec(
        server,
        &hog,
        "fallocate -l 15G /root/big && df --output=pcent / | tail -1",
    )
    .await;
    assert_eq!(row["status"], "completed", "{row}");
    assert_eq!(
        output(server, &neighbour, "echo room > /root/x && cat /root/x").await,
        "room"
    );
}

async fn wait_for_life(server: &Server, id: &str) -> String {
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    server
        .admin()
        .get(&format!("{CONTAINERS}/{id}"))
        .await
        .str("state")
}
