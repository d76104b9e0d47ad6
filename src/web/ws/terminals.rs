//! `/ws/terminal/{container_id}`: a shell's output to its viewer, and what the viewer types to it.
//!
//! To understand one more message, add it to [`Asked`] and [`act`].

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::socket::{self, CloseCode, Gone, Incoming, Receiver, Sender};
use super::utf8::Decoder;
use crate::domain::access::Watch;
use crate::domain::ctx::Ctx;
use crate::domain::files;
use crate::domain::permissions::Permissions;
use crate::domain::terminals::{self, Ending, Opening, Seen, SessionName, Shell, Shown, Viewer};
use crate::error::{Error, Result};
use crate::web::extract::{Query, QueryWhole};
use crate::web::wrong_type;

/// Largest message: an upload, in base64, with room for what is around it.
const MAX_FRAME: usize = 16 * 1024 * 1024;
/// How long what a peer sent before it went may take to be typed.
const LAST_INPUT: std::time::Duration = std::time::Duration::from_secs(1);
/// Largest upload, in bytes.
const MAX_UPLOAD: usize = 10 * 1024 * 1024;

/// What the address may say.
#[derive(Debug, Deserialize)]
pub struct TerminalQuery {
    session: Option<String>,
    since: Option<QueryWhole>,
    /// Which shell `since` is about.
    shell: Option<String>,
    binary: Option<String>,
    /// Whether the viewer says how far it is by `seen` messages.
    acks: Option<String>,
}

impl TerminalQuery {
    fn opening(&self) -> Result<Opening> {
        let session = self
            .session
            .as_deref()
            .map(SessionName::parse)
            .transpose()?;
        let since = match self.since {
            None => None,
            Some(QueryWhole(offset)) => {
                let offset = u64::try_from(offset)
                    .map_err(|_| Error::field("since", "since must be 0 or more"))?;
                let shell = self.shell.clone();
                Some(Seen { offset, shell })
            }
        };
        Ok(Opening { session, since })
    }

    fn manner(&self) -> Result<Manner> {
        Ok(Manner {
            binary: is_on("binary", self.binary.as_deref())?,
            acks: is_on("acks", self.acks.as_deref())?,
        })
    }
}

fn is_on(name: &str, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(Error::field(name, format!("{name} must be 0 or 1"))),
    }
}

/// How a viewer wants to be shown output.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// In binary messages.
    binary: bool,
    /// Only as far ahead as it says that it has seen: a browser takes everything from the network
    /// at once, and would keep what it cannot draw in memory.
    acks: bool,
}

/// What a viewer says, beside raw input in binary messages.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Asked {
    Input { data: String },
    Resize { cols: i64, rows: i64 },
    FileUpload { path: String, data: String },
    Seen { offset: u64 },
}

const TYPES: [&str; 4] = ["input", "resize", "file_upload", "seen"];

/// What a viewer is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told<'a> {
    Opened {
        container_id: &'a str,
        /// The shell's id: another one has another output.
        terminal_id: &'a str,
        session: Option<&'a str>,
        /// How much of the shell's output came before what is shown now, in bytes.
        offset: u64,
        /// How many of the bytes that follow were printed before this viewer came.
        replay: u64,
    },
    Output {
        data: &'a str,
    },
    Resized {
        cols: u16,
        rows: u16,
    },
    FileUploaded {
        path: &'a str,
    },
    FileUploadError {
        path: &'a str,
        message: &'a str,
    },
    Error {
        message: &'a str,
    },
    Closed,
}

async fn tell(sender: &mut Sender, told: &Told<'_>) -> Result<(), Gone> {
    // Text and numbers are always representable.
    let text = serde_json::to_string(told).unwrap_or_default();
    sender.text(text).await
}

/// `GET /ws/terminal/{container_id}`.
///
/// # Errors
/// As `terminals::open` and [`socket::accept`].
pub async fn open(
    ctx: Ctx,
    request: HttpRequest,
    payload: Payload,
    id: Path<String>,
    query: Query<TerminalQuery>,
) -> Result<HttpResponse> {
    let container = terminals::check(&ctx, &id).await?;
    let (opening, manner) = (query.0.opening()?, query.0.manner()?);
    let watch = Watch::on(container, Permissions::TERMINAL);
    let (response, sender, receiver) = socket::accept(&ctx, &request, payload, watch, MAX_FRAME)?;
    let viewer = terminals::open(&ctx, &id, opening).await?;
    actix_web::rt::spawn(serve(ctx, viewer, sender, receiver, manner));
    Ok(response)
}

