//! No path leads out of a box, and archives hold what is in it.

use super::Files;
use std::os::unix::fs::MetadataExt as _;

use futures_util::StreamExt;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::containers::{exec, output, running};
use crate::harness::Server;
use crate::harness::client::send;

on_both!(archives, walls, races);

async fn archives(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "archives").await;
    let files = Files::of(&admin, &id);
    let long = "long-".repeat(40);
    exec(
        server,
        &id,
        &format!(
            "mkdir -p /srv/tree/{long}/{long} && cd /srv/tree && echo deep > {long}/{long}/file && \
             head -c 3000000 /dev/urandom > big && ln -s /etc/passwd link && mkfifo pipe && \
             mkdir empty && chown 1000:1001 big && chmod 640 big && mkdir /srv/tree/many && \
             for n in $(seq 2000); do echo $n > many/$n; done"
        ),
    )
    .await;
    let asked = files.request("GET", &[("path", "/srv/tree")]);
    let answer = asked.header("accept", "application/x-tar").send().await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "application/x-tar");
    assert_eq!(
        answer.headers()["content-disposition"],
        "attachment; filename=\"tree.tar\""
    );
    let bytes = answer.bytes().await.expect("all of it");
    let dir = server.scratch().join("tar");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("x.tar"), &bytes).expect("a file");
    // By the program that people use, as they would.
    let mut untar = std::process::Command::new("tar");
    untar
        .args(["-xpf", "x.tar", "--same-owner"])
        .current_dir(&dir);
    let output_of_tar = crate::harness::process::run(untar, "");
    assert_eq!(output_of_tar.stderr, "");
    output_of_tar.ok();
    let of_host = std::process::Command::new("sh")
        .args([
            "-c",
            "cd tree && find . -type f -print0 | sort -z | xargs -0 sha256sum",
        ])
        .current_dir(&dir)
        .output()
        .expect("sums");
    let inside =
        "cd /srv/tree && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum";
    let sums = Sha256::digest(&of_host.stdout);
    let sums: String = sums.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(output(server, &id, inside).await, format!("{sums}  -"));
    let link = std::fs::read_link(dir.join("tree/link")).expect("a link");
    assert_eq!(link.to_str(), Some("/etc/passwd"));
    assert!(dir.join("tree/empty").is_dir());
    assert!(!dir.join("tree/pipe").exists(), "pipes are left out");
    let big = std::fs::metadata(dir.join("tree/big")).expect("it");
    assert_eq!(
        (big.uid(), big.gid(), big.mode() & 0o777),
        (1000, 1001, 0o640)
    );

    let asked = files.request("GET", &[("path", "/etc/hostname")]);
    let one = send(asked.header("accept", "application/x-tar")).await;
    assert!(one.text.contains("hostname") && one.text.contains("archives\n"));
    // All of the disk, without what the kernel answers.
    let asked = files.request("GET", &[("path", "/")]);
    let whole = asked.header("accept", "application/x-tar").send().await;
    let mut tar = std::process::Command::new("tar")
        .args(["-t"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("tar");
    let mut stdin = tar.stdin.take().expect("a pipe");
    let mut stream = whole.expect("an answer").bytes_stream();
    let feeding = tokio::spawn(async move {
        use std::io::Write as _;
        while let Some(chunk) = stream.next().await {
            stdin
                .write_all(&chunk.expect("a chunk"))
                .expect("tar reads");
        }
    });
    let listed = tokio::task::spawn_blocking(move || tar.wait_with_output().expect("its end"));
    let listed = listed.await.expect("no panic");
    feeding.await.expect("no panic");
    assert!(listed.status.success());
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.lines().any(|line| line == "etc/passwd"));
    assert!(
        !listed
            .lines()
            .any(|line| line.starts_with("proc/self") || line.starts_with("sys/k"))
    );
}

