//! Files of containers: what is put is fetched, whoever's it is stays so, and no path leads out.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::containers::{CONTAINERS, exec, output, running};
use crate::harness::client::{send, try_send};
use crate::harness::{Client, Reply, Server, Tree, eventually};

on_both!(
    verbs, downloads, archives, owners, walls, races, full, large, broken, stops, refusals
);

/// One container's files, for one client.
struct Files<'a> {
    client: &'a Client,
    base: String,
}

impl<'a> Files<'a> {
    fn of(client: &'a Client, id: &str) -> Self {
        Self {
            client,
            base: format!("{CONTAINERS}/{id}/files"),
        }
    }

    fn request(&self, method: &str, query: &[(&str, &str)]) -> reqwest::RequestBuilder {
        self.client.request(method, &self.base).query(query)
    }

    async fn get(&self, path: &str) -> Reply {
        send(self.request("GET", &[("path", path)])).await
    }

    async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        send(self.request("PUT", &[("path", path)]).body(body)).await
    }

    async fn delete(&self, path: &str) -> Reply {
        send(self.request("DELETE", &[("path", path)])).await
    }

    async fn post(&self, verb: &str, body: Value) -> Reply {
        self.client
            .post(&format!("{}/{verb}", self.base), body)
            .await
    }

    /// The content of a file that is there.
    async fn text(&self, path: &str) -> String {
        let reply = self.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.text
    }

    /// A directory's names.
    async fn names(&self, path: &str) -> Vec<String> {
        let reply = self.get(path).await;
        let rows = reply.data().as_array().expect("a list").clone();
        rows.iter()
            .map(|row| row["name"].as_str().expect("a name").to_owned())
            .collect()
    }
}

