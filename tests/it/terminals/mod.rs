//! Terminals over real sockets: what works in one, what of it survives, who may look, and how it
//! ends.

mod ends;
mod programs;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::containers::{CONTAINERS, output, running};
use crate::harness::socket::{Said, Socket};
use crate::harness::{Client, Kind, Options, Server, eventually, with_server};

on_both!(works, messages, floods, shared, uploads);
on_both_by_hand!(other_runtime);

/// Someone at a terminal.
struct Screen {
    socket: Socket,
    opened: Value,
    /// All that was shown.
    shown: Vec<u8>,
    /// Up to where it was looked at.
    looked: usize,
    /// Messages other than output, in order.
    said: Vec<Value>,
}

impl Screen {
    async fn open(client: &Client, container: &str, query: &str) -> Self {
        let path = format!("/ws/terminal/{container}{query}");
        let mut socket = client.socket(&path).await;
        let opened = socket.message().await;
        assert_eq!(opened["type"], "opened");
        assert_eq!(opened["container_id"], container);
        Self {
            socket,
            opened,
            shown: Vec::new(),
            looked: 0,
            said: Vec::new(),
        }
    }

    async fn type_in(&mut self, text: &str) {
        self.tell(json!({ "type": "input", "data": text })).await;
    }

    async fn tell(&mut self, message: Value) {
        self.socket.text(message.to_string()).await;
    }

    /// Takes one message; false when the socket has ended.
    async fn take(&mut self) -> bool {
        match self.socket.next().await {
            Said::Json(message) if message["type"] == "output" => {
                let data = message["data"].as_str().expect("text");
                self.shown.extend_from_slice(data.as_bytes());
            }
            Said::Json(message) => self.said.push(message),
            Said::Binary(bytes) => self.shown.extend_from_slice(&bytes),
            Said::Closed(..) | Said::Gone => return false,
        }
        true
    }

    /// Waits until that is shown; what came before it since the last time.
    async fn until(&mut self, text: &str) -> String {
        let begin = self.looked;
        let mut from = begin;
        loop {
            let found = self.shown[from..]
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            if let Some(at) = found {
                self.looked = from + at + text.len();
                return String::from_utf8_lossy(&self.shown[begin..from + at]).into_owned();
            }
            from = from.max((self.shown.len() + 1).saturating_sub(text.len()));
            if !self.take().await {
                let last = self.shown.len().saturating_sub(2000);
                let last = String::from_utf8_lossy(&self.shown[last..]);
                panic!("it ended before {text}: {last} {:?}", self.said);
            }
        }
    }

    /// Runs a command line; what it prints. The marks are not in what the terminal echoes, nor in
    /// what was printed before.
    async fn run(&mut self, line: &str) -> String {
        let mark = rand::random::<u32>();
        self.type_in(&format!(
            "printf '%s\\n' be''gin{mark}; {line}; printf '%s\\n' e''nd{mark}\r"
        ))
        .await;
        self.until(&format!("begin{mark}\r\n")).await;
        self.until(&format!("end{mark}\r\n")).await
    }

    /// Waits for a message of that type that is not output.
    async fn told(&mut self, kind: &str) -> Value {
        loop {
            if let Some(at) = self.said.iter().position(|message| message["type"] == kind) {
                return self.said.remove(at);
            }
            assert!(self.take().await, "it ended before {kind}: {:?}", self.said);
        }
    }

    /// All that comes until the end, and the end.
    async fn end(&mut self) -> (u16, String) {
        loop {
            match self.socket.next().await {
                Said::Closed(code, reason) => return (code, reason),
                Said::Gone => return (0, String::new()),
                Said::Json(message) => self.said.push(message),
                Said::Binary(_) => {}
            }
        }
    }

    /// The types of the last messages.
    fn types(&self) -> Vec<&str> {
        let types = self.said.iter().map(|message| &message["type"]);
        types
            .filter_map(Value::as_str)
            .filter(|kind| *kind != "output")
            .collect()
    }
}

async fn works(server: &mut Server) {
    a_shell_works(server).await;
}

async fn other_runtime(kind: Kind) {
    let options = Options::with("HZEL_OCI_RUNTIME", "runc");
    with_server(kind, options, async |server| a_shell_works(server).await).await;
}

