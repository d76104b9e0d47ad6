//! One WebSocket: its upgrade, its pings, its limits, and its end, whoever ends it. A handler sees
//! a [`Sender`] that waits for a slow peer and a [`Receiver`] of whole messages.
//!
//! To let all sockets do one more thing on their own, add it to [`Pump::run`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseReason, ProtocolError, Session};
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use actix_ws::CloseCode;

use crate::domain::access::{self, Ended, OpenStream, Presence, Watch};
use crate::domain::ctx::Ctx;
use crate::error::{Error, Result};

/// How often the peer is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// A peer that was not heard of for this long is gone.
const SILENT: Duration = Duration::from_secs(60);
/// How long an end may take to be said to a peer that reads slowly.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// Messages of the peer that wait for the handler before the peer has to.
const WAITING: usize = 4;

/// A message of the peer's, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Text(String),
    Binary(Bytes),
}

/// The socket has ended; nothing can be sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// The way to the peer. Clones send through one queue of a few messages; when all are dropped
/// without [`Sender::close`], the socket ends as after a fault.
#[derive(Clone)]
pub struct Sender {
    session: Session,
    life: Arc<Life>,
    _held: Arc<Held>,
}

/// What the peer sends.
#[derive(Debug)]
pub struct Receiver(mpsc::Receiver<Incoming>);

/// What all parts of one socket know of it.
struct Life {
    /// Cancelled once it has ended, whoever ended it.
    over: CancellationToken,
    /// Cancelled when no [`Sender`] is left.
    abandoned: CancellationToken,
    /// When a peer that was waited for last took something.
    drained: Mutex<Instant>,
}

/// Dropped with the last [`Sender`].
struct Held(CancellationToken);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Sender {
    /// Sends text. Waits while the peer is slow: no more than a few dozen messages are kept for it,
    /// so keep each to some 64 KiB.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn text(&mut self, text: impl Into<String>) -> Result<(), Gone> {
        let text: String = text.into();
        let mut session = self.session.clone();
        self.sent(session.text(text)).await
    }

    /// Sends bytes, as [`Sender::text`] does.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn binary(&mut self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        let bytes: Bytes = bytes.into();
        let mut session = self.session.clone();
        self.sent(session.binary(bytes)).await
    }

    async fn sent(
        &self,
        sending: impl Future<Output = std::result::Result<(), actix_ws::Closed>>,
    ) -> Result<(), Gone> {
        if self.life.over.is_cancelled() {
            return Err(Gone);
        }
        tokio::pin!(sending);
        if let Some(done) = sending.as_mut().now_or_never() {
            return done.map_err(|_| Gone);
        }
        tokio::select! {
            () = self.life.over.cancelled() => Err(Gone),
            done = sending => {
                // It had to be waited for, so the peer took something: it is there.
                *self.life.drained.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                done.map_err(|_| Gone)
            }
        }
    }

    /// Ends the socket with a code and a sentence for people (123 bytes at most are sent).
    pub async fn close(self, code: CloseCode, reason: &str) {
        if !self.life.over.is_cancelled() {
            say_end(&self.session, code, reason).await;
            self.life.over.cancel();
        }
    }

    /// Resolves when the socket has ended, whoever ended it.
    pub async fn gone(&self) {
        self.life.over.cancelled().await;
    }
}

impl Receiver {
    /// The next message; none when the socket has ended. Pings are answered without it, and also
    /// while nobody calls it, but the peer has to wait then.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.0.recv().await
    }
}

async fn say_end(session: &Session, code: CloseCode, reason: &str) {
    let reason = CloseReason {
        code,
        description: Some(reason.to_owned()),
    };
    let saying = session.clone().close(Some(reason));
    // A peer that reads nothing is not waited for.
    let _said = tokio::time::timeout(CLOSE_WITHIN, saying).await;
}

/// Upgrades the request. The caller has authorised it; the socket ends by itself when what `watch`
/// names ends, when the peer is silent, and when a message is larger than `max_frame` bytes.
///
/// # Errors
/// [`Error::BadRequest`] for a request that is no upgrade, [`Error::RateLimited`] when the user has
/// too many sockets open.
pub fn accept(
    ctx: &Ctx,
    request: &HttpRequest,
    payload: web::Payload,
    watch: Watch,
    max_frame: usize,
) -> Result<(HttpResponse, Sender, Receiver)> {
    let user = &ctx.caller()?.user_id;
    let app = ctx.app();
    let counted = app.open_streams.open(user, app.config.streams_per_user)?;
    let (response, session, stream) = actix_ws::handle(request, payload).map_err(|_| {
        Error::BadRequest("This is the address of a WebSocket: ask with an upgrade to one".into())
    })?;
    let stream = stream
        .max_frame_size(max_frame)
        .aggregate_continuations()
        .max_continuation_size(max_frame);
    let life = Arc::new(Life {
        over: CancellationToken::new(),
        abandoned: CancellationToken::new(),
        drained: Mutex::new(Instant::now()),
    });
    let (messages, receiver) = mpsc::channel(WAITING);
    let pump = Pump {
        ctx: ctx.clone(),
        session: session.clone(),
        life: Arc::clone(&life),
        messages,
        heard: Instant::now(),
        presence: Presence::new(),
    };
    let held = Arc::new(Held(life.abandoned.clone()));
    actix_web::rt::spawn(pump.run(stream, watch));
    let sender = Sender {
        session,
        life,
        _held: held,
    };
    let response = response.map_body(|_, body| BoxBody::new(Counted { body, counted }));
    Ok((response, sender, Receiver(receiver)))
}

