//! What a user waits for, as ratios to a yardstick measured in the same run: absolute numbers say
//! more about the machine than about hzel. Run it with `cargo bench`, as root.
//!
//! It starts a release server of its own in a scratch directory and removes everything again. With
//! `HZEL_BENCH_DATABASE` (a `postgres://` URL of an empty database) it uses that instead of SQLite;
//! with `HZEL_BENCH_IMAGE` (a tar file) it does not make the default image first. To add a row,
//! write a function that answers a [`Row`] and show it in [`measure`].

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Rounds of the slow measurements; their median counts.
const ROUNDS: usize = 20;
/// How long each of the two sides of a rate is measured.
const RATE_FOR: Duration = Duration::from_secs(4);
/// Clients that ask at once while a rate is measured.
const CLIENTS: usize = 8;

/// One line of the result.
struct Row {
    what: &'static str,
    ours: f64,
    yardstick: f64,
    unit: &'static str,
    goal: &'static str,
}

fn main() -> Result<()> {
    // `cargo test` runs benches too, without measuring.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    // crun refuses a host with both kinds of cgroups unless the unified one is out of sight, here
    // as in hzel, so the whole bench moves into a mount namespace of its own.
    if std::env::var_os("HZEL_BENCH_INSIDE").is_none() {
        let error = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" --bench")
            .arg(std::env::current_exe()?)
            .env("HZEL_BENCH_INSIDE", "1")
            .exec();
        return Err(error.into());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure())
}

/// Prints a line as soon as it is known.
fn show(row: &Row) {
    println!(
        "{:44} {:>9.2} {:2} {:>9.2} {:2} {:>8.3}  {}",
        row.what,
        row.ours,
        row.unit,
        row.yardstick,
        row.unit,
        row.ours / row.yardstick,
        row.goal
    );
}

async fn measure() -> Result<()> {
    println!(
        "{:44} {:>12} {:>12} {:>8}  goal",
        "", "hzel", "yardstick", "ratio"
    );
    let server = Server::start().await?;
    show(&Row {
        what: "start to ready (yardstick: the goal)",
        ours: server.ready_after.as_secs_f64() * 1e3,
        yardstick: 500.0,
        unit: "ms",
        goal: "<= 1",
    });
    show(&Row {
        what: "idle resident memory (yardstick: the goal)",
        ours: server.resident_mib()?,
        yardstick: 40.0,
        unit: "MB",
        goal: "<= 1",
    });
    server.wait_for_image().await?;
    show(&create_to_running(&server).await?);
    show(&command_to_completed(&server).await?);
    show(&list_against_healthz(&server).await?);
    server.end().await
}