async fn a_shell_works(server: &mut Server) {
    let id = running(server, "shell").await;
    let mut screen = Screen::open(&server.admin(), &id, "").await;

    // Who and where: root's login shell, on a terminal of the container's own.
    assert_eq!(
        screen.run("whoami; pwd; hostname").await,
        "root\r\n/root\r\nshell\r\n"
    );
    let tty = screen.run("tty").await;
    assert!(tty.starts_with("/dev/pts/"), "{tty}");
    assert_eq!(
        screen.run("test -c $(tty) && echo there").await,
        "there\r\n"
    );
    assert_eq!(
        screen.run("echo $TERM $LANG $SHELL").await,
        "xterm-256color C.UTF-8 /bin/bash\r\n"
    );
    assert_eq!(
        screen.run("shopt -q login_shell && echo login").await,
        "login\r\n"
    );
    assert_eq!(screen.run("stty size").await, "24 80\r\n");
    assert_eq!(
        screen
            .run("ps -o tpgid= -o pgid= -p $$ | awk '{print ($1>0)}'")
            .await,
        "1\r\n"
    );

    // Another size, told to what runs.
    screen.run("trap 'echo changed' WINCH").await;
    screen
        .tell(json!({ "type": "resize", "cols": 132, "rows": 50 }))
        .await;
    let resized = screen.told("resized").await;
    assert_eq!(
        (&resized["cols"], &resized["rows"]),
        (&json!(132), &json!(50))
    );
    assert!(screen.run("stty size").await.ends_with("50 132\r\n"));
    screen.run("trap - WINCH").await;

    // ^C, ^Z, jobs.
    screen.type_in("echo be''fore; sleep 1000\r").await;
    screen.until("before\r\n").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    screen.type_in("\u{3}").await;
    screen.until("^C").await;
    screen.type_in("echo co''de=$?\r").await;
    screen.until("code=130\r\n").await;
    screen.type_in("echo be''fore; sleep 1000\r").await;
    screen.until("before\r\n").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    screen.type_in("\u{1a}").await;
    screen.until("Stopped").await;
    assert!(screen.run("jobs").await.contains("sleep 1000"));
    screen.run("bg; kill %1; wait %1 2>/dev/null").await;

    // A program that draws.
    assert!(screen.run("top -d 0.3 -n 2").await.contains("PID"));
    assert_eq!(screen.run("echo back").await, "back\r\n");

    // Every character arrives whole, in every message.
    let wanted = "äöü€😀🧑‍💻".repeat(40);
    let line = "for i in $(seq 40); do printf 'äöü€😀🧑‍💻'; done";
    assert_eq!(screen.run(line).await, wanted);
    // Of what is none, nothing around it is lost.
    let shown = screen
        .run(r"printf 'a\377b\360\237'; sleep 0.2; printf 'c'")
        .await;
    assert_eq!(shown, "a\u{FFFD}b\u{FFFD}c");

    screen.type_in("exit\r").await;
    assert_eq!(screen.told("closed").await, json!({ "type": "closed" }));
    assert_eq!(screen.end().await, (1000, "The shell ended".into()));
    eventually("the end of the shell", 20, async || {
        let left = output(server, &id, "ps -e -o comm= | grep -c bash || true").await;
        (left == "0").then_some(())
    })
    .await;

    // What the container's root makes of /dev/ptmx is no terminal.
    output(
        server,
        &id,
        "mv /dev/ptmx /dev/ptmx.bak; mkfifo /dev/ptmx; mv /dev/pts/ptmx /dev/x 2>/dev/null; true",
    )
    .await;
    let path = format!("/ws/terminal/{id}");
    let admin = server.admin();
    let tricked = tokio::time::timeout(Duration::from_secs(30), admin.try_socket(&path));
    if let Ok(mut socket) = tricked.await.expect("an answer") {
        // A runtime that opens the kernel's all the same.
        assert_eq!(socket.message().await["type"], "opened");
    }
}

async fn messages(server: &mut Server) {
    let id = running(server, "messages").await;
    let mut screen = Screen::open(&server.admin(), &id, "?binary=1").await;
    let opened = &screen.opened;
    assert_eq!(opened["session"], Value::Null);
    assert_eq!(
        (&opened["offset"], &opened["replay"]),
        (&json!(0), &json!(0))
    );

    // Raw bytes both ways.
    screen
        .socket
        .binary("stty -echo; echo b''in\r".as_bytes().to_vec())
        .await;
    screen.until("bin\r\n").await;
    screen
        .socket
        .binary(b"printf '\\377'; echo r''aw\r".to_vec())
        .await;
    screen.until("raw\r\n").await;
    assert!(screen.shown.contains(&0xff));

    for (message, about) in [
        (
            json!({ "type": "resize", "cols": 0, "rows": 24 }),
            "cols must be between 1 and 1000",
        ),
        (
            json!({ "type": "resize", "cols": 80, "rows": 1001 }),
            "rows must be between 1 and 1000",
        ),
        (json!({ "type": "resize", "cols": 80 }), "rows"),
        (
            json!({ "type": "resize", "cols": "80", "rows": 24 }),
            "must be a whole number",
        ),
        (json!({ "type": "input" }), "data"),
        (json!({ "type": "nothing" }), "type"),
        (json!({ "data": "x" }), "type"),
        (json!([]), "type"),
    ] {
        screen.tell(message.clone()).await;
        let told = screen.told("error").await;
        let text = told["message"].as_str().expect("a sentence");
        assert!(text.contains(about), "{message}: {text}");
    }
    screen.socket.text("{").await;
    screen.told("error").await;
    // It is still there, and as large as it was.
    assert_eq!(screen.run("stty size").await, "24 80\r\n");

    // Too large a message ends the socket, and nothing else.
    let large = "x".repeat(17 * 1024 * 1024);
    screen.socket.try_text(large).await;
    let (code, _) = screen.end().await;
    assert!(code == 1009 || code == 0, "{code}");
    let mut again = Screen::open(&server.admin(), &id, "").await;
    assert_eq!(again.run("echo there").await, "there\r\n");

    // Much input at once arrives whole, for a program that reads it.
    again
        .type_in("stty raw -echo; echo re''ady; head -c 3000000 | sha256sum; stty sane\r")
        .await;
    again.until("ready").await;
    let text: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + (n % 25) as u8).collect();
    for piece in text.chunks(1_000_000) {
        again.socket.binary(piece.to_vec()).await;
    }
    again.until(&hex(&Sha256::digest(&text))).await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How much a flood is, in bytes of base64.