/// The body of an upgraded answer; it is dropped with its connection, and counts until then.
struct Counted {
    body: BoxBody,
    #[expect(dead_code, reason = "held for its drop")]
    counted: OpenStream,
}

impl MessageBody for Counted {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}

/// What runs as long as the socket does, on the thread that has the connection.
struct Pump {
    ctx: Ctx,
    session: Session,
    life: Arc<Life>,
    messages: mpsc::Sender<Incoming>,
    /// When the peer was last heard of.
    heard: Instant,
    presence: Presence,
}

/// How a socket ends by itself.
enum End {
    /// The connection is gone, or the end was said already.
    Silently,
    Saying(CloseCode, String),
}

impl Pump {
    async fn run(mut self, mut stream: AggregatedMessageStream, watch: Watch) {
        match self.serve(&mut stream, watch).await {
            End::Silently => {}
            End::Saying(code, reason) => say_end(&self.session, code, &reason).await,
        }
        self.life.over.cancel();
        drop(self.messages);
        // What the peer still sends is read until the connection is gone: closing with unread bytes
        // would take the end that was just said from it.
        let rest = async { while stream.recv().await.is_some_and(|message| message.is_ok()) {} };
        let _gone = tokio::time::timeout(CLOSE_WITHIN, rest).await;
    }

    async fn serve(&mut self, stream: &mut AggregatedMessageStream, watch: Watch) -> End {
        let ended = access::until_ended(self.ctx.clone(), watch);
        tokio::pin!(ended);
        let mut ping =
            tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
        let life = Arc::clone(&self.life);
        let messages = self.messages.clone();
        let mut waiting: Option<Incoming> = None;
        loop {
            tokio::select! {
                biased;
                () = life.over.cancelled() => return End::Silently,
                ended = &mut ended => {
                    let code = match ended {
                        Ended::Stopping => CloseCode::Away,
                        // Nothing was taken away: the peer may come again.
                        Ended::Unknown => CloseCode::Error,
                        _ => CloseCode::Policy,
                    };
                    return End::Saying(code, ended.reason().to_owned());
                }
                () = life.abandoned.cancelled() => {
                    let reason = "Something went wrong on our side".to_owned();
                    return End::Saying(CloseCode::Error, reason);
                }
                _ = ping.tick() => {
                    let drained =
                        *life.drained.lock().unwrap_or_else(PoisonError::into_inner);
                    // While the handler has to be waited for, the peer is not read and so not heard.
                    if waiting.is_some() {
                        self.heard = Instant::now();
                    }
                    if self.heard.max(drained).elapsed() > SILENT {
                        return End::Saying(CloseCode::Away, "No answer came".into());
                    }
                    // A full queue says that the peer is slow; it is asked the next time.
                    let _full = self.session.clone().ping(b"").now_or_never();
                }
                permit = messages.reserve(), if waiting.is_some() => match permit {
                    Ok(permit) => {
                        if let Some(message) = waiting.take() {
                            permit.send(message);
                        }
                    }
                    // The handler takes none: then nobody has to wait for it.
                    Err(_) => waiting = None,
                },
                message = stream.recv(), if waiting.is_none() => match message {
                    None => return End::Silently,
                    Some(Ok(message)) => {
                        self.heard = Instant::now();
                        match self.take(message) {
                            Ok(message) => waiting = message,
                            Err(end) => return end,
                        }
                    }
                    Some(Err(error)) => return fault(&error),
                },
            }
        }
    }

    /// What of a message is the handler's.
    fn take(&mut self, message: AggregatedMessage) -> std::result::Result<Option<Incoming>, End> {
        match message {
            AggregatedMessage::Text(text) => {
                self.presence.note(&self.ctx);
                Ok(Some(Incoming::Text(text.to_string())))
            }
            AggregatedMessage::Binary(bytes) => {
                self.presence.note(&self.ctx);
                Ok(Some(Incoming::Binary(bytes)))
            }
            AggregatedMessage::Ping(bytes) => {
                let _full = self.session.clone().pong(&bytes).now_or_never();
                Ok(None)
            }
            AggregatedMessage::Pong(_) => Ok(None),
            AggregatedMessage::Close(reason) => {
                let code = reason.map_or(CloseCode::Normal, |reason| reason.code);
                Err(End::Saying(code, String::new()))
            }
        }
    }
}

/// How the peer is told of what it did wrong.
fn fault(error: &ProtocolError) -> End {
    let (code, reason) = match error {
        ProtocolError::Overflow => (CloseCode::Size, "The message is too large"),
        ProtocolError::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            (CloseCode::Invalid, "The message is not valid UTF-8")
        }
        // Of the pieces of one message; or the connection is gone, and hears nothing.
        ProtocolError::Io(_) => (CloseCode::Size, "The message is too large"),
        _ => (CloseCode::Protocol, "This is not the WebSocket protocol"),
    };
    End::Saying(code, reason.to_owned())
}
