//! What a download says of itself, parts of one, and its end with the container.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;

use super::Files;
use super::transfers::noise;
use crate::containers::{CONTAINERS, output, running};
use crate::harness::{Server, eventually};

on_both!(downloads, stops);

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
    let nothing = ask(&[("range", "bytes=1000000-".into())]).await;
    assert_eq!(nothing.status().as_u16(), 416);
    assert_eq!(header(&nothing, "content-range"), "bytes */1000000");
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
