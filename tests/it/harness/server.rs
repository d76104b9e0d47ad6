//! One `hzel serve` as an operator would start it, with its own data directory and database.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::{Client, Session};
use super::leftovers::{self, Leftovers};
use super::process::{self, Output, free_port};
use super::{Database, Kind, image};

/// The account every server has.
pub const ADMIN: &str = "admin@example.org";
/// Of every account that the tests make.
pub const PASSWORD: &str = "correct horse battery staple";

/// How one server differs from the usual one.
pub struct Options {
    /// Environment variables, over those that the harness sets.
    pub env: Vec<(&'static str, String)>,
    /// Whether it has the finished image from the beginning.
    pub image: bool,
    /// Whether [`ADMIN`] is made before the start.
    pub admin: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            env: Vec::new(),
            image: true,
            admin: true,
        }
    }
}

impl Options {
    /// The usual one with one more variable.
    pub fn with(name: &'static str, value: impl Into<String>) -> Self {
        Self::default().and(name, value)
    }

    pub fn and(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }
}

/// A running server.
pub struct Server {
    pub database: Database,
    /// Such as `http://127.0.0.1:41234`.
    pub url: String,
    /// A token of [`ADMIN`] with the whole account.
    pub admin_token: String,
    options: Options,
    child: Option<Child>,
    secrets: Mutex<Vec<String>>,
    audit_is_broken: bool,
    uid: Option<u32>,
    dir: tempfile::TempDir,
}

impl Server {
    /// Prepares everything and starts it.
    pub async fn start(kind: Kind, options: Options) -> Self {
        let mut server = Self::prepare(kind, options);
        server.launch().await;
        server
    }

