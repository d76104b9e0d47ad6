//! A terminal through the WebSocket against a bare one on this machine, with the same programs.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::time::Instant;

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::server::Server;
use super::{Result, Row, median};

/// Keys that are typed.
const KEYS: usize = 300;
/// Bytes that are printed: zeros of a sparse file, which cost nothing to read.
const PRINTED: usize = 64 * 1024 * 1024;

/// A raw terminal of this machine with a program on it.
struct Bare {
    master: File,
    child: Child,
}

impl Bare {
    fn run(program: &str, args: &[&str]) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        let mut raw = tcgetattr(&slave)?;
        raw.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &raw)?;
        let child = Command::new(program)
            .args(args)
            .stdin(slave.try_clone()?)
            .stdout(slave)
            .spawn()?;
        Ok(Self {
            master: master.into(),
            child,
        })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// A shell of ours, raw.
struct Ours(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Ours {
    async fn open(server: &Server, container: &str) -> Result<Self> {
        let path = format!("/ws/terminal/{container}");
        let ticket = server.post("/ws-tickets", &json!({ "for": path })).await?;
        let ticket = ticket["ticket"].as_str().ok_or("no ticket")?;
        let base = server.base.replacen("http", "ws", 1);
        let base = base.trim_end_matches("/api/v1");
        let url = format!("{base}{path}?binary=1&token={ticket}");
        let (stream, _) = tokio_tungstenite::connect_async(url).await?;
        let mut ours = Self(stream);
        ours.send("stty raw -echo; echo re''ady\r").await?;
        ours.until(b"ready").await?;
        Ok(ours)
    }

    async fn send(&mut self, text: &'static str) -> Result<()> {
        Ok(self.0.send(Message::binary(text.as_bytes())).await?)
    }

    async fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.0.next().await.ok_or("the socket ended")?? {
                Message::Binary(bytes) => return Ok(bytes.to_vec()),
                Message::Close(_) => return Err("the socket was closed".into()),
                _ => {}
            }
        }
    }

    async fn until(&mut self, mark: &[u8]) -> Result<()> {
        let mut seen = Vec::new();
        while !seen.windows(mark.len()).any(|window| window == mark) {
            seen.extend(self.next().await?);
        }
        Ok(())
    }
}

/// From a key to what the program makes of it.
pub async fn echo(server: &Server) -> Result<Row> {
    let (id, _) = server.create("bench-echo").await?;
    let mut ours = Ours::open(server, &id).await?;
    ours.send("echo be''gin; exec cat\r").await?;
    ours.until(b"begin").await?;
    let mut bare = Bare::run("cat", &[])?;
    // The shell's prompt may still come, and `cat` may not be there yet.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..KEYS {
        let began = Instant::now();
        ours.send("x").await?;
        ours.until(b"x").await?;
        through.push(began.elapsed());
        let began = Instant::now();
        bare.master.write_all(b"x")?;
        bare.master.read_exact(&mut [0])?;
        direct.push(began.elapsed());
    }
    server.delete(&format!("/containers/{id}")).await?;
    Ok(Row {
        what: "key -> echo by WebSocket (bare pty)",
        ours: median(through),
        yardstick: median(direct),
        unit: "ms",
        goal: "",
    })
}

/// How fast output comes.
pub async fn output(server: &Server) -> Result<Row> {
    let (id, _) = server.create("bench-output").await?;
    let mut ours = Ours::open(server, &id).await?;
    ours.send("truncate -s 64M /root/zeros; echo be''gin; cat /root/zeros; echo\r")
        .await?;
    ours.until(b"begin").await?;
    let began = Instant::now();
    let mut seen = 0;
    while seen < PRINTED - 64 * 1024 {
        seen += ours.next().await?.len();
    }
    let through = rate(seen, began);
    server.delete(&format!("/containers/{id}")).await?;

    let file = server.data.join("zeros");
    File::create(&file)?.set_len(PRINTED as u64)?;
    let mut bare = Bare::run("cat", &[&file.to_string_lossy()])?;
    let began = Instant::now();
    let (mut seen, mut chunk) = (0, vec![0; 64 * 1024]);
    while seen < PRINTED - 64 * 1024 {
        seen += bare.master.read(&mut chunk)?;
    }
    Ok(Row {
        what: "output by WebSocket (cat into a bare pty)",
        ours: through,
        yardstick: rate(seen, began),
        unit: "MB",
        goal: "",
    })
}

/// MB a second.
fn rate(bytes: usize, began: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some 64 million")]
    let bytes = bytes as f64;
    bytes / 1e6 / began.elapsed().as_secs_f64()
}
