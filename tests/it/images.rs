//! Images: the default one from nothing, and what broken sources do.

use serde_json::json;

use crate::containers::{CONTAINERS, output, running, wait_for};
use crate::harness::{Kind, Options, Server, default_image, eventually, with_server};

on_both_by_hand!(broken_default, default_from_nothing, default_tried_again);
on_both!(more, lacking);

async fn image(server: &Server, name: &str) -> serde_json::Value {
    let list = server.admin().get("/api/v1/images").await;
    let rows = list.data().as_array().expect("a list").clone();
    rows.into_iter()
        .find(|row| row["name"] == name)
        .unwrap_or_default()
}

/// As on a fresh machine: the first container waits for the image that is being made.
async fn default_from_nothing(kind: Kind) {
    let options = Options {
        image: false,
        ..Options::default()
    };
    with_server(kind, options, async |server| {
        let name = default_image();
        let row = image(server, &name).await;
        assert_eq!(row["status"], "preparing", "{row}");
        assert_eq!(row["is_default"], true);
        let made = server
            .admin()
            .post(CONTAINERS, json!({ "hostname": "early" }))
            .await;
        let row = eventually("the image", 300, async || {
            let row = image(server, &name).await;
            assert_ne!(row["status"], "failed", "{row}");
            (row["status"] == "ready").then_some(row)
        })
        .await;
        assert!(
            row["size_bytes"].as_i64().is_some_and(|n| n > 50_000_000),
            "{row}"
        );
        wait_for(server, &made.str("id"), "running").await;
        assert_eq!(output(server, &made.str("id"), "hostname").await, "early");
    })
    .await;
}

async fn broken_default(kind: Kind) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("broken.tar");
    std::fs::write(&path, b"this is no archive").expect("a file");
    let options = Options {
        image: false,
        ..Options::with("HZEL_IMAGE", path.to_string_lossy())
    };
    with_server(kind, options, async |server| {
        let row = eventually("the failure", 60, async || {
            let row = image(server, "broken").await;
            (row["status"] == "failed").then_some(row)
        })
        .await;
        assert!(
            row["error"].as_str().is_some_and(|text| text.len() > 5),
            "{row}"
        );
        let reply = server
            .admin()
            .post(CONTAINERS, json!({ "hostname": "x" }))
            .await;
        reply.is(409, "CONFLICT");
        assert!(reply.message().contains("broken"), "{reply:?}");
        let told = server
            .cli(&["image", "add", "other", "/no/such/file.tar"], "")
            .failed();
        assert!(told.contains("other"), "{told}");
    })
    .await;
}

/// A tar file of a box whose shell is none: all that an image needs.
fn tiny_tar(scratch: &std::path::Path, tar: &std::path::Path) {
    let root = scratch.join("tiny");
    std::fs::create_dir_all(root.join("bin")).expect("a directory");
    let shell = root.join("bin/sh");
    std::fs::write(&shell, "#!/no/such/shell\n").expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&shell, mode).expect("a program");
    let mut command = std::process::Command::new("tar");
    command.arg("-C").arg(&root).arg("-cf").arg(tar).arg(".");
    crate::harness::process::run(command, "").ok();
}

/// A default image that failed is tried again without anybody's doing, a minute later at first.
async fn default_tried_again(kind: Kind) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("late.tar");
    let options = Options {
        image: false,
        ..Options::with("HZEL_IMAGE", path.to_string_lossy())
    };
    with_server(kind, options, async |server| {
        eventually("the failure", 60, async || {
            (image(server, "late").await["status"] == "failed").then_some(())
        })
        .await;
        tiny_tar(dir.path(), &path);
        assert_eq!(image(server, "late").await["status"], "failed");
        eventually("the image", 150, async || {
            (image(server, "late").await["status"] == "ready").then_some(())
        })
        .await;
    })
    .await;
}

/// The end of the making of a container of image `tiny`.
async fn made_from_tiny(server: &Server, hostname: &str) -> serde_json::Value {
    let admin = server.admin();
    let made = admin
        .post(CONTAINERS, json!({ "hostname": hostname, "image": "tiny" }))
        .await;
    let path = format!("{CONTAINERS}/{}", made.str("id"));
    eventually("an end of its making", 60, async || {
        let row = admin.get(&path).await.data().clone();
        (row["state"] != "provisioning").then_some(row)
    })
    .await
}

