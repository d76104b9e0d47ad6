//! `/ws/events`: what happens to the caller's containers, commands and images, as it happens. The
//! same as a stream of server-sent events is in `web::api::events`.

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::socket::{self, CloseCode, Sender};
use crate::domain::access::Watch;
use crate::domain::ctx::Ctx;
use crate::domain::events::{self, Listening};
use crate::error::Result;

/// Nothing is asked of a listener, so nothing large is taken.
const MAX_FRAME: usize = 4 * 1024;

/// `GET /ws/events`.
///
/// # Errors
/// As `events::listen` and `socket::accept`.
pub async fn listen(ctx: Ctx, request: HttpRequest, payload: Payload) -> Result<HttpResponse> {
    let listening = events::listen(&ctx)?;
    let watch = Watch::credential();
    let (response, sender, _) = socket::accept(&ctx, &request, payload, watch, MAX_FRAME)?;
    tokio::spawn(serve(listening, sender));
    Ok(response)
}

async fn serve(mut listening: Listening, mut sender: Sender) {
    let watched = sender.clone();
    loop {
        let event = tokio::select! {
            () = watched.gone() => return,
            event = listening.next() => event,
        };
        let Some(event) = event else {
            return sender
                .close(CloseCode::Away, "The server is restarting")
                .await;
        };
        // Of text and numbers only: it cannot fail.
        let text = serde_json::to_string(&event).unwrap_or_default();
        if sender.text(text).await.is_err() {
            return;
        }
    }
}
