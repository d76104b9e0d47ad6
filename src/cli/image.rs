//! Images from the command line. A running server makes what is asked for here; without one, this
//! process does.
//!
//! To show more of an image, extend the rows of `list`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::{ImageCommand, Outcome, open};
use crate::config::Config;
use crate::db;
use crate::domain::ctx::Ctx;
use crate::domain::images::{self, ImageStatus};
use crate::error::{Error, Result};
use crate::jobs;

/// A server takes up new work within two seconds.
const SERVER_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

pub async fn run(config: Config, command: ImageCommand) -> Outcome {
    let ctx = open::ctx(config)?;
    let told = |error: Error| error.message();
    match command {
        ImageCommand::List => {
            for image in images::list(&ctx).await.map_err(told)? {
                let mark = if image.is_default { " (default)" } else { "" };
                let state = match image.status {
                    ImageStatus::Preparing => format!("{} {}%", image.step, image.percent),
                    ImageStatus::Ready => format!("{} MiB", image.size_bytes / (1024 * 1024)),
                    ImageStatus::Failed => image.error.unwrap_or_default(),
                };
                println!(
                    "{}{mark}\t{}\t{}\t{state}",
                    image.name, image.status, image.source
                );
            }
            Ok(())
        }
        ImageCommand::Add { name, source } => {
            // A path is relative to where the operator is, not to where the server is.
            let source = match std::fs::canonicalize(&source) {
                Ok(path) if source.contains(".tar") || source.contains(".tgz") => {
                    path.to_string_lossy().into_owned()
                }
                _ => source,
            };
            images::add(&ctx, &name, &source).await.map_err(told)?;
            follow(&ctx, &name).await
        }
        ImageCommand::Remove { name } => {
            images::remove(&ctx, &name).await.map_err(told)?;
            work_if_nobody_does(&ctx, &name, Instant::now() + SERVER_ANSWERS_WITHIN)
                .await
                .map_err(told)?;
            println!("{name} is removed");
            Ok(())
        }
    }
}

async fn follow(ctx: &Ctx, name: &str) -> Outcome {
    let told = |error: Error| error.message();
    let helper = ctx.clone();
    let subject = name.to_owned();
    let by = Instant::now() + SERVER_ANSWERS_WITHIN;
    let mut working = tokio::spawn(async move { work_if_nobody_does(&helper, &subject, by).await });
    let shown = std::io::stderr().is_terminal();
    loop {
        let image = images::get(ctx, name).await.map_err(told)?;
        match image.status {
            ImageStatus::Ready => {
                println!("{name} is ready: {}", image.description);
                return Ok(());
            }
            ImageStatus::Failed => {
                return Err(format!(
                    "{name} could not be made: {}",
                    image.error.unwrap_or_default()
                ));
            }
            ImageStatus::Preparing if shown => {
                eprint!("\r\x1b[K{:3}% {}", image.percent, image.step);
                let _shown = std::io::stderr().flush();
            }
            ImageStatus::Preparing => {}
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(300)) => {}
            done = &mut working, if !working.is_finished() => match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(told(error)),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// Does the work about that image here, when no server has begun it by then.
async fn work_if_nobody_does(ctx: &Ctx, name: &str, by: Instant) -> Result<()> {
    loop {
        let node = ctx.app().node_name.clone();
        let waiting = ctx
            .db()
            .read(move |conn| Ok(db::jobs::queued(conn, &node, 500)?))
            .await?;
        let Some(job) = waiting
            .into_iter()
            .find(|j| j.container_id.is_none() && j.subject == name)
        else {
            return Ok(());
        };
        if Instant::now() < by {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        let (id, now) = (job.id.clone(), ctx.now());
        if ctx
            .db()
            .write(move |conn| Ok(db::jobs::claim(conn, &id, now)?))
            .await?
        {
            jobs::begin(ctx, &job).await?;
        }
    }
}