async fn verbs(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "verbs").await;
    let files = Files::of(&admin, &id);

    let made = files.put("/root/hello.txt", "good day\n").await;
    let row = made.data();
    assert_eq!(
        (&row["name"], &row["kind"], &row["size"], &row["mode"]),
        (
            &json!("hello.txt"),
            &json!("file"),
            &json!(9),
            &json!("0644")
        )
    );
    assert_eq!((&row["uid"], &row["gid"]), (&json!(0), &json!(0)));
    assert_eq!(output(server, &id, "cat /root/hello.txt").await, "good day");
    assert_eq!(files.text("/root/hello.txt").await, "good day\n");
    files.put("/root/hello.txt", "").await.data();
    assert_eq!(files.text("/root/hello.txt").await, "");
    let name = "/root/ä ö & ? # % + \u{1f980}.bin";
    files.put(name, vec![0_u8, 255, 10]).await.data();
    assert_eq!(output(server, &id, "ls /root | grep -c 🦀").await, "1");
    assert_eq!(files.get(name).await.header("content-length"), "3");

    let list = files.get("/root").await;
    let row = &list.data()[0];
    let mut fields: Vec<&String> = row.as_object().expect("an object").keys().collect();
    fields.sort();
    assert_eq!(
        fields,
        ["gid", "kind", "mode", "modified_at", "name", "size", "uid"]
    );
    assert!(files.names("/").await.contains(&"etc".to_owned()));
    let reply = send(admin.request("GET", &files.base)).await;
    assert_eq!(
        reply.data(),
        files.get("/").await.data(),
        "no path is the root"
    );

    let made = files.post("mkdir", json!({ "path": "/srv/a" })).await;
    assert_eq!(made.data()["mode"], "0755");
    files
        .post("mkdir", json!({ "path": "/srv/a" }))
        .await
        .is(409, "CONFLICT");
    files
        .post("mkdir", json!({ "path": "/srv/a", "parents": true }))
        .await
        .data();
    files
        .post("mkdir", json!({ "path": "/srv/x/y/z" }))
        .await
        .is(404, "NOT_FOUND");
    files
        .post("mkdir", json!({ "path": "/srv/x/y/z", "parents": true }))
        .await
        .data();
    assert_eq!(output(server, &id, "stat -c %a /srv/x/y/z").await, "755");

    files.put("/srv/one", "one").await.data();
    files.put("/srv/two", "two").await.data();
    let to_two = json!({ "from": "/srv/one", "to": "/srv/two" });
    files.post("move", to_two).await.is(409, "CONFLICT");
    let over = json!({ "from": "/srv/one", "to": "/srv/two", "overwrite": true });
    assert_eq!(files.post("move", over).await.data(), "moved");
    assert_eq!(files.text("/srv/two").await, "one");
    files.get("/srv/one").await.is(404, "NOT_FOUND");
    let into_itself = json!({ "from": "/srv/x", "to": "/srv/x/y/inside" });
    let reply = files.post("move", into_itself).await;
    reply.is(400, "VALIDATION_FAILED");
    files
        .post("move", json!({ "from": "/srv/x", "to": "/srv/renamed" }))
        .await
        .data();
    // A directory of the image, too.
    files
        .post("move", json!({ "from": "/var/mail", "to": "/srv/mail" }))
        .await
        .data();

    let reply = files
        .post("chmod", json!({ "path": "/srv/two", "mode": "0600" }))
        .await;
    assert_eq!(reply.data()["mode"], "0600");
    files
        .post("chmod", json!({ "path": "/srv/two", "mode": "4751" }))
        .await
        .data();
    assert_eq!(output(server, &id, "stat -c %a /srv/two").await, "4751");
    for mode in ["", "9", "0888", "rw-r--r--", "00644"] {
        let reply = files
            .post("chmod", json!({ "path": "/srv/two", "mode": mode }))
            .await;
        reply.is(400, "VALIDATION_FAILED");
        assert!(reply.message().starts_with("mode must be"), "{reply:?}");
    }

    files.delete("/srv/renamed").await.is(409, "CONFLICT");
    let all = [("path", "/srv/renamed"), ("recursive", "true")];
    assert_eq!(send(files.request("DELETE", &all)).await.data(), "deleted");
    assert_eq!(files.delete("/srv/two").await.data(), "deleted");
    files.delete("/srv/two").await.is(404, "NOT_FOUND");
    files.delete("/srv/a").await.data();
    exec(
        server,
        &id,
        "mkdir -p /srv/t/a/b && touch /srv/t/a/b/c && ln -s /etc /srv/t/etc",
    )
    .await;
    let all = [("path", "/srv/t/"), ("recursive", "true")];
    send(files.request("DELETE", &all)).await.data();
    assert_eq!(
        output(server, &id, "ls -d /etc/passwd /srv/*").await,
        "/etc/passwd\n/srv/mail"
    );

    // A link is what it leads to when it is read or written, and itself when it is moved.
    exec(
        server,
        &id,
        "mkdir /srv/d && ln -s d/file /srv/link && ln -s nowhere /srv/dangling",
    )
    .await;
    files.put("/srv/link", "through").await.data();
    assert_eq!(files.text("/srv/d/file").await, "through");
    assert_eq!(output(server, &id, "readlink /srv/link").await, "d/file");
    files.put("/srv/dangling", "made").await.data();
    assert_eq!(files.text("/srv/nowhere").await, "made");
    let rows = files.get("/srv").await;
    let rows = rows.data().as_array().expect("a list").clone();
    let link = rows.iter().find(|row| row["name"] == "link").expect("it");
    assert_eq!(
        (&link["kind"], &link["target"]),
        (&json!("symlink"), &json!("d/file"))
    );
    files.delete("/srv/link").await.data();
    assert_eq!(files.text("/srv/d/file").await, "through");
    files.put("/srv/d", "x").await.is(409, "CONFLICT");

    assert!(audited(server, "file.upload", "success", "/srv/link"));
    assert!(audited(server, "file.upload", "failure", "/srv/d"));
    assert!(audited(server, "file.delete", "success", "/srv/two"));
    assert!(audited(server, "file.delete", "failure", "/srv/renamed"));
    assert!(audited(server, "file.move", "failure", "/srv/one"));
    assert!(audited(server, "file.mkdir", "failure", "/srv/x/y/z"));
    assert!(audited(server, "file.chmod", "success", "/srv/two"));
    // What failed is told once: the gate, which knows no paths, keeps quiet of it.
    assert!(!logged(
        server,
        "file.upload",
        "failure",
        "NOT LIKE '%\"path\":%'"
    ));
}

/// Whether the log tells of that.
fn audited(server: &Server, action: &str, outcome: &str, path: &str) -> bool {
    logged(
        server,
        action,
        outcome,
        &format!("LIKE '%\"path\":\"{path}\"%'"),
    )
}

fn logged(server: &Server, action: &str, outcome: &str, rule: &str) -> bool {
    let sql = format!(
        "UPDATE settings SET value = value WHERE EXISTS (SELECT 1 FROM audit_logs WHERE \
         action = '{action}' AND outcome = '{outcome}' AND metadata {rule})"
    );
    server.database.execute(&sql).expect("a look") > 0
}

