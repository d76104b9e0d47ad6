//! Files of containers: what is put is fetched, and whoever's it is stays so.
//!
//! To add a test: an `async fn` in the file that it is about, and its name in that file's `on_both!`.

mod downloads;
mod lists;
mod refusals;
mod transfers;
mod walls;

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use crate::containers::{CONTAINERS, exec, output, running};
use crate::harness::client::send;
use crate::harness::{Client, Reply, Server};

on_both!(verbs, owners);

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
