//! Files of containers: what is put is fetched, and whoever's it is stays so.

mod lists;
mod transfers;
mod walls;

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};

use self::transfers::noise;
use crate::containers::{CONTAINERS, exec, output, running};
use crate::harness::client::send;
use crate::harness::{Client, Reply, Server, eventually};

on_both!(verbs, downloads, owners, stops, refusals);

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
    // A mode that is given counts, also for the one that is there.
    for mode in ["0755", "600"] {
        let query = [("path", "/srv/tool"), ("mode", mode)];
        let made = send(files.request("PUT", &query).body("#!/bin/sh\n")).await;
        assert_eq!(made.data()["mode"], format!("{mode:0>4}"));
    }
    for mode in ["rwx", "", "888", "00755"] {
        let query = [("path", "/srv/tool"), ("mode", mode)];
        let reply = send(files.request("PUT", &query).body("x")).await;
        reply.is(400, "VALIDATION_FAILED");
        assert!(reply.message().starts_with("mode"), "{reply:?}");
    }
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
    // What is wrong with the new place is said of that.
    let reply = files
        .post("move", json!({ "from": "/root/mine", "to": "/proc/mine" }))
        .await;
    assert!(reply.message().starts_with("to:"), "{reply:?}");
    let reply = files
        .post(
            "move",
            json!({ "from": "/proc/uptime", "to": "/root/mine2" }),
        )
        .await;
    assert!(!reply.message().starts_with("to:"), "{reply:?}");
    // What is mounted stays where it is, whoever asks.
    for path in ["/proc", "/sys", "/dev"] {
        let moved = json!({ "from": path, "to": "/elsewhere" });
        files.post("move", moved).await.is(409, "CONFLICT");
        files.delete(path).await.is(409, "CONFLICT");
    }
    files
        .post("mkdir", json!({ "path": "/root/empty" }))
        .await
        .data();
    let over = json!({ "from": "/root/empty", "to": "/proc", "overwrite": true });
    let reply = files.post("move", over).await;
    assert!(reply.status == 409, "{reply:?}");
    assert_eq!(
        output(server, &id, "ls /proc/self/exe").await,
        "/proc/self/exe"
    );
    // A slash at the end names a directory.
    files.delete("/root/mine/").await.is(404, "NOT_FOUND");
    let reply = files
        .post(
            "move",
            json!({ "from": "/root/mine", "to": "/root/other/" }),
        )
        .await;
    reply.is(404, "NOT_FOUND");
    // A directory and a file do not take each other's place.
    let over = json!({ "from": "/root/empty", "to": "/root/mine", "overwrite": true });
    files.post("move", over).await.is(409, "CONFLICT");
    let made = json!({ "path": "/root/mine", "parents": true });
    files.post("mkdir", made).await.is(409, "CONFLICT");
    files
        .post("mkdir", json!({ "path": "/", "parents": true }))
        .await
        .data();
    // A name that is not UTF-8 is refused, rather than taken for another one.
    let reply = admin
        .get(&format!("{CONTAINERS}/{id}/files?path=/root/%ff"))
        .await;
    reply.is(400, "BAD_REQUEST");
    let reply = files.put("/root/", "x").await;
    reply.is(400, "VALIDATION_FAILED");
    let reply = send(files.request("GET", &[("path", "/"), ("limit", "0")])).await;
    reply.is(400, "VALIDATION_FAILED");
    let reply = send(files.request("GET", &[("path", "/"), ("cursor", "%")])).await;
    reply.is(400, "VALIDATION_FAILED");
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