async fn serve(ctx: Ctx, mut viewer: Viewer, sender: Sender, receiver: Receiver, manner: Manner) {
    let key = viewer.key();
    let shell = std::sync::Arc::clone(viewer.shell());
    let (mut telling, answering) = (sender.clone(), sender.clone());
    let work = async {
        let opened = Told::Opened {
            container_id: shell.container.as_str(),
            terminal_id: &shell.id,
            session: shell.session.as_ref().map(SessionName::as_str),
            offset: viewer.begin,
            replay: viewer.replay,
        };
        tell(&mut telling, &opened).await?;
        let listening = listen(&ctx, &shell, key, receiver, answering);
        tokio::pin!(listening);
        tokio::select! {
            shown = show(&mut viewer, &mut telling, manner) => if let Ok(end) = shown {
                return Ok(Some(end));
            },
            () = &mut listening => return Ok(None),
        }
        // The peer is gone. What it typed last came all the same, and is for the shell.
        let _rest = tokio::time::timeout(LAST_INPUT, listening).await;
        Err(Gone)
    };
    let ended = work.await;
    // Before the end is said: who hears it may come back at once.
    drop(viewer);
    match ended {
        Ok(Some((code, reason))) => sender.close(code, reason).await,
        Ok(None) => sender.close(CloseCode::Normal, "").await,
        Err(Gone) => {}
    }
    // Perhaps because its user may not use it any more.
    ctx.app().terminals.recheck();
}

/// Shows output until the shell is over; how the socket is to be closed then.
async fn show(
    viewer: &mut Viewer,
    sender: &mut Sender,
    manner: Manner,
) -> Result<(CloseCode, &'static str), Gone> {
    // A program may print a character in two steps, with any time between them.
    let mut text = Decoder::default();
    loop {
        match viewer.next().await {
            Shown::Output(bytes) => {
                let sending = async {
                    if manner.binary {
                        return sender.binary(bytes).await;
                    }
                    match text.push(&bytes).as_str() {
                        "" => Ok(()),
                        data => tell(sender, &Told::Output { data }).await,
                    }
                };
                tokio::select! {
                    sent = sending => sent?,
                    () = viewer.let_go() => return Ok(too_slow()),
                }
                if !manner.acks {
                    viewer.shell().seen(viewer.key(), viewer.at());
                }
            }
            Shown::Resized(size) => {
                let (cols, rows) = (size.cols, size.rows);
                tell(sender, &Told::Resized { cols, rows }).await?;
            }
            Shown::TooSlow => return Ok(too_slow()),
            Shown::Ended(why) => {
                if let data @ "\u{FFFD}" = text.finish() {
                    tell(sender, &Told::Output { data }).await?;
                }
                let (code, reason, is_fault) = farewell(why);
                if is_fault {
                    tell(sender, &Told::Error { message: reason }).await?;
                }
                tell(sender, &Told::Closed).await?;
                return Ok((code, reason));
            }
        }
    }
}

const fn too_slow() -> (CloseCode, &'static str) {
    (
        CloseCode::Policy,
        "The connection is too slow for the output",
    )
}

/// How a shell's end is said: the socket's code, a sentence, and whether it is one to be shown.
const fn farewell(why: Ending) -> (CloseCode, &'static str, bool) {
    match why {
        Ending::Exited | Ending::Left => (CloseCode::Normal, "The shell ended", false),
        Ending::Asked => (CloseCode::Normal, "The terminal was ended", false),
        Ending::Stopped => (CloseCode::Normal, "The container stopped", true),
        Ending::Idle => (
            CloseCode::Normal,
            "The terminal was idle for too long",
            true,
        ),
        Ending::Withdrawn => (CloseCode::Policy, "Access was withdrawn", true),
        Ending::Server => (CloseCode::Away, "The server is restarting", true),
    }
}