const FLOOD: usize = 100_000_000;

async fn floods(server: &mut Server) {
    let id = running(server, "floods").await;
    // All of it, to someone who listens.
    let mut screen = Screen::open(&server.admin(), &id, "?binary=1").await;
    screen
        .type_in("stty -echo -opost; PS1=; echo re''ady\r")
        .await;
    screen.until("ready\n").await;
    let make = format!("head -c {} /dev/zero | base64 -w 0", FLOOD / 4 * 3);
    screen
        .type_in(&format!("printf fr''om; {make}; printf t''o\r"))
        .await;
    screen.until("from").await;
    let first = screen.looked;
    while screen.shown.len() < first + FLOOD {
        assert!(screen.take().await, "it ended at {}", screen.shown.len());
    }
    screen.looked = first + FLOOD;
    assert!(
        screen.shown[first..first + FLOOD]
            .iter()
            .all(|&byte| byte == b'A')
    );
    assert_eq!(screen.until("to").await, "");
    screen.socket.close().await;

    // One who takes nothing is let go, and the other one gets all the same.
    let mut stuck = Screen::open(&server.admin(), &id, "?session=flood&binary=1").await;
    let mut other = Screen::open(&server.admin(), &id, "?session=flood&binary=1").await;
    stuck
        .type_in("stty -echo -opost; PS1=; echo re''ady\r")
        .await;
    other.until("ready\n").await;
    let line = "seq 4000000 | tee >(sha256sum >/tmp/sum) | cat; sleep 1; echo t''o; cat /tmp/sum\r";
    other.type_in(&format!("printf fr''om; {line}")).await;
    other.until("from").await;
    let begin = other.looked;
    other.until("to\n").await;
    let sum = hex(&Sha256::digest(&other.shown[begin..other.looked - 3]));
    other.until(&sum).await;
    let (code, reason) = stuck.end().await;
    assert!(
        (code, reason.as_str()) == (1008, "The connection is too slow for the output") || code == 0,
        "{code} {reason}"
    );
    let resident = crate::harness::Tree::resident_mib(server.pid());
    assert!(resident < 400, "the server holds {resident} MiB");
}

