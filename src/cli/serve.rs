//! `hzel serve`: migrate, reconcile, serve, and end cleanly.
//!
//! To do one more thing at the start, add it to [`run`] before the line that says ready.

use std::net::TcpListener;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{Outcome, open};
use crate::config::Config;
use crate::domain::ctx::Ctx;
use crate::domain::{images, setup};
use crate::runtime::ImageSource;
use crate::{jobs, web};

/// How long background work may take to end; what does not is taken up by the next start.
const JOBS_END_WITHIN: Duration = Duration::from_secs(3);

/// Open files the server wants: each connection, and each transfer from or to a container, has one
/// or more. Not more, since some of the programs that are run try all numbers up to the limit.
const OPEN_FILES: u64 = 65_536;

/// Lets the server have as many open files as the host allows, where less is the custom.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = OPEN_FILES.min(limit.maximum.unwrap_or(OPEN_FILES));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

pub async fn run(config: Config) -> Outcome {
    raise_open_files();
    let listen = config.listen;
    let listener = TcpListener::bind(listen).map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "HZEL_LISTEN: another program listens on {listen}; stop it, or choose another port"
        ),
        _ => format!("HZEL_LISTEN: {listen} cannot be listened on: {e}"),
    })?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let cookie_key = open::cookie_key(&config)?;
    let app = open::app(config, true)?;
    let failed = |e: crate::error::Error| format!("cannot start: {e}");

    jobs::reconcile::at_start(&app).await.map_err(failed)?;
    let ctx = Ctx::system(app.clone(), "start");
    let (name, source) = default_image(&app.config.image);
    images::ensure_default(&ctx, &name, &source)
        .await
        .map_err(failed)?;

    let stop = app.stopping.clone();
    let mut tasks = jobs::spawn(&app, &stop);
    let server =
        web::server(app.clone(), listener, cookie_key).map_err(|e| format!("cannot serve: {e}"))?;
    let handle = server.handle();
    let mut serving = tokio::spawn(server);

    if setup::is_needed(&ctx).await.map_err(failed)? {
        // Not a line of the log: no filter may hide it.
        eprintln!(
            "hzel: there is no user yet; open {}setup; setup code: {}",
            app.config.public_url, app.setup_code
        );
    }
    println!(
        "hzel is ready on http://{address} ({})",
        app.config.public_url
    );

    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut serving => Some(ended),
    };
    tracing::info!("stopping; containers keep running");
    stop.cancel();
    if ended.is_none() {
        handle.stop(true).await;
    }
    let quiet = tokio::time::timeout(JOBS_END_WITHIN, async {
        while tasks.join_next().await.is_some() {}
    });
    if quiet.await.is_err() {
        tracing::warn!("background work goes on at the next start");
        tasks.abort_all();
    }
    if let Err(error) = app.runtime.close().await {
        tracing::warn!(%error, "something of this machine was not given back");
    }
    match ended {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(e))) => Err(format!("the server ended: {e}")),
        Some(Err(e)) => Err(format!("the server was lost: {e}")),
    }
}

/// The default image's name and source: this machine's own distribution, unless the operator chose
/// another.
fn default_image(configured: &str) -> (String, String) {
    let name = match ImageSource::parse(configured) {
        Ok(ImageSource::Oci(reference)) => {
            let last = reference.rsplit('/').next().unwrap_or_default();
            last.split('@').next().unwrap_or_default().to_owned()
        }
        Ok(ImageSource::Tarball(path)) => {
            let file = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            file.split(".tar").next().unwrap_or_default().to_owned()
        }
        Ok(ImageSource::Default) | Err(_) => distribution(),
    };
    let clean: String = name
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let clean = clean.trim_matches(['-', '.']);
    let clean: String = clean.chars().take(63).collect();
    let name = if clean.is_empty() {
        "default".to_owned()
    } else {
        clean
    };
    let source = if configured.is_empty() {
        "default"
    } else {
        configured
    };
    (name, source.to_owned())
}

/// Such as `debian-12`.
fn distribution() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    format!("{}-{}", value("ID"), value("VERSION_ID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_image_is_named_by_its_source() {
        for (source, name) in [
            ("docker.io/library/debian:12", "debian-12"),
            ("localhost:5000/box", "box"),
            ("/srv/images/My Box.tar.gz", "my-box"),
        ] {
            assert_eq!(default_image(source), (name.to_owned(), source.to_owned()));
        }
        assert_eq!(default_image("").1, "default");
    }
}