/// Does what the viewer asks until it is gone.
async fn listen(ctx: &Ctx, shell: &Shell, viewer: u64, mut receiver: Receiver, mut sender: Sender) {
    while let Some(message) = receiver.next().await {
        let problem = match message {
            Incoming::Binary(bytes) => type_in(shell, bytes).await.err(),
            Incoming::Text(text) => match parse(&text) {
                Ok(asked) => act(ctx, shell, viewer, asked, &mut sender).await,
                Err(message) => Some(message),
            },
        };
        if let Some(message) = problem {
            // One that is gone is not told; the last that it sent may still be waiting here.
            let _gone = tell(&mut sender, &Told::Error { message: &message }).await;
        }
    }
}

fn parse(text: &str) -> Result<Asked, String> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|_| "A message must be JSON".to_owned())?;
    let kind = value.get("type").and_then(|kind| kind.as_str());
    if kind.is_none_or(|kind| !TYPES.contains(&kind)) {
        return Err(format!(
            "A message must be an object whose type is one of {}",
            TYPES.join(", ")
        ));
    }
    serde_json::from_value(value).map_err(|error| {
        // Which one is not known: the fields were read before the type was.
        wrong_type::sentence(".", &error.to_string()).replacen(
            "What is sent",
            "A field of the message",
            1,
        )
    })
}

async fn type_in(shell: &Shell, bytes: Bytes) -> Result<(), String> {
    if shell.type_in(bytes).await {
        Ok(())
    } else {
        Err("The program does not read what is typed; some of it is lost".into())
    }
}

/// Does it; what was wrong with it, if something was.
async fn act(
    ctx: &Ctx,
    shell: &Shell,
    viewer: u64,
    asked: Asked,
    sender: &mut Sender,
) -> Option<String> {
    match asked {
        Asked::Input { data } => type_in(shell, data.into()).await.err(),
        Asked::Seen { offset } => {
            shell.seen(viewer, offset);
            None
        }
        Asked::Resize { cols, rows } => match terminals::size(cols, rows) {
            Ok(size) => {
                shell.resize(size);
                None
            }
            Err(error) => Some(error.message()),
        },
        Asked::FileUpload { path, data } => {
            let done = upload(ctx, shell, &path, data).await;
            let path = &path;
            let _gone = match done {
                Ok(()) => tell(sender, &Told::FileUploaded { path }).await,
                Err(error) => {
                    if matches!(error, Error::Internal { .. }) {
                        tracing::error!(%error, "an upload in a terminal failed");
                    }
                    let message = &error.message();
                    tell(sender, &Told::FileUploadError { path, message }).await
                }
            };
            None
        }
    }
}

async fn upload(ctx: &Ctx, shell: &Shell, path: &str, data: String) -> Result<()> {
    let too_large = || Error::field("data", "data must be at most 10 MiB");
    // Before it is decoded: base64 is a third longer.
    if data.len() / 4 * 3 > MAX_UPLOAD + 2 {
        return Err(too_large());
    }
    let bytes = STANDARD
        .decode(data.as_bytes())
        .map_err(|_| Error::field("data", "data must be base64"))?;
    drop(data);
    if bytes.len() > MAX_UPLOAD {
        return Err(too_large());
    }
    let container = shell.container.as_str();
    files::upload(ctx, container, path, bytes.into()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        assert!(matches!(
            parse(r#"{"type":"input","data":"a"}"#),
            Ok(Asked::Input { .. })
        ));
        assert!(matches!(
            parse(r#"{"type":"resize","cols":80,"rows":24}"#),
            Ok(Asked::Resize { cols: 80, rows: 24 })
        ));
        for wrong in [
            "",
            "[]",
            "7",
            r#"{"type":"x"}"#,
            r#"{"data":"a"}"#,
            r#"{"type":7}"#,
        ] {
            let message = parse(wrong).unwrap_err();
            assert!(
                message.starts_with("A message must be"),
                "{wrong}: {message}"
            );
        }
        for (wrong, said) in [
            (
                r#"{"type":"resize","cols":"80","rows":24}"#,
                "A field of the message must be a whole number",
            ),
            (r#"{"type":"resize","cols":80}"#, "rows is required"),
        ] {
            assert_eq!(parse(wrong).unwrap_err(), said);
        }
    }
}
