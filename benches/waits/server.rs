//! The release server that is measured, with one administrator and a token.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Result;

/// A server of our own, with one administrator and a token.
pub struct Server {
    child: Ended,
    pub base: String,
    pub data: PathBuf,
    pub http: reqwest::Client,
    pub ready_after: Duration,
}

/// A process that does not outlive the bench, however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It has ended already when all went well.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// The administrator's.
pub const EMAIL: &str = "bench@example.org";
pub const PASSWORD: &str = "a bench needs a password";

impl Server {
    /// On SQLite, or on the PostgreSQL database of that address.
    pub async fn start(database: Option<&str>) -> Result<Self> {
        let kind = if database.is_some() {
            "postgres"
        } else {
            "sqlite"
        };
        let data = PathBuf::from(format!("/var/tmp/hzel-bench-{}-{kind}", std::process::id()));
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
        if let Some(url) = database {
            environment.push(("DATABASE_URL", url.to_owned()));
        }
        if let Ok(image) = std::env::var("HZEL_BENCH_IMAGE") {
            environment.push(("HZEL_IMAGE", image));
        }
        // The tables and the account are there before, as at every start but the first.
        let mut create = hzel(&environment)
            .args([
                "user",
                "create",
                "--email",
                EMAIL,
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
            .write_all(PASSWORD.as_bytes())?;
        if !create.wait()?.success() {
            return Err("the account could not be made".into());
        }
        let args = ["token", "create", "--user", EMAIL, "--name", "bench"];
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
            child: Ended(child),
            base,
            data,
            http,
            ready_after,
        })
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer: Value = self
            .http
            .get(format!("{}{path}", self.base))
            .send()
            .await?
            .json()
            .await?;
        unwrap(answer)
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.http.post(format!("{}{path}", self.base)).json(body);
        unwrap(request.send().await?.json().await?)
    }

    pub async fn delete(&self, path: &str) -> Result<()> {
        let request = self.http.delete(format!("{}{path}", self.base));
        unwrap(request.send().await?.json().await?).map(drop)
    }

    pub fn resident_mib(&self) -> Result<f64> {
        std::thread::sleep(Duration::from_secs(1));
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id()))?;
        let line = status
            .lines()
            .find(|l| l.starts_with("VmRSS:"))
            .ok_or("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
        Ok(kib / 1024.0)
    }

    pub async fn wait_for_image(&self) -> Result<()> {
        loop {
            let images = self.get("/images").await?;
            match images[0]["status"].as_str() {
                Some("ready") => return Ok(()),
                Some("failed") => return Err(format!("the image failed: {images}").into()),
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Makes one and waits until the stream of events says that it runs, as a page does. Who asks again
    /// and again instead takes one of two processors from what is measured.
    pub async fn create(&self, hostname: &str) -> Result<(String, Duration)> {
        let mut events = Events::open(self).await?;
        let began = Instant::now();
        let made = self
            .post("/containers", &json!({ "hostname": hostname }))
            .await?;
        let id = made["id"].as_str().ok_or("no id")?.to_owned();
        loop {
            let event = events.next().await?;
            if event["id"] != id.as_str() {
                continue;
            }
            match event["state"].as_str() {
                Some("running") => return Ok((id, began.elapsed())),
                Some("provisioning") | None => {}
                _ => return Err(format!("it did not start: {event}").into()),
            }
        }
    }

    /// Where the engine keeps what the OCI runtime knows.
    pub fn run_dir(&self) -> Result<PathBuf> {
        let instance = fs::read_to_string(self.data.join("native/instance"))?;
        Ok(Path::new("/run/hzel").join(instance.trim()))
    }

    pub async fn end(mut self) -> Result<()> {
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
        let pid = self.child.0.id().to_string();
        Command::new("kill").arg(&pid).status()?;
        self.child.0.wait()?;
        fs::remove_dir_all(&self.data)?;
        Ok(())
    }
}

/// `GET /events`, server-sent.
struct Events {
    answer: reqwest::Response,
    /// What came and has not been looked at.
    text: String,
}

impl Events {
    async fn open(server: &Server) -> Result<Self> {
        let answer = server.http.get(format!("{}/events", server.base));
        let mut events = Self {
            answer: answer.send().await?.error_for_status()?,
            text: String::new(),
        };
        // It begins with a comment; from then on nothing is missed.
        while events.text.is_empty() {
            events.more().await?;
        }
        Ok(events)
    }

    async fn more(&mut self) -> Result<()> {
        let piece = self.answer.chunk().await?.ok_or("the events ended")?;
        self.text.push_str(std::str::from_utf8(&piece)?);
        Ok(())
    }

    async fn next(&mut self) -> Result<Value> {
        loop {
            let Some((line, rest)) = self.text.split_once('\n') else {
                self.more().await?;
                continue;
            };
            let event = line.strip_prefix("data:").map(serde_json::from_str);
            self.text = rest.to_owned();
            if let Some(event) = event {
                return Ok(event?);
            }
        }
    }
}

/// hzel as an operator would call it: among the mounts that this bench itself has left.
fn hzel(environment: &[(&'static str, String)]) -> Command {
    let mounts = format!("/proc/{}/ns/mnt", std::os::unix::process::parent_id());
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--mount={mounts}"))
        .arg(env!("CARGO_BIN_EXE_hzel"));
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