/// A server of our own, with one administrator and a token.
struct Server {
    child: Child,
    base: String,
    data: PathBuf,
    http: reqwest::Client,
    ready_after: Duration,
    environment: Vec<(&'static str, String)>,
}

impl Server {
    async fn start() -> Result<Self> {
        let data = PathBuf::from(format!("/var/tmp/hzel-bench-{}", std::process::id()));
        fs::create_dir_all(&data)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let mut environment = vec![
            ("HZEL_DATA_DIR", data.display().to_string()),
            ("HZEL_LISTEN", format!("127.0.0.1:{port}")),
            ("HZEL_PUBLIC_URL", format!("http://127.0.0.1:{port}")),
            ("HZEL_LOG", "warn".into()),
            ("HZEL_RATE_LIMIT", "off".into()),
        ];
        if let Ok(url) = std::env::var("HZEL_BENCH_DATABASE") {
            environment.push(("DATABASE_URL", url));
        }
        if let Ok(image) = std::env::var("HZEL_BENCH_IMAGE") {
            environment.push(("HZEL_IMAGE", image));
        }
        // The tables and the account are there before, as at every start but the first.
        let email = "bench@example.org";
        let mut create = hzel(&environment)
            .args([
                "user",
                "create",
                "--email",
                email,
                "--role",
                "admin",
                "--password-stdin",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        create
            .stdin
            .take()
            .ok_or("no stdin")?
            .write_all(b"a bench needs a password\n")?;
        if !create.wait()?.success() {
            return Err("the account could not be made".into());
        }
        let args = ["token", "create", "--user", email, "--name", "bench"];
        let output = hzel(&environment).args(args).output()?;
        let token = String::from_utf8(output.stdout)?.trim().to_owned();

        let began = Instant::now();
        let mut child = hzel(&environment)
            .arg("serve")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        let ready_after = began.elapsed();
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse()?);
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .build()?;
        let base = format!("http://127.0.0.1:{port}/api/v1");
        Ok(Self {
            child,
            base,
            data,
            http,
            ready_after,
            environment,
        })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer: Value = self
            .http
            .get(format!("{}{path}", self.base))
            .send()
            .await?
            .json()
            .await?;
        unwrap(answer)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.http.post(format!("{}{path}", self.base)).json(body);
        unwrap(request.send().await?.json().await?)
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let request = self.http.delete(format!("{}{path}", self.base));
        unwrap(request.send().await?.json().await?).map(drop)
    }

    fn resident_mib(&self) -> Result<f64> {
        std::thread::sleep(Duration::from_secs(1));
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|l| l.starts_with("VmRSS:"))
            .ok_or("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
        Ok(kib / 1024.0)
    }

    async fn wait_for_image(&self) -> Result<()> {
        loop {
            let images = self.get("/images").await?;
            match images[0]["status"].as_str() {
                Some("ready") => return Ok(()),
                Some("failed") => return Err(format!("the image failed: {images}").into()),
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Makes one and waits until it runs, asking as often as the answer comes.
    async fn create(&self, hostname: &str) -> Result<(String, Duration)> {
        let began = Instant::now();
        let made = self
            .post("/containers", &json!({ "hostname": hostname }))
            .await?;
        let id = made["id"].as_str().ok_or("no id")?.to_owned();
        loop {
            let now = self.get(&format!("/containers/{id}")).await?;
            match now["state"].as_str() {
                Some("running") => return Ok((id, began.elapsed())),
                Some("provisioning") => tokio::time::sleep(Duration::from_millis(1)).await,
                _ => return Err(format!("it did not start: {now}").into()),
            }
        }
    }

    /// Where the engine keeps what the OCI runtime knows.
    fn run_dir(&self) -> Result<PathBuf> {
        let instance = fs::read_to_string(self.data.join("native/instance"))?;
        Ok(Path::new("/run/hzel").join(instance.trim()))
    }

    async fn end(mut self) -> Result<()> {
        loop {
            let left = self.get("/containers?limit=200").await?;
            let Some(left) = left.as_array().filter(|left| !left.is_empty()) else {
                break;
            };
            for container in left {
                let id = container["id"].as_str().ok_or("no id")?;
                self.delete(&format!("/containers/{id}")).await?;
            }
        }
        let pid = self.child.id().to_string();
        Command::new("kill").arg(&pid).status()?;
        self.child.wait()?;
        drop(self.environment);
        fs::remove_dir_all(&self.data)?;
        Ok(())
    }
}

fn hzel(environment: &[(&'static str, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hzel"));
    command.envs(
        environment
            .iter()
            .map(|(name, value)| (*name, value.as_str())),
    );
    command
}

fn unwrap(mut answer: Value) -> Result<Value> {
    match answer.get_mut("data") {
        Some(data) => Ok(data.take()),
        None => Err(answer.to_string().into()),
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn oci_runtime() -> Result<&'static str> {
    ["crun", "runc"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())
        .ok_or_else(|| "neither crun nor runc is installed".into())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}").into())
    }
}

/// The bundle of a container of ours, on a root file system that is mounted already: what is left
/// for the bare runtime is the sandbox alone, with the same namespaces, limits and filter.
struct Bare {
    runtime: &'static str,
    root: PathBuf,
    bundle: PathBuf,
    config: Value,
}

impl Bare {
    fn like(server: &Server, id: &str) -> Result<Self> {
        let dir = server.data.join("bare");
        let (bundle, root, rootfs) = (dir.join("bundle"), dir.join("oci"), dir.join("rootfs"));
        let (scratch, console) = (dir.join("scratch"), dir.join("console"));
        for path in [&bundle, &root, &rootfs, &scratch] {
            fs::create_dir_all(path)?;
        }
        fs::write(&console, "")?;
        let text = fs::read_to_string(server.run_dir()?.join(id).join("bundle/config.json"))?;
        let mut config: Value = serde_json::from_str(&text)?;
        let base = config["linux"]["uidMappings"][0]["hostID"]
            .as_u64()
            .ok_or("no mapping")?;
        let owner = Some(u32::try_from(base)?);
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&scratch))?;
        for name in ["upper", "work"] {
            fs::create_dir(scratch.join(name))?;
            chown(scratch.join(name), owner, owner)?;
        }
        let images = server.data.join("native/images");
        let image = fs::read_dir(images)?.next().ok_or("no image")??.path();
        let lower = fs::read_dir(image)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.join("bin").exists())
            .ok_or("no root file system")?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            scratch.join("upper").display(),
            scratch.join("work").display()
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o"])
            .arg(options)
            .arg(&rootfs))?;
        config["root"]["path"] = json!(rootfs);
        config["process"]["args"] = json!(["/bin/sleep", "1000"]);
        if let Some(mounts) = config["mounts"].as_array_mut() {
            for mount in mounts {
                if mount["destination"] == "/dev/console" {
                    mount["source"] = json!(console);
                }
            }
        }
        Ok(Self {
            runtime: oci_runtime()?,
            root,
            bundle,
            config,
        })
    }

    fn create_and_start(&mut self, name: &str) -> Result<Duration> {
        self.config["linux"]["cgroupsPath"] =
            json!(format!("/hzel-bench-{}/{name}", std::process::id()));
        fs::write(self.bundle.join("config.json"), self.config.to_string())?;
        let began = Instant::now();
        run(self
            .command()
            .args(["create", "--bundle"])
            .arg(&self.bundle)
            .arg(name))?;
        run(self.command().args(["start", name]))?;
        Ok(began.elapsed())
    }

    fn exec(&self, name: &str) -> Result<Duration> {
        let began = Instant::now();
        run(self.command().args(["exec", name, "/bin/sh", "-c", "true"]))?;
        Ok(began.elapsed())
    }

    fn delete(&self, name: &str) -> Result<()> {
        run(self.command().args(["delete", "--force", name]))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.runtime);
        command.arg("--root").arg(&self.root);
        command
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        for name in ["rootfs", "scratch"] {
            let dir = self.bundle.with_file_name(name);
            // What is left mounted ends with this namespace.
            let _unmounted = Command::new("umount").arg(&dir).status();
        }
    }
}

async fn create_to_running(server: &Server) -> Result<Row> {
    let (first, _) = server.create("bench-first").await?;
    let mut bare = Bare::like(server, &first)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (id, took) = server.create(&format!("bench-{round}")).await?;
        ours.push(took);
        server.delete(&format!("/containers/{id}")).await?;
        let name = format!("bare-{round}");
        theirs.push(bare.create_and_start(&name)?);
        bare.delete(&name)?;
    }
    server.delete(&format!("/containers/{first}")).await?;
    Ok(Row {
        what: "create -> running (bare runtime, same bundle)",
        ours: median(ours),
        yardstick: median(theirs),
        unit: "ms",
        goal: "<= 1.5",
    })
}