/// An image that is ready, but not on this machine, as when another server made it.
async fn lacking(server: &mut Server) {
    let tar = server.scratch().join("tiny.tar");
    tiny_tar(server.scratch(), &tar);
    let text = tar.to_string_lossy().into_owned();
    server.cli(&["image", "add", "tiny", &text], "").ok();
    let before = image(server, "tiny").await;
    let files = server.data_dir().join("native/images/tiny");
    std::fs::remove_dir_all(&files).expect("the image's files");

    // It is made here too, and nobody else sees a change.
    let row = made_from_tiny(server, "first").await;
    let why = row["state_reason"].as_str().unwrap_or_default();
    assert!(!why.contains("not available"), "{row}");
    assert!(!why.contains("could not be made"), "{row}");
    assert!(files.join("image.json").is_file());
    assert_eq!(image(server, "tiny").await, before);

    // What has no source any more says so.
    std::fs::remove_dir_all(&files).expect("the image's files");
    std::fs::remove_file(&tar).expect("its source");
    let row = made_from_tiny(server, "second").await;
    assert_eq!(row["state"], "failed", "{row}");
    let why = row["state_reason"].as_str().unwrap_or_default();
    assert!(
        why.starts_with("Image tiny could not be made on this server: "),
        "{row}"
    );
    assert_eq!(image(server, "tiny").await, before);

    // Once it can be had, starting the container makes all that is missing.
    tiny_tar(server.scratch(), &tar);
    let path = format!("{CONTAINERS}/{}/start", row["id"].as_str().expect("an id"));
    let row = server.admin().act(&path).await.data().clone();
    let why = row["state_reason"].as_str().unwrap_or_default();
    assert!(!why.contains("not available"), "{row}");
    assert!(!why.contains("could not be made"), "{row}");
    assert!(files.join("image.json").is_file());
}

async fn more(server: &mut Server) {
    let admin = server.admin();
    let name = default_image();
    running(server, "user").await;
    admin
        .delete(&format!("/api/v1/images/{name}"))
        .await
        .is(409, "CONFLICT");
    for (body, code) in [
        (json!({ "name": "x" }), "BAD_REQUEST"),
        (
            json!({ "name": "A b", "source": "default" }),
            "VALIDATION_FAILED",
        ),
        (
            json!({ "name": "x", "source": "two words" }),
            "VALIDATION_FAILED",
        ),
        (
            json!({ "name": "../x", "source": "default" }),
            "VALIDATION_FAILED",
        ),
    ] {
        admin.post("/api/v1/images", body).await.is(400, code);
    }
    let tar = server.scratch().join("tiny.tar");
    tiny_tar(server.scratch(), &tar);
    let text = tar.to_string_lossy().into_owned();
    // Asked for twice with one key, as after an answer that was lost, it is made once.
    let keyed = admin.with("idempotency-key", "once");
    let body = json!({ "name": "once", "source": text });
    let first = keyed.post("/api/v1/images", body.clone()).await;
    let again = keyed.post("/api/v1/images", body).await;
    assert_eq!(first.data(), again.data());
    let other = json!({ "name": "other", "source": text });
    keyed
        .post("/api/v1/images", other)
        .await
        .is(409, "CONFLICT");
    eventually("it is made", 60, async || {
        (image(server, "once").await["status"] == "ready").then_some(())
    })
    .await;
    admin.delete("/api/v1/images/once").await.data();
    server.cli(&["image", "add", "tiny", &text], "").ok();
    assert!(server.cli(&["image", "list"], "").ok().contains("tiny"));
    // It has a shell that is none: the box says why it cannot be.
    let state = made_from_tiny(server, "tiny").await;
    if state["state"] == "failed" {
        assert!(
            state["state_reason"]
                .as_str()
                .is_some_and(|text| text.len() > 5),
            "{state}"
        );
    }
    let id = state["id"].as_str().expect("an id");
    admin.delete(&format!("{CONTAINERS}/{id}")).await.data();
    server.cli(&["image", "remove", "tiny"], "").ok();
    assert!(!server.cli(&["image", "list"], "").ok().contains("tiny"));
    admin
        .post(CONTAINERS, json!({ "hostname": "x", "image": "tiny" }))
        .await
        .is(400, "VALIDATION_FAILED");
}