async fn shared(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "shared").await;
    let terminals = format!("{CONTAINERS}/{id}/terminals");
    let mut one = Screen::open(&admin, &id, "?session=main").await;
    let shell = one.opened["terminal_id"].clone();
    assert_eq!(one.opened["session"], "main");
    one.run("cd /var/tmp; X=kept").await;

    // Two look at one shell, and both may type.
    let mut two = Screen::open(&admin, &id, "?session=main").await;
    assert_eq!(two.opened["terminal_id"], shell);
    assert!(two.opened["replay"].as_u64() > Some(0));
    assert_eq!(two.run("echo $X $PWD").await, "kept /var/tmp\r\n");
    one.until("kept /var/tmp\r\n").await;
    two.tell(json!({ "type": "resize", "cols": 100, "rows": 30 }))
        .await;
    assert_eq!(one.told("resized").await["cols"], 100);
    assert_eq!(two.told("resized").await["rows"], 30);
    assert_eq!(one.run("stty size").await, "30 100\r\n");

    // Both go; the shell stays, works on, and one comes back to what was not seen.
    two.socket.close().await;
    one.type_in("echo la''st; sleep 1; echo un''seen\r").await;
    one.until("last\r\n").await;
    let seen = one.opened["offset"].as_u64().expect("a number") + one.shown.len() as u64;
    drop(one);
    let list = eventually("nobody looks", 20, async || {
        let list = admin.get(&terminals).await;
        let row = list.data()[0].clone();
        (row["viewers"] == 0).then_some(row)
    })
    .await;
    assert_eq!(list["session"], "main");
    assert_eq!(list["id"], shell);
    assert_eq!((&list["cols"], &list["rows"]), (&json!(100), &json!(30)));
    assert!(list["idle_since"].is_string() && list["opened_at"].is_string());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let query = format!(
        "?session=main&since={seen}&shell={}",
        shell.as_str().expect("an id")
    );
    let mut back = Screen::open(&admin, &id, &query).await;
    assert_eq!(back.opened["offset"], seen);
    back.until("unseen\r\n").await;
    assert!(
        !String::from_utf8_lossy(&back.shown).contains("last"),
        "it was seen"
    );
    assert_eq!(back.run("echo $X").await, "kept\r\n");

    // What was typed just before leaving is run.
    back.type_in("touch /root/last\r").await;
    back.socket.close().await;
    eventually("the last that was typed", 20, async || {
        let found = output(server, &id, "ls /root/last 2>/dev/null || true").await;
        (found == "/root/last").then_some(())
    })
    .await;

    // Another shell's place says nothing.
    let mut other = Screen::open(&admin, &id, "?session=main&since=7&shell=other").await;
    assert_eq!(other.opened["offset"], 0);
    other.until("unseen\r\n").await;
    // Whoever has seen more than there is begins anew.
    let mut other = Screen::open(&admin, &id, "?session=main&since=99999999").await;
    assert_eq!(other.opened["offset"], 0);
    other.until("unseen\r\n").await;

    // Two that come at once with a new name share one shell.
    let (a, b) = tokio::join!(
        Screen::open(&admin, &id, "?session=twins"),
        Screen::open(&admin, &id, "?session=twins")
    );
    assert_eq!(a.opened["terminal_id"], b.opened["terminal_id"]);

    // More than is kept was printed while nobody looked: the last of it is there.
    other.type_in("seq 200000; echo al''l\r").await;
    other.until("\r\n2\r\n").await;
    drop(other);
    let mut late = eventually("more was printed than is kept", 30, async || {
        let late = Screen::open(&admin, &id, "?session=main&since=100").await;
        let offset = late.opened["offset"].as_u64().expect("a number");
        (offset > 1_000_000).then_some(late)
    })
    .await;
    late.until("200000\r\nall\r\n").await;
    assert!(late.shown.starts_with(b"1"), "from the beginning of a line");

    // Another user's shell of that name is another one, and a name ends but one.
    assert_eq!(
        admin.get(&terminals).await.data().as_array().map(Vec::len),
        Some(2)
    );
    admin.delete(&format!("{terminals}/twins")).await.data();
    admin
        .delete(&format!("{terminals}/twins"))
        .await
        .is(404, "NOT_FOUND");
    let mut gone = a;
    assert_eq!(gone.end().await, (1000, "The terminal was ended".into()));
    assert_eq!(gone.types(), ["closed"]);
    assert_eq!(late.run("echo $X").await, "kept\r\n");
    let by_id = shell.as_str().expect("an id");
    admin.delete(&format!("{terminals}/{by_id}")).await.data();
    assert_eq!(late.end().await.0, 1000);
    eventually("no shells", 10, async || {
        let list = admin.get(&terminals).await;
        (list.data() == &json!([])).then_some(())
    })
    .await;
}

async fn uploads(server: &mut Server) {
    let id = running(server, "uploads").await;
    let mut screen = Screen::open(&server.admin(), &id, "").await;
    let bytes: Vec<u8> = (0..10 * 1024 * 1024_u32)
        .map(|n| (n * 7 % 251) as u8)
        .collect();
    screen
        .tell(json!({ "type": "file_upload", "path": "/root/up", "data": STANDARD.encode(&bytes) }))
        .await;
    let told = screen.told("file_uploaded").await;
    assert_eq!(told["path"], "/root/up");
    let sum = screen.run("sha256sum < /root/up").await;
    assert!(sum.starts_with(&hex(&Sha256::digest(&bytes))), "{sum}");
    let large = vec![0; 10 * 1024 * 1024 + 1];
    for (path, data) in [
        ("/root/large", STANDARD.encode(large)),
        ("/root/bad", "%%%".to_owned()),
        ("relative", STANDARD.encode("x")),
        ("/no/such/directory/x", STANDARD.encode("x")),
        ("/dev/null", STANDARD.encode("x")),
    ] {
        screen
            .tell(json!({ "type": "file_upload", "path": path, "data": data }))
            .await;
        let told = screen.told("file_upload_error").await;
        assert_eq!(told["path"], path);
        assert!(!told["message"].as_str().expect("a sentence").is_empty());
    }
    assert_eq!(screen.run("ls /root").await, "up\r\n");
}