/// Nothing leads out of a container, or to what is no file.
async fn walls(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "walls").await;
    let files = Files::of(&admin, &id);
    let secret = server.scratch().join("host-secret");
    std::fs::write(&secret, "the host's").expect("a file");
    let host = secret.to_string_lossy().into_owned();
    let up = "../".repeat(40);
    exec(
        server,
        &id,
        &format!(
            "ln -s {host} /srv/absolute; ln -s {up}{host} /srv/up; ln -s / /srv/root; \
             ln -s /proc/1/root /srv/magic; ln -s /proc/self/root /srv/own; \
             ln -s loop /srv/loop; ln -s /proc/1/cwd /srv/cwd; mkfifo /srv/pipe; \
             ln -s pipe /srv/to-pipe; ln -s /dev/zero /srv/zero; \
             (echo through > /srv/pipe &) ; \
             perl -MSocket -e 'socket(S,PF_UNIX,SOCK_STREAM,0);bind(S,sockaddr_un(\"/srv/socket\"))'"
        ),
    )
    .await;
    let before = std::fs::read("/etc/shadow").expect("the host's");
    for path in [
        host.clone(),
        format!("/srv/absolute/../../..{host}"),
        "/srv/absolute".into(),
        "/srv/up".into(),
        format!("/{up}{host}"),
        format!("/srv/root/{up}/{host}"),
        format!("/srv/magic{host}"),
        format!("/srv/own{host}"),
        format!("/srv/cwd/{up}{host}"),
        format!("/proc/1/root{host}"),
        format!("/proc/self/root{host}"),
        format!("/proc/1/cwd{host}"),
        format!("/proc/1/task/1/root{host}"),
        "/proc/1/exe".into(),
        "/proc/self/fd/0".into(),
        "/proc/1/fd/0".into(),
        "/srv/loop".into(),
        "/srv/loop/x".into(),
    ] {
        for reply in [files.get(&path).await, files.delete(&path).await] {
            // A link in the container may be deleted there; nothing is ever read by one.
            let harmless = path.starts_with("/srv/") && reply.text.contains("deleted");
            assert!(
                harmless || [400, 404, 409].contains(&reply.status),
                "{path}: {reply:?}"
            );
            assert!(!reply.text.contains("the host's"), "{path}");
        }
        // What is written there is written in the container, or not at all.
        let reply = files.put(&path, "from inside").await;
        assert!(
            [200, 400, 404, 409].contains(&reply.status),
            "{path}: {reply:?}"
        );
        let tar = files.request("GET", &[("path", &path)]);
        let reply = send(tar.header("accept", "application/x-tar")).await;
        assert!(!reply.text.contains("the host's"), "{path}");
    }
    assert_eq!(std::fs::read(&secret).expect("it"), b"the host's");
    assert_eq!(std::fs::read("/etc/shadow").expect("it"), before);
    // The container's own, not the host's.
    let inside = output(server, &id, "sha256sum < /etc/shadow | cut -c1-64").await;
    let got: String = Sha256::digest(files.text("/srv/root/etc/shadow").await.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(got, inside);

    // What talks to somebody is neither opened nor waited for.
    for path in [
        "/srv/pipe",
        "/srv/to-pipe",
        "/srv/socket",
        "/dev/zero",
        "/srv/zero",
        "/dev/null",
        "/dev/ptmx",
        "/dev/tty",
    ] {
        let replies = [
            files.get(path).await,
            files.put(path, "x").await,
            files
                .post("chmod", json!({ "path": path, "mode": "0666" }))
                .await,
        ];
        for reply in replies {
            reply.is(400, "VALIDATION_FAILED");
            assert!(reply.message().starts_with("path: "), "{reply:?}");
        }
    }
    for path in ["/srv/pipe", "/srv/socket", "/dev/zero"] {
        files.delete(path).await.is(400, "VALIDATION_FAILED");
        let reply = files
            .post("move", json!({ "from": path, "to": "/srv/moved" }))
            .await;
        reply.is(400, "VALIDATION_FAILED");
    }
    // Nobody has read the pipe.
    assert_eq!(
        output(server, &id, "timeout 5 cat /srv/pipe").await,
        "through"
    );

    // What the kernel answers can be looked at, and that is all.
    assert!(
        files
            .names("/proc/sys/kernel")
            .await
            .contains(&"panic".to_owned())
    );
    assert!(!files.names("/sys").await.is_empty());
    for path in [
        "/proc/version",
        "/proc/sys/kernel/panic",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/1/mem",
        "/proc/1/oom_score_adj",
        "/sys/kernel/mm/ksm/run",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ] {
        for reply in [
            files.get(path).await,
            files.put(path, "1").await,
            files.delete(path).await,
            files
                .post("chmod", json!({ "path": path, "mode": "0777" }))
                .await,
        ] {
            let refused = matches!(reply.code(), "VALIDATION_FAILED" | "NOT_FOUND" | "CONFLICT");
            assert!(refused, "{path}: {reply:?}");
        }
    }
    for path in ["/proc/x", "/sys/x", "/dev/pts/x"] {
        let reply = files.post("mkdir", json!({ "path": path })).await;
        reply.is(400, "VALIDATION_FAILED");
        files.put(path, "x").await.is(400, "VALIDATION_FAILED");
    }
    for path in ["/", "/.", "/srv/..", "//"] {
        files.delete(path).await.is(400, "VALIDATION_FAILED");
        files.put(path, "x").await.is(400, "VALIDATION_FAILED");
    }
    let all = [("path", "/proc"), ("recursive", "true")];
    let reply = send(files.request("DELETE", &all)).await;
    reply.is(409, "CONFLICT");

    // A tree that is too deep for the server costs it nothing.
    exec(
        server,
        &id,
        "mkdir /srv/deep && cd /srv/deep && for n in $(seq 300); do mkdir d && cd d; done",
    )
    .await;
    let all = [("path", "/srv/deep"), ("recursive", "true")];
    send(files.request("DELETE", &all))
        .await
        .is(409, "CONFLICT");
    let tar = files.request("GET", &[("path", "/srv/deep")]);
    let tar = tar.header("accept", "application/x-tar").send().await;
    let cut = match tar {
        Ok(answer) => answer.bytes().await.is_err(),
        Err(_) => true,
    };
    assert!(cut, "it does not end as if it were whole");
}