async fn downloads(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "downloads").await;
    let files = Files::of(&admin, &id);
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    files.put("/root/bytes", content.clone()).await.data();
    let ask = |headers: &[(&'static str, String)]| {
        let mut request = files.request("GET", &[("path", "/root/bytes")]);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        async { request.send().await.expect("an answer") }
    };
    let whole = ask(&[]).await;
    let header = |answer: &reqwest::Response, name: &str| {
        let value = answer.headers().get(name);
        value.map_or("", |v| v.to_str().expect("text")).to_owned()
    };
    assert_eq!(header(&whole, "content-length"), "1000000");
    assert_eq!(header(&whole, "content-type"), "application/octet-stream");
    assert_eq!(header(&whole, "x-content-type-options"), "nosniff");
    assert_eq!(
        header(&whole, "content-disposition"),
        "attachment; filename=\"bytes\""
    );
    assert!(header(&whole, "content-security-policy").contains("default-src 'none'"));
    let etag = header(&whole, "etag");
    assert_eq!(whole.bytes().await.expect("all of it"), content);

    let part = ask(&[("range", "bytes=500000-500009".into())]).await;
    assert_eq!(part.status().as_u16(), 206);
    assert_eq!(
        header(&part, "content-range"),
        "bytes 500000-500009/1000000"
    );
    assert_eq!(part.bytes().await.expect("it"), content[500_000..500_010]);
    let part = ask(&[("range", "bytes=-5".into()), ("if-range", etag.clone())]).await;
    assert_eq!(part.bytes().await.expect("it"), content[999_995..]);
    let whole = ask(&[
        ("range", "bytes=5-".into()),
        ("if-range", "\"other\"".into()),
    ])
    .await;
    assert_eq!(whole.status().as_u16(), 200);
    assert_eq!(
        ask(&[("if-none-match", etag.clone())])
            .await
            .status()
            .as_u16(),
        304
    );
    files.put("/root/bytes", "other").await.data();
    assert_eq!(ask(&[("if-none-match", etag)]).await.status().as_u16(), 200);
    let head = files.request("HEAD", &[("path", "/root/bytes")]);
    let head = head.send().await.expect("an answer");
    assert_eq!(header(&head, "content-length"), "5");

    // What a tenant wrote is never a page of ours.
    files
        .put("/root/x.html", "<script>alert(1)</script>")
        .await
        .data();
    let page = files.get("/root/x.html").await;
    assert_eq!(page.header("content-type"), "application/octet-stream");
    assert!(page.header("content-disposition").starts_with("attachment"));
    files.put("/root/\"q\".txt", "q").await.data();
    let quoted = files.get("/root/\"q\".txt").await;
    assert_eq!(
        quoted.header("content-disposition"),
        "attachment; filename=\"_q_.txt\""
    );
}

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

async fn owners(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "owners").await;
    let files = Files::of(&admin, &id);
    exec(
        server,
        &id,
        "useradd -m -u 1000 ada; install -o ada -m 600 /dev/null /home/ada/secret; \
         echo mine > /home/ada/secret; chmod 700 /home/ada",
    )
    .await;
    // Root in a container may do everything there, whoever owns it.
    assert_eq!(files.text("/home/ada/secret").await, "mine\n");
    files.put("/home/ada/secret", "changed").await.data();
    assert_eq!(
        output(
            server,
            &id,
            "stat -c '%u %g %a' /home/ada/secret; cat /home/ada/secret"
        )
        .await,
        "1000 0 600\nchanged"
    );
    let query = [("path", "/home/ada/new"), ("uid", "1000"), ("gid", "1000")];
    let made = send(files.request("PUT", &query).body("x")).await;
    assert_eq!(made.data()["uid"], 1000);
    files.put("/home/ada/roots", "x").await.data();
    assert_eq!(
        output(
            server,
            &id,
            "stat -c '%u %g %a' /home/ada/new /home/ada/roots"
        )
        .await,
        "1000 1000 644\n0 0 644"
    );
    let rows = files.get("/home/ada").await;
    let rows = rows.data().as_array().expect("a list").clone();
    let secret = rows.iter().find(|row| row["name"] == "secret").expect("it");
    assert_eq!(
        secret["uid"], 1000,
        "the container's number, not the host's"
    );
    // Set-id bits are kept with the file, and not given by a change of owner.
    exec(
        server,
        &id,
        "cp /bin/true /srv/tool && chmod 4755 /srv/tool",
    )
    .await;
    files.put("/srv/tool", "#!/bin/sh\n").await.data();
    assert_eq!(output(server, &id, "stat -c %a /srv/tool").await, "4755");
    for (uid, gid) in [("65536", "0"), ("-1", "0"), ("0", "99999999999999999999")] {
        let query = [("path", "/srv/x"), ("uid", uid), ("gid", gid)];
        let reply = send(files.request("PUT", &query).body("x")).await;
        reply.is(400, "VALIDATION_FAILED");
    }
    let query = [("path", "/srv/x"), ("uid", "ada")];
    send(files.request("PUT", &query).body("x"))
        .await
        .is(400, "BAD_REQUEST");
    // No file of a container's is the host's root's, whatever was done to it.
    let pid = crate::isolation::init_pid(server);
    for path in ["/home/ada/new", "/home/ada/roots", "/srv/tool"] {
        let seen = std::fs::metadata(format!("/proc/{pid}/root{path}")).expect("it");
        assert!(seen.uid() >= 65_536, "{path}");
    }
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

