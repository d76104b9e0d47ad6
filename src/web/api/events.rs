//! What happens to the caller's containers, commands and images, as server-sent events; each one's
//! data is what `/ws/events` sends as a message.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{self, ContentEncoding};
use bytes::Bytes;
use futures_util::stream;

use crate::domain::access::{self, Ended, OpenStream, Watch};
use crate::domain::ctx::Ctx;
use crate::domain::events::{self, Event, Listening};
use crate::error::Result;

/// How often a line that says nothing is sent, so that nothing between us takes the stream for dead.
const QUIET_EVERY: Duration = Duration::from_secs(20);

/// `GET /api/v1/events`.
///
/// # Errors
/// As `events::listen`; [`crate::error::Error::RateLimited`] with too many open.
pub async fn listen(ctx: Ctx) -> Result<HttpResponse> {
    let listening = events::listen(&ctx)?;
    let user = &ctx.caller()?.user_id;
    let app = ctx.app();
    let counted = app.open_streams.open(user, app.config.streams_per_user)?;
    let open = Open {
        listening,
        ended: Box::pin(access::until_ended(ctx.clone(), Watch::credential())),
        _counted: counted,
    };
    let first = Bytes::from_static(b": listening\nretry: 2000\n\n");
    let rest = stream::unfold(Some(open), next);
    let whole = futures_util::StreamExt::chain(stream::iter([Ok(first)]), rest);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        // Not compressed: each event is to go out at once.
        .insert_header((header::CONTENT_ENCODING, ContentEncoding::Identity))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(whole))
}

/// A stream that is open.
struct Open {
    listening: Listening,
    ended: std::pin::Pin<Box<dyn Future<Output = Ended>>>,
    _counted: OpenStream,
}

async fn next(open: Option<Open>) -> Option<(Result<Bytes, Infallible>, Option<Open>)> {
    let mut open = open?;
    tokio::select! {
        biased;
        ended = &mut open.ended => {
            let reason = serde_json::json!({ "reason": ended.reason() });
            Some((Ok(format!("event: end\ndata: {reason}\n\n").into()), None))
        }
        event = open.listening.next() => {
            let text = line(&event?);
            Some((Ok(text.into()), Some(open)))
        }
        () = tokio::time::sleep(QUIET_EVERY) => {
            Some((Ok(Bytes::from_static(b":\n\n")), Some(open)))
        }
    }
}

/// JSON has no line ends of its own, so one line of data holds it.
fn line(event: &Event) -> String {
    let json = serde_json::to_string(event).unwrap_or_default();
    format!("data: {json}\n\n")
}