/// A directory that turns into a link and back again while paths go through it.
async fn races(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "races").await;
    let files = Files::of(&admin, &id);
    let outside = server.scratch().join("outside");
    std::fs::create_dir(&outside).expect("a directory");
    std::fs::write(outside.join("file"), "the host's").expect("a file");
    let host = outside.to_string_lossy().into_owned();
    exec(
        server,
        &id,
        &format!(
            "mkdir -p /srv/real /srv/tree/a && echo inside > /srv/real/file && \
             ln -s {host} /srv/out && ln -s /proc/1/root{host} /srv/magic && \
             cd /srv && nohup perl -e 'while (1) {{ \
               rename \"real\", \"x\"; rename \"out\", \"real\"; rename \"real\", \"out\"; \
               rename \"magic\", \"real\"; rename \"real\", \"magic\"; rename \"x\", \"real\"; \
               mkdir \"tree/a\"; rename \"tree/a\", \"tree/b\"; symlink \"{host}\", \"tree/a\"; \
               unlink \"tree/a\"; rmdir \"tree/b\" }}' >/dev/null 2>&1 &"
        ),
    )
    .await;
    let mut read = 0;
    for round in 0..150 {
        let reply = files.get("/srv/real/file").await;
        assert!(!reply.text.contains("the host's"), "{reply:?}");
        read += usize::from(reply.text == "inside\n");
        let name = format!("/srv/real/new-{round}");
        assert_ne!(files.put(&name, "new").await.status, 500);
        assert_ne!(files.delete("/srv/real/file2").await.status, 500);
        let all = [("path", "/srv/tree/a"), ("recursive", "true")];
        assert_ne!(send(files.request("DELETE", &all)).await.status, 500);
        let tar = files.request("GET", &[("path", "/srv/tree")]);
        if let Ok(answer) = tar.header("accept", "application/x-tar").send().await {
            let bytes = answer.bytes().await.unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("the host's"));
        }
    }
    assert!(read > 0, "it was there at times");
    let left: Vec<_> = std::fs::read_dir(&outside).expect("it").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(
        std::fs::read(outside.join("file")).expect("it"),
        b"the host's"
    );
}
