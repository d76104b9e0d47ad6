//! A database of its own for each test. PostgreSQL's cluster is one for the whole run, however many
//! processes that is: the first test that needs it starts it, and it ends soon after the last
//! process of the run does.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use diesel::{Connection, PgConnection, RunQueryDsl, SqliteConnection, sql_query};

use super::lock::Lock;
use super::process::free_port;

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// One test's database.
pub struct Database {
    pub kind: Kind,
    /// What `DATABASE_URL` is set to.
    pub url: String,
    name: String,
}

impl Database {
    pub fn new(kind: Kind, data_dir: &Path) -> Self {
        match kind {
            Kind::Sqlite => Self {
                kind,
                url: format!("sqlite://{}", data_dir.join("hzel.db").display()),
                name: String::new(),
            },
            Kind::Postgres => {
                let cluster = cluster();
                let name = format!("t{}", uuid::Uuid::now_v7().simple());
                admin(&format!("CREATE DATABASE {name}"));
                Self {
                    kind,
                    url: cluster.url(&name),
                    name,
                }
            }
        }
    }

    /// Runs one statement beside the server.
    pub fn execute(&self, sql: &str) -> Result<usize, String> {
        match self.kind {
            Kind::Sqlite => {
                let path = self.url.trim_start_matches("sqlite://");
                let mut conn = SqliteConnection::establish(path).expect("the SQLite file");
                sql_query("PRAGMA busy_timeout = 10000")
                    .execute(&mut conn)
                    .expect("a pragma");
                sql_query(sql).execute(&mut conn).map_err(|e| e.to_string())
            }
            Kind::Postgres => {
                let mut conn = PgConnection::establish(&self.url).expect("the database");
                sql_query(sql).execute(&mut conn).map_err(|e| e.to_string())
            }
        }
    }

    /// Keeps every other writer of SQLite's file out until it is dropped.
    pub fn lock(&self) -> SqliteConnection {
        let path = self.url.trim_start_matches("sqlite://");
        let mut conn = SqliteConnection::establish(path).expect("the SQLite file");
        for sql in ["PRAGMA busy_timeout = 10000", "BEGIN IMMEDIATE"] {
            sql_query(sql).execute(&mut conn).expect(sql);
        }
        conn
    }

    /// Cuts PostgreSQL's database off: connections end, and no new one is let in.
    pub fn shut(&self) {
        admin(&format!(
            "ALTER DATABASE {} WITH ALLOW_CONNECTIONS false",
            self.name
        ));
        admin(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        ));
    }

    /// Undoes [`Database::shut`].
    pub fn open(&self) {
        admin(&format!(
            "ALTER DATABASE {} WITH ALLOW_CONNECTIONS true",
            self.name
        ));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.kind == Kind::Postgres
            && let Ok(mut conn) = PgConnection::establish(&cluster().url("postgres"))
        {
            let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
            if let Err(error) = sql_query(sql).execute(&mut conn) {
                eprintln!("{} stays: {error}", self.name);
            }
        }
    }
}

