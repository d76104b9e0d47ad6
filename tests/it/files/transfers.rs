//! Large files, full disks, and transfers that break off.

use super::{Files, audited};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;

use crate::containers::{exec, output, running};
use crate::harness::client::try_send;
use crate::harness::{Server, Tree, eventually};

on_both!(full, large, broken);

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
pub fn noise(megabytes: usize) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
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