    /// Everything but the start.
    pub fn prepare(kind: Kind, options: Options) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("s")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a data directory");
        let database = Database::new(kind, &dir.path().join("data"));
        let port = free_port();
        let mut server = Self {
            database,
            url: format!("http://127.0.0.1:{port}"),
            admin_token: String::new(),
            options,
            child: None,
            secrets: Mutex::new(vec![PASSWORD.to_owned()]),
            audit_is_broken: false,
            uid: None,
            dir,
        };
        server.cli(&["migrate"], "").ok();
        if server.options.admin {
            server.add_user(ADMIN, "admin");
            server.admin_token = server.token_of(ADMIN, &[]);
        }
        if server.options.image {
            image::link_into(&server.data_dir());
            server.adopt_image();
        }
        server
    }

    /// Tells the database of the image that lies in the store already.
    fn adopt_image(&self) {
        let id = uuid::Uuid::now_v7();
        let name = image::default_name();
        let sql = format!(
            "INSERT INTO images (id, name, source, status, step, percent, description, \
             size_bytes, created_at, updated_at) VALUES ('{id}', '{name}', 'default', 'ready', \
             'ready', 100, 'made before', 1, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
        );
        self.database.execute(&sql).expect("the image's row");
    }

    /// Starts it and waits until it says that it is ready.
    pub async fn launch(&mut self) {
        let began = Instant::now();
        let seen = self.log().matches("hzel is ready on ").count();
        self.spawn();
        while self.log().matches("hzel is ready on ").count() == seen {
            let child = self.child.as_mut().expect("it was started");
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                panic!("the server ended: {status}\n{}", self.log());
            }
            assert!(
                began.elapsed() < Duration::from_secs(40),
                "the server is not ready\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log file");
        let mut command = self.command(&["serve"]);
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.child = Some(child);
    }

    /// The binary with this server's environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hzel"));
        for (name, _) in std::env::vars() {
            if name.starts_with("HZEL_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("HZEL_LISTEN", self.url.trim_start_matches("http://"))
            .env("HZEL_PUBLIC_URL", &self.url)
            .env("HZEL_DATA_DIR", self.data_dir())
            .env("DATABASE_URL", &self.database.url)
            .env("HZEL_RATE_LIMIT", "off")
            .env("HZEL_LOG", "debug,hyper=info,h2=info,rustls=info")
            .envs(self.options.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the command line beside the server.
    pub fn cli(&self, args: &[&str], input: &str) -> Output {
        process::run(self.command(args), input)
    }

    /// Makes an account with [`PASSWORD`].
    pub fn add_user(&self, email: &str, role: &str) {
        let args = ["user", "create", "--email", email, "--role", role];
        let args: Vec<&str> = args.into_iter().chain(["--password-stdin"]).collect();
        self.cli(&args, PASSWORD).ok();
    }

    /// Makes a token at the command line.
    pub fn token_of(&self, email: &str, more: &[&str]) -> String {
        let args = ["token", "create", "--user", email, "--name", "test"];
        let args: Vec<&str> = args.into_iter().chain(more.iter().copied()).collect();
        let token = self.cli(&args, "").ok().trim().to_owned();
        self.secret(&token);
        token
    }

    /// What must never be in the log.
    pub fn secret(&self, secret: &str) {
        let mut secrets = self.secrets.lock().expect("nobody failed with it");
        secrets.push(secret.to_owned());
    }

    /// From the next start on it has that variable.
    pub fn set_env(&mut self, name: &'static str, value: &str) {
        self.options.env.retain(|(known, _)| *known != name);
        self.options.env.push((name, value.to_owned()));
    }

    /// From the next start on it runs as that user.
    pub fn run_as(&mut self, uid: u32) {
        self.uid = Some(uid);
    }

    /// The test has spoilt the audit log on purpose.
    pub fn expect_broken_audit(&mut self) {
        self.audit_is_broken = true;
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Beside the data directory, for whatever a test needs a file for.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Everything the server has said, at all of its starts.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// With no credential.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.url)
    }

    /// The administrator's, by token.
    pub fn admin(&self) -> Client {
        self.anonymous().bearer(&self.admin_token)
    }

    /// A new user, by token.
    pub fn user(&self, email: &str) -> Client {
        self.add_user(email, "user");
        self.anonymous().bearer(&self.token_of(email, &[]))
    }

    /// Signs in with [`PASSWORD`].
    pub async fn sign_in(&self, email: &str) -> Session {
        let session = self.anonymous().sign_in(email, PASSWORD).await;
        self.secret(&session.csrf);
        if let Some((_, value)) = session.cookie.split_once('=') {
            self.secret(value);
        }
        session
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
        }
    }

    /// Ends it as an operator would; how long that took.
    pub async fn stop(&mut self) -> Duration {
        let began = Instant::now();
        let Some(mut child) = self.child.take() else {
            return Duration::ZERO;
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
        kill_process(pid, Signal::TERM).expect("it runs");
        loop {
            if let Some(status) = child.try_wait().expect("it is ours") {
                assert!(status.success(), "{status}\n{}", self.log());
                return began.elapsed();
            }
            if began.elapsed() > Duration::from_secs(12) {
                child.kill().expect("it is ours");
                child.wait().expect("it is ours");
                panic!("the server did not end within 12 s\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What must hold after every test: containers go when they are deleted, the server ends by
    /// itself, the audit log is whole, no secret is in the log, nothing is left.
    pub async fn finish(&mut self) {
        if self.child.is_some() && !self.admin_token.is_empty() {
            self.delete_all().await;
        }
        let ends_by_itself = self.child.is_some();
        self.stop().await;
        if !self.audit_is_broken {
            let audit = self.cli(&["audit", "verify"], "").ok();
            assert!(audit.contains("whole"), "{audit}");
        }
        let log = self.log();
        for secret in self.secrets.lock().expect("nobody failed with it").iter() {
            assert!(!log.contains(secret), "the log has the secret {secret}");
        }
        assert!(!log.contains("panicked"), "a handler panicked:\n{log}");
        if ends_by_itself {
            Leftovers::assert_nothing(&self.data_dir());
        } else {
            Leftovers::assert_none(&self.data_dir());
        }
        leftovers::assert_devices_are_the_hosts();
    }

    /// Deletes every container.
    pub async fn delete_all(&self) {
        for _ in 0..50 {
            let page = self.admin().get("/api/v1/containers?limit=200").await;
            let rows = page.data().as_array().cloned().unwrap_or_default();
            if rows.is_empty() {
                return;
            }
            for row in rows {
                let id = row["id"].as_str().expect("an id");
                let path = format!("/api/v1/containers/{id}?force=true");
                self.admin().delete(&path).await;
            }
        }
        panic!("there are containers that cannot be deleted");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ended = child.kill();
            let _ended = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- the server's log\n{}", tail(&self.log(), 200));
        }
        Leftovers::remove(&self.data_dir());
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Asks again and again until it is so, for at most that many seconds.
pub async fn eventually<T>(what: &str, seconds: u64, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
