//! What surrounds the server is broken: it says so in a sentence, and goes on when it can.

use std::os::unix::process::CommandExt;

use serde_json::json;

use crate::containers::{CONTAINERS, running};
use crate::harness::{Kind, Leftovers, Options, Server, eventually, process, with_server};

on_both!(starts, database_gone);
on_both_by_hand!(no_oci_runtime, not_root);

/// The port is taken; a value is bad; another server has the data directory.
async fn starts(server: &mut Server) {
    let second = server.cli(&["serve"], "").failed();
    assert!(
        second.contains("HZEL_LISTEN") && second.contains("another program"),
        "{second}"
    );
    for (name, value) in [
        ("HZEL_LISTEN", "8080"),
        ("HZEL_LISTEN", "300.1.1.1:80"),
        ("HZEL_PUBLIC_URL", "cloud"),
        ("HZEL_PUBLIC_URL", "ftp://x"),
        ("HZEL_DATA_DIR", "relative"),
        ("DATABASE_URL", "mysql://x"),
        ("HZEL_RUNTIME", "docker"),
        ("HZEL_IMAGE", "two words"),
        ("HZEL_TRUSTED_PROXIES", "localhost"),
        ("HZEL_RATE_LIMIT", "maybe"),
        ("HZEL_LOG", "a=b=c"),
        ("HZEL_SIGNUP", "maybe"),
    ] {
        let mut command = server.command(&["serve"]);
        command.env(name, value);
        let told = process::run(command, "").failed();
        assert!(
            told.starts_with("hzel: ") && told.contains(name),
            "{name}={value}: {told}"
        );
        assert_eq!(told.trim().lines().count(), 1, "{name}={value}: {told}");
    }
    let mut command = server.command(&["serve"]);
    command.env("HZEL_LISTEN", "127.0.0.1:0");
    command.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    let told = process::run(command, "").failed();
    assert!(told.contains("DATABASE_URL"), "{told}");
    let doctor = server.cli(&["doctor"], "");
    assert!(doctor.stdout.contains("database"), "{doctor:?}");
}

/// The database goes away and comes back.
async fn database_gone(server: &mut Server) {
    let id = running(server, "waits").await;
    let admin = server.admin();
    let token = json!({ "name": "during" });
    let refused = match server.database.kind {
        Kind::Sqlite => {
            let lock = server.database.lock();
            let refused = admin.post("/api/v1/tokens", token.clone()).await;
            // Reading goes on meanwhile.
            assert_eq!(admin.get(CONTAINERS).await.status, 200);
            drop(lock);
            refused
        }
        Kind::Postgres => {
            server.database.shut();
            let refused = admin.post("/api/v1/tokens", token.clone()).await;
            admin.get("/readyz").await.is(500, "INTERNAL_ERROR");
            assert_eq!(server.anonymous().get("/healthz").await.status, 200);
            server.database.open();
            refused
        }
    };
    refused.is(500, "INTERNAL_ERROR");
    assert!(
        refused.message().contains(refused.header("x-request-id")),
        "{refused:?}"
    );
    assert!(refused.message().contains("Contact support"), "{refused:?}");
    let made = eventually("a recovery", 40, async || {
        let reply = admin.post("/api/v1/tokens", token.clone()).await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    server.secret(&made.str("token"));
    let row = admin.get(&format!("{CONTAINERS}/{id}")).await;
    assert_eq!(row.data()["state"], "running");
    assert_eq!(
        crate::containers::output(server, &id, "echo well").await,
        "well"
    );
}

async fn no_oci_runtime(kind: Kind) {
    let options = Options::with("HZEL_OCI_RUNTIME", "/no/such/runtime");
    with_server(kind, options, async |server| {
        cannot_run(server, "/no/such/runtime").await;
        // It is installed: what failed can be had now.
        server.stop().await;
        server.set_env("HZEL_OCI_RUNTIME", "auto");
        server.launch().await;
        assert_eq!(server.anonymous().get("/readyz").await.status, 200);
        let list = server.admin().get(CONTAINERS).await;
        if let Some(id) = list.data()[0]["id"].as_str() {
            let path = format!("{CONTAINERS}/{id}/start");
            assert_eq!(server.admin().act(&path).await.data()["state"], "running");
        }
    })
    .await;
}

async fn cannot_run(server: &Server, word: &str) {
    let nobody = server.anonymous();
    let reply = nobody.get("/readyz").await;
    reply.is(503, "RUNTIME_UNAVAILABLE");
    assert!(!reply.header("retry-after").is_empty());
    assert_eq!(nobody.get("/healthz").await.status, 200);
    let made = server
        .admin()
        .post(CONTAINERS, json!({ "hostname": "x" }))
        .await;
    if made.status == 200 {
        let row = crate::containers::wait_for(server, &made.str("id"), "failed").await;
        assert!(
            row["state_reason"]
                .as_str()
                .is_some_and(|text| text.len() > 10),
            "{row}"
        );
    } else {
        made.is(503, "RUNTIME_UNAVAILABLE");
    }
    let doctor = server.cli(&["doctor"], "");
    assert_ne!(doctor.code, Some(0), "{doctor:?}");
    assert!(
        doctor.stdout.contains("broken") && doctor.stdout.contains(word),
        "{doctor:?}"
    );
}

/// Someone tries it without being root: everything but containers works.
async fn not_root(kind: Kind) {
    let options = Options {
        image: false,
        ..Options::default()
    };
    let mut server = Server::prepare(kind, options);
    let mut command = std::process::Command::new("chown");
    command.args(["-R", "65534:65534"]).arg(server.scratch());
    process::run(command, "").ok();
    server.run_as(65534);
    server.launch().await;
    let name = crate::harness::default_image();
    let row = eventually("the image's failure", 60, async || {
        let list = server.admin().get("/api/v1/images").await;
        let rows = list.data().as_array().expect("a list").clone();
        let row = rows.into_iter().find(|row| row["name"] == name.as_str())?;
        (row["status"] != "preparing").then_some(row)
    })
    .await;
    assert_eq!(row["status"], "failed", "{row}");
    assert!(
        row["error"].as_str().is_some_and(|text| text.len() > 5),
        "{row}"
    );
    server
        .anonymous()
        .get("/readyz")
        .await
        .is(503, "RUNTIME_UNAVAILABLE");
    let mut command = server.command(&["doctor"]);
    command.uid(65534).gid(65534);
    let doctor = process::run(command, "");
    assert_ne!(doctor.code, Some(0), "{doctor:?}");
    assert!(doctor.stdout.contains("root"), "{doctor:?}");
    assert_eq!(server.admin().get(CONTAINERS).await.status, 200);
    server.stop().await;
    assert_eq!(Leftovers::of(&server.data_dir()), Leftovers::default());
}
