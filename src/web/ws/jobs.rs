//! `/ws/jobs/{id}`: a command's progress and all of its output, for any number of listeners.
//!
//! To send listeners one more thing, add it to [`Frame`].

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::socket::{self, CloseCode, Gone, Sender};
use super::utf8::Decoder;
use crate::domain::access::{Ended, Watch};
use crate::domain::commands::{self, CommandStatus, Following, Step};
use crate::domain::ctx::Ctx;
use crate::domain::permissions::Permissions;
use crate::error::Result;
use crate::runtime::Stream;

/// Nothing is asked of a listener, so nothing large is taken.
const MAX_FRAME: usize = 4 * 1024;
/// Bytes of text of one frame, about.
const CHUNK: usize = 16 * 1024;

/// What a listener is sent.
#[derive(Debug, serde::Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Frame<'a> {
    Queued {
        job_id: &'a str,
    },
    Started,
    Output {
        stream: &'static str,
        chunk: &'a str,
    },
    /// So many bytes are kept no more; null when it is not known how many.
    Truncated {
        bytes: Option<u64>,
    },
    Finished {
        status: CommandStatus,
        exit_code: Option<i32>,
        success: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    },
}

/// `GET /ws/jobs/{id}`.
///
/// # Errors
/// As `commands::follow` and `socket::accept`.
pub async fn follow(
    ctx: Ctx,
    request: HttpRequest,
    payload: Payload,
    id: Path<String>,
) -> Result<HttpResponse> {
    let following = commands::follow(&ctx, &id).await?;
    let watch = Watch::on(following.container_id().clone(), Permissions::TERMINAL);
    let (response, sender, _) = socket::accept(&ctx, &request, payload, watch, MAX_FRAME)?;
    tokio::spawn(serve(following, sender));
    Ok(response)
}

async fn serve(following: Following, sender: Sender) {
    let watched = sender.clone();
    tokio::select! {
        () = watched.gone() => {}
        () = tell(following, sender) => {}
    }
}

async fn tell(mut following: Following, sender: Sender) {
    let mut teller = Teller {
        sender,
        stdout: Decoder::default(),
        stderr: Decoder::default(),
    };
    let mut over = false;
    let (code, reason) = loop {
        let sent = match following.next().await {
            Ok(Some(Step::Queued)) => {
                let job_id = following.id().as_str();
                teller.send(&Frame::Queued { job_id }).await
            }
            Ok(Some(Step::Started)) => teller.send(&Frame::Started).await,
            Ok(Some(Step::Output(output))) => teller.output(output).await,
            Ok(Some(Step::Dropped(bytes))) => match teller.rest().await {
                Ok(()) => teller.send(&Frame::Truncated { bytes }).await,
                gone => gone,
            },
            Ok(Some(Step::Finished(command))) => {
                over = true;
                let finished = Frame::Finished {
                    status: command.status,
                    exit_code: command.exit_code,
                    success: command.status == CommandStatus::Completed,
                    error: command.error.as_deref(),
                };
                match teller.rest().await {
                    Ok(()) => teller.send(&finished).await,
                    gone => gone,
                }
            }
            Ok(None) if over => break (CloseCode::Normal, "The command is over"),
            Ok(None) => break (CloseCode::Policy, Ended::Container.reason()),
            Err(error) => {
                tracing::error!(%error, "a command could not be followed");
                break (CloseCode::Error, "Something went wrong on our side");
            }
        };
        if sent.is_err() {
            return;
        }
    };
    teller.sender.close(code, reason).await;
}

struct Teller {
    sender: Sender,
    stdout: Decoder,
    stderr: Decoder,
}

impl Teller {
    async fn send(&mut self, frame: &Frame<'_>) -> Result<(), Gone> {
        // Of text and numbers only: it cannot fail.
        let text = serde_json::to_string(frame).unwrap_or_default();
        self.sender.text(text).await
    }

    /// Pieces of one stream in a row go together, as far as they fit.
    async fn output(&mut self, output: Vec<(Stream, bytes::Bytes)>) -> Result<(), Gone> {
        let mut chunk = String::new();
        let mut of = Stream::Stdout;
        for (stream, bytes) in output {
            for piece in bytes.chunks(CHUNK) {
                if stream != of || chunk.len() + piece.len() > CHUNK {
                    self.send_chunk(of, &mut chunk).await?;
                    of = stream;
                }
                let decoder = match stream {
                    Stream::Stdout => &mut self.stdout,
                    Stream::Stderr => &mut self.stderr,
                };
                chunk.push_str(&decoder.push(piece));
            }
        }
        self.send_chunk(of, &mut chunk).await
    }

    /// What the streams owe when nothing can complete it any more.
    async fn rest(&mut self) -> Result<(), Gone> {
        for (stream, rest) in [
            (Stream::Stdout, self.stdout.finish()),
            (Stream::Stderr, self.stderr.finish()),
        ] {
            self.send_chunk(stream, &mut rest.to_owned()).await?;
        }
        Ok(())
    }

    async fn send_chunk(&mut self, stream: Stream, chunk: &mut String) -> Result<(), Gone> {
        if chunk.is_empty() {
            return Ok(());
        }
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let sent = self.send(&Frame::Output { stream, chunk }).await;
        chunk.clear();
        sent
    }
}
