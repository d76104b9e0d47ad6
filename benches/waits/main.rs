//! What a user waits for, as ratios to a yardstick measured in the same run: absolute numbers say
//! more about the machine than about hzel. Run it with `cargo bench`, as root.
//!
//! It starts release servers of its own in scratch directories, on SQLite and, where it is
//! installed, on PostgreSQL, and removes everything again. With `HZEL_BENCH_IMAGE` (a tar file) it
//! does not make the default image first. To add a row, write a function that answers a [`Row`]
//! and show it in [`measure`].

mod bare;
mod postgres;
mod server;
mod terminals;

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use self::bare::Bare;
use self::postgres::Postgres;
use self::server::Server;

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
    // as in hzel, so the bench moves into a mount namespace of its own, where it is the yardstick.
    if std::env::var_os("HZEL_BENCH_INSIDE").is_none() {
        let error = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" --bench")
            .arg(std::env::current_exe()?)
            .env("HZEL_BENCH_INSIDE", "1")
            .exec();
        return Err(error.into());
    }
    // reqwest asks for it, even where only http is spoken; nobody else has installed one here.
    let _first = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure())
}

/// Prints a line as soon as it is known.
fn show(row: &Row) {
    println!(
        "{:52} {:>9.2} {:2} {:>9.2} {:2} {:>8.3}  {}",
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
        "{:52} {:>12} {:>12} {:>8}  goal",
        "", "hzel", "yardstick", "ratio"
    );
    let server = Server::start(None).await?;
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
    let measured = on_sqlite(&server).await;
    // Also after a failure: what was made must not stay.
    server.end().await?;
    measured?;
    let Some(postgres) = Postgres::start()? else {
        println!("PostgreSQL is not installed: not measured on it");
        return Ok(());
    };
    let server = Server::start(Some(&postgres.url)).await?;
    let measured = on_postgres(&server).await;
    server.end().await?;
    measured
}

async fn on_sqlite(server: &Server) -> Result<()> {
    server.wait_for_image().await?;
    show(&create_to_running(server).await?);
    show(&command_to_completed(server).await?);
    show(&terminals::echo(server).await?);
    show(&terminals::output(server).await?);
    show(&login_against_hash(server).await?);
    show(&list_against_healthz(server, "GET /containers, 20 rows, SQLite (/healthz)").await?);
    Ok(())
}

async fn on_postgres(server: &Server) -> Result<()> {
    server.wait_for_image().await?;
    let what = "GET /containers, 20 rows, PostgreSQL (/healthz)";
    show(&list_against_healthz(server, what).await?);
    Ok(())
}

/// Signing in is one hash on purpose; the rest should not be felt.
async fn login_against_hash(server: &Server) -> Result<Row> {
    use argon2::PasswordHasher as _;
    let url = format!("{}/auth/login", server.base);
    let body = json!({ "email": server::EMAIL, "password": server::PASSWORD });
    let hasher = argon2::Argon2::default();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let answer = reqwest::Client::new().post(&url).json(&body).send().await?;
        if !answer.status().is_success() {
            return Err(format!("signing in: {}", answer.status()).into());
        }
        ours.push(began.elapsed());
        let began = Instant::now();
        hasher
            .hash_password_with_salt(server::PASSWORD.as_bytes(), b"sixteen bytes is")
            .map_err(|error| error.to_string())?;
        theirs.push(began.elapsed());
    }
    Ok(Row {
        what: "POST /auth/login (one argon2id hash)",
        ours: median(ours),
        yardstick: median(theirs),
        unit: "ms",
        goal: "<= 1.5",
    })
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
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

async fn list_against_healthz(server: &Server, what: &'static str) -> Result<Row> {
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
        what,
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