/// A full disk is the container's own trouble, and is told so.
async fn full(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "full").await;
    let files = Files::of(&admin, &id);
    files.put("/root/kept", "as it was").await.data();
    // Promised, not written: the host's disk stays as it is.
    exec(
        server,
        &id,
        "free=$(df --output=avail -k / | tail -1); fallocate -l $((free - 4096))K /root/filler",
    )
    .await;
    let reply = files.put("/root/kept", vec![7_u8; 20 << 20]).await;
    reply
        .is(409, "CONFLICT")
        .says("The container's disk is full");
    assert_eq!(files.text("/root/kept").await, "as it was");
    assert_eq!(
        output(server, &id, "ls -A /root | grep -c hzel || true").await,
        "0"
    );
    exec(server, &id, "rm /root/filler").await;
    files.put("/root/kept", vec![7_u8; 20 << 20]).await.data();
    // Memory that is mounted as a directory has its own bounds.
    let reply = files.put("/dev/big", vec![7_u8; 4 << 20]).await;
    reply
        .is(409, "CONFLICT")
        .says("The container's disk is full");
}

/// A MiB, the same at every run.
fn noise_block() -> Bytes {
    let bytes = (0..1 << 20).scan(1_u64, |state, _| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        Some((*state & 0xff) as u8)
    });
    bytes.collect::<Vec<u8>>().into()
}

/// That many of it.
fn noise(megabytes: usize) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
    let block = noise_block();
    futures_util::stream::iter((0..megabytes).map(move |_| Ok(block.clone())))
}

/// What `sha256sum` says of `times` times `block`.
fn sum_of(block: &[u8], times: usize) -> String {
    use std::io::Write as _;
    let mut program = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sha256sum");
    let mut stdin = program.stdin.take().expect("a pipe");
    for _ in 0..times {
        stdin.write_all(block).expect("it reads");
    }
    drop(stdin);
    let said = program.wait_with_output().expect("its end").stdout;
    String::from_utf8_lossy(&said).trim().to_owned()
}