async fn command_to_completed(server: &Server) -> Result<Row> {
    let (id, _) = server.create("bench-exec").await?;
    let mut bare = Bare::like(server, &id)?;
    bare.create_and_start("bare-exec")?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS * 2 {
        let began = Instant::now();
        let path = format!("/containers/{id}/commands");
        let command = server.post(&path, &json!({ "command": "true" })).await?;
        let job = command["id"].as_str().ok_or("no id")?;
        let done = server
            .get(&format!("/commands/{job}?wait_seconds=30"))
            .await?;
        if done["status"] != "completed" {
            return Err(format!("the command did not complete: {done}").into());
        }
        ours.push(began.elapsed());
        theirs.push(bare.exec("bare-exec")?);
    }
    bare.delete("bare-exec")?;
    server.delete(&format!("/containers/{id}")).await?;
    Ok(Row {
        what: "POST command -> completed (bare exec)",
        ours: median(ours),
        yardstick: median(theirs),
        unit: "ms",
        goal: "<= 1.3",
    })
}

async fn list_against_healthz(server: &Server) -> Result<Row> {
    for number in 0..20 {
        server.create(&format!("bench-list-{number}")).await?;
    }
    let (mut list, mut health) = (0.0, 0.0);
    // Twice in turn, so that a busy moment of the machine meets both.
    for _ in 0..2 {
        health += rate(server, "/healthz").await?;
        list += rate(server, "/containers?limit=20").await?;
    }
    Ok(Row {
        what: "GET /containers, 20 rows, token (/healthz)",
        ours: list / 2.0,
        yardstick: health / 2.0,
        unit: "/s",
        goal: ">= 0.2",
    })
}

/// Requests a second.
async fn rate(server: &Server, path: &str) -> Result<f64> {
    let until = Instant::now() + RATE_FOR;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (http, url) = (server.http.clone(), format!("{}{path}", server.base));
        clients.spawn(async move {
            let mut count = 0_u32;
            while Instant::now() < until {
                let answer = http.get(&url).send().await?;
                if !answer.status().is_success() {
                    return Err(answer
                        .error_for_status()
                        .err()
                        .map_or("refused".into(), Into::into));
                }
                answer.bytes().await?;
                count += 1;
            }
            Ok::<u32, Box<dyn Error + Send + Sync>>(count)
        });
    }
    let mut total = 0_u32;
    while let Some(count) = clients.join_next().await {
        total += count??;
    }
    Ok(f64::from(total) / RATE_FOR.as_secs_f64())
}