fn admin(sql: &str) {
    let url = cluster().url("postgres");
    let mut conn = PgConnection::establish(&url).expect("the cluster");
    // Making a database copies another, which is refused while somebody else does the same.
    for left in (0..20).rev() {
        match sql_query(sql).execute(&mut conn) {
            Ok(_) => return,
            Err(error) if left == 0 => panic!("{sql}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

struct Cluster {
    port: u16,
    /// As long as any test's process holds this, the cluster runs.
    _in_use: Lock,
}

impl Cluster {
    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        // PostgreSQL's own user must reach it, so it cannot lie in the target directory.
        let tag = env!("CARGO_TARGET_TMPDIR").bytes().fold(0_u32, |sum, b| {
            sum.wrapping_mul(31).wrapping_add(u32::from(b))
        });
        let home = PathBuf::from(format!("/tmp/hzel-test-postgres-{tag:08x}"));
        fs::create_dir_all(&home).expect("a directory for PostgreSQL");
        let in_use = Lock::shared(&home.join("in-use"));
        let _starting = Lock::exclusive(&home.join("starting"));
        let port = match fs::read_to_string(home.join("port")) {
            Ok(text) if answers(text.trim()) => text.trim().parse().expect("a port"),
            _ => start(&home),
        };
        Cluster {
            port,
            _in_use: in_use,
        }
    })
}

fn answers(port: &str) -> bool {
    PgConnection::establish(&format!("postgres://postgres@127.0.0.1:{port}/postgres")).is_ok()
}

fn start(home: &Path) -> u16 {
    let bin = programs();
    let data = home.join("data");
    if data.exists() {
        stop(&bin, &data);
        fs::remove_dir_all(&data).expect("the old cluster's directory goes");
    }
    let port = free_port();
    fs::create_dir(&data).expect("the cluster's directory");
    let (uid, gid) = owner();
    std::os::unix::fs::chown(&data, Some(uid), Some(gid))
        .expect("the cluster's directory changes hands");
    let log = data.join("log");
    quiet(
        as_owner(bin.join("initdb"))
            .args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"])
            .args(["--username=postgres", "-D"])
            .arg(&data),
    );
    let options = format!(
        "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= -c fsync=off \
         -c synchronous_commit=off -c full_page_writes=off -c max_connections=400"
    );
    quiet(
        as_owner(bin.join("pg_ctl"))
            .args(["start", "--wait", "--silent", "-D"])
            .arg(&data)
            .arg("-l")
            .arg(&log)
            .arg("-o")
            .arg(options),
    );
    fs::write(home.join("port"), port.to_string()).expect("the port is told");
    stop_when_unused(home, &bin, &data);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !answers(&port.to_string()) {
        assert!(Instant::now() < deadline, "PostgreSQL does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    port
}

/// A process of its own, for the one that started the cluster may end first, by whatever means.
fn stop_when_unused(home: &Path, bin: &Path, data: &Path) {
    let script = r#"
        while sleep 3; do
            [ -d "$1" ] || exit 0
            flock --exclusive --nonblock "$1/in-use" sh -c '
                "$2/pg_ctl" stop -D "$3" -m immediate --silent; rm -rf "$3" "$1/port"' \
                sh "$1" "$2" "$3" && exit 0
        done"#;
    let (uid, gid) = owner();
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(script)
        .arg("sh")
        .args([home, bin, data])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    if uid != rustix::process::geteuid().as_raw() {
        std::os::unix::fs::chown(home, Some(uid), Some(gid))
            .expect("PostgreSQL's directory changes hands");
        for file in ["in-use", "starting", "port"] {
            std::os::unix::fs::chown(home.join(file), Some(uid), Some(gid))
                .expect("a file changes hands");
        }
        command.uid(uid).gid(gid);
    }
    // Not waited for: it outlives this process, and that is its purpose.
    drop(command.spawn().expect("sh"));
}

fn stop(bin: &Path, data: &Path) {
    let _none_runs = as_owner(bin.join("pg_ctl"))
        .args(["stop", "-m", "immediate", "--silent", "-D"])
        .arg(data)
        .stdin(Stdio::null())
        .output();
}

/// PostgreSQL refuses to run as root.
fn owner() -> (u32, u32) {
    static OWNER: OnceLock<(u32, u32)> = OnceLock::new();
    *OWNER.get_or_init(|| {
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 {
            return (uid, rustix::process::getegid().as_raw());
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| {
                let line = users.lines().find(|l| l.split(':').next() == Some(name))?;
                let mut fields = line.split(':').skip(2);
                Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
            })
            .expect("there is a user postgres or nobody")
    })
}

fn as_owner(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    let (uid, gid) = owner();
    if uid != rustix::process::geteuid().as_raw() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").env("LC_ALL", "C");
    command
}

fn quiet(command: &mut Command) {
    // A file, not a pipe: the server inherits it and would hold a pipe open.
    let told = tempfile::tempfile().expect("a file for what is said");
    let status = command
        .stdin(Stdio::null())
        .stdout(told.try_clone().expect("a second handle"))
        .stderr(told.try_clone().expect("a third handle"))
        .status()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    if !status.success() {
        use std::io::{Read as _, Seek as _};
        let (mut text, mut told) = (String::new(), told);
        told.rewind().expect("a file to read");
        told.read_to_string(&mut text).expect("what was said");
        panic!("{command:?}: {status}\n{text}");
    }
}

fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            bin.join("initdb").exists().then_some((version, bin))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin).unwrap_or_else(|| {
        panic!(
            "PostgreSQL's programs are not in /usr/lib/postgresql; every test runs on both \
             databases, and `bash .ci/setup` installs what they need"
        )
    })
}