async fn large(server: &mut Server) {
    const MEGABYTES: usize = 300;
    let admin = server.admin();
    let id = running(server, "large").await;
    let files = Files::of(&admin, &id);
    let before = Tree::resident_mib(server.pid());
    let most = Arc::new(AtomicU64::new(0));
    let watch = tokio::spawn({
        let (pid, most) = (server.pid(), Arc::clone(&most));
        async move {
            loop {
                most.fetch_max(Tree::resident_mib(pid), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let body = reqwest::Body::wrap_stream(noise(MEGABYTES));
    files.put("/root/large", body).await.data();
    let inside = output(server, &id, "sha256sum < /root/large").await;
    let block = noise_block();
    assert_eq!(inside, sum_of(&block, MEGABYTES));

    let answer = files
        .request("GET", &[("path", "/root/large")])
        .send()
        .await;
    let mut stream = answer.expect("an answer").bytes_stream();
    let mut size = 0;
    while let Some(chunk) = stream.next().await {
        let mut chunk = chunk.expect("a chunk");
        while !chunk.is_empty() {
            let at = size % block.len();
            let piece = chunk.split_to(chunk.len().min(block.len() - at));
            assert!(piece == block[at..at + piece.len()], "at {size}");
            size += piece.len();
        }
    }
    assert_eq!(size, MEGABYTES << 20);

    // Someone who reads nothing costs next to nothing.
    let slow = files
        .request("GET", &[("path", "/root/large")])
        .send()
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(slow);
    watch.abort();
    let most = most.load(Ordering::Relaxed);
    assert!(
        most > 0 && most < before + 60,
        "from {before} to {most} MiB"
    );
}

/// Uploads that break off, by the client's doing and by the server's.
async fn broken(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "broken").await;
    let files = Files::of(&admin, &id);
    files.put("/root/file", "as it was").await.data();
    let endless = || {
        let first =
            futures_util::stream::iter((0..40).map(|_| Ok(Bytes::from(vec![1_u8; 1 << 18]))));
        let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        reqwest::Body::wrap_stream(first.chain(never))
    };
    let mut cut = Box::pin(
        files
            .request("PUT", &[("path", "/root/file")])
            .body(endless())
            .send(),
    );
    let waiting = tokio::time::timeout(Duration::from_secs(2), &mut cut).await;
    assert!(waiting.is_err(), "it goes on");
    assert_eq!(files.text("/root/file").await, "as it was");
    drop(cut);
    eventually("the end of the upload", 20, async || {
        audited(server, "file.upload", "failure", "/root/file").then_some(())
    })
    .await;
    assert_eq!(files.text("/root/file").await, "as it was");
    assert_eq!(
        output(server, &id, "ls -A /root | grep -v '^\\.[bp]'").await,
        "file"
    );
    let room = "df --output=used -m / | tail -1";
    let used: u64 = output(server, &id, room)
        .await
        .trim()
        .parse()
        .expect("a number");

    for _ in 0..3 {
        let request = files
            .request("PUT", &[("path", "/root/file")])
            .body(endless());
        let upload = tokio::spawn(async move { try_send(request).await });
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.kill();
        assert!(upload.await.expect("no panic").is_none());
        server.launch().await;
    }
    assert_eq!(files.text("/root/file").await, "as it was");
    assert_eq!(
        output(server, &id, "ls -A /root | grep -v '^\\.[bp]'").await,
        "file"
    );
    let after: u64 = output(server, &id, room)
        .await
        .trim()
        .parse()
        .expect("a number");
    assert!(after <= used + 2, "from {used} to {after} MiB");
    // And it can be put whole at last.
    files.put("/root/file", "whole").await.data();
    assert_eq!(files.text("/root/file").await, "whole");
}

/// A container that stops takes its transfers along, so that its disk is free for the next start.
async fn stops(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "stops").await;
    let files = Files::of(&admin, &id);
    let body = reqwest::Body::wrap_stream(noise(64));
    files.put("/root/large", body).await.data();
    let answer = files
        .request("GET", &[("path", "/root/large")])
        .send()
        .await;
    let mut download = answer.expect("an answer").bytes_stream();
    download.next().await.expect("a chunk").expect("a chunk");
    let first = futures_util::stream::iter([Ok(Bytes::from(vec![1_u8; 1 << 20]))]);
    let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
    let body = reqwest::Body::wrap_stream(first.chain(never));
    let request = files.request("PUT", &[("path", "/root/half")]).body(body);
    let upload = tokio::spawn(async move { request.send().await });
    tokio::time::sleep(Duration::from_millis(500)).await;

    admin.act(&format!("{CONTAINERS}/{id}/stop")).await.data();
    let data = server.data_dir().to_string_lossy().into_owned();
    eventually("a free disk", 10, async || {
        let mut command = std::process::Command::new("losetup");
        command.args(["-n", "-O", "BACK-FILE"]);
        let loops = crate::harness::process::run(command, "").stdout;
        (!loops.contains(&data)).then_some(())
    })
    .await;
    let mut rest = 0;
    let cut = loop {
        match download.next().await {
            Some(Ok(chunk)) => rest += chunk.len(),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(cut, "{rest} bytes came as if that were all");
    upload.abort();
    for reply in [
        files.get("/root/large").await,
        files.put("/root/x", "x").await,
        files.delete("/root/large").await,
        files.post("mkdir", json!({ "path": "/root/x" })).await,
    ] {
        reply
            .is(409, "CONFLICT")
            .says("The container is not running");
    }
    admin.act(&format!("{CONTAINERS}/{id}/start")).await.data();
    assert_eq!(
        output(server, &id, "stat -c %s /root/large; ls /root").await,
        "67108864\nlarge"
    );
}

async fn refusals(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "refusals").await;
    let files = Files::of(&admin, &id);
    files.put("/root/mine", "mine").await.data();
    let stranger = server.user("stranger@example.org");
    let theirs = Files::of(&stranger, &id);
    for reply in [
        theirs.get("/root/mine").await,
        theirs.put("/root/mine", "theirs").await,
        theirs.delete("/root/mine").await,
        theirs.post("mkdir", json!({ "path": "/x" })).await,
        theirs
            .post("move", json!({ "from": "/root/mine", "to": "/x" }))
            .await,
        theirs
            .post("chmod", json!({ "path": "/root/mine", "mode": "0777" }))
            .await,
    ] {
        reply.is(403, "FORBIDDEN");
    }
    for scope in ["containers:read", "containers:write", "commands", "profile"] {
        let token = server.token_of(crate::harness::ADMIN, &["--scopes", scope]);
        let limited = server.anonymous().bearer(&token);
        let reply = Files::of(&limited, &id).get("/root/mine").await;
        reply
            .is(403, "FORBIDDEN")
            .says("This token lacks the scope terminal");
    }
    let token = server.token_of(crate::harness::ADMIN, &["--scopes", "terminal"]);
    let limited = server.anonymous().bearer(&token);
    assert_eq!(Files::of(&limited, &id).text("/root/mine").await, "mine");
    let session = server.sign_in(crate::harness::ADMIN).await;
    let by_cookie = Files::of(&session.client, &id);
    assert_eq!(by_cookie.text("/root/mine").await, "mine");
    by_cookie
        .put("/root/mine", "x")
        .await
        .is(403, "CSRF_REJECTED");
    let writing = session.writing();
    Files::of(&writing, &id)
        .put("/root/mine", "mine")
        .await
        .data();

    let nobody = "00000000-0000-7000-8000-000000000000";
    let reply = Files::of(&admin, nobody).get("/x").await;
    reply.is(404, "CONTAINER_NOT_FOUND");
    let reply = Files::of(&admin, "abc123").put("/x", "x").await;
    reply.is(404, "CONTAINER_NOT_FOUND");
    let long = format!("/{}", "a/".repeat(2100));
    let longer = format!("/{}", "a".repeat(300));
    for path in ["", "root/mine", "./x", "/a\0b", &long, &longer] {
        for reply in [files.get(path).await, files.put(path, "x").await] {
            reply.is(400, "VALIDATION_FAILED");
            assert!(reply.message().starts_with("path"), "{reply:?}");
        }
    }
    let reply = send(files.request("PUT", &[]).body("x")).await;
    reply.is(400, "BAD_REQUEST").says("path is required");
    let reply = files.post("move", json!({ "from": "/x" })).await;
    reply.is(400, "BAD_REQUEST").says("to is required");
    files.get("/root/nothing").await.is(404, "NOT_FOUND");
    files.get("/etc/passwd/x").await.is(404, "NOT_FOUND");
    files.put("/no/such/place", "x").await.is(404, "NOT_FOUND");
    let request = files.request("PUT", &[("path", "/root/x")]);
    let reply = send(request.header("content-encoding", "gzip").body("x")).await;
    reply.is(415, "UNSUPPORTED_MEDIA_TYPE");
    // A key is of no use here, and does no harm.
    let keyed = admin.with("idempotency-key", "one");
    let keyed = Files::of(&keyed, &id);
    keyed.put("/root/keyed", "one").await.data();
    keyed.put("/root/keyed", "two").await.data();
    assert_eq!(files.text("/root/keyed").await, "two");

    // The limit is the configuration's, whether the size is announced or not.
    server.stop().await;
    server.set_env("HZEL_UPLOAD_LIMIT_MB", "3");
    server.launch().await;
    files.put("/root/three", vec![1_u8; 3 << 20]).await.data();
    let reply = files.put("/root/four", vec![1_u8; (3 << 20) + 1]).await;
    reply
        .is(413, "PAYLOAD_TOO_LARGE")
        .says("The request body must not be larger than 3145728 bytes");
    let body = reqwest::Body::wrap_stream(noise(4));
    files
        .put("/root/four", body)
        .await
        .is(413, "PAYLOAD_TOO_LARGE");
    files.get("/root/four").await.is(404, "NOT_FOUND");
    assert!(audited(server, "file.upload", "failure", "/root/four"));
}
