//! Tickets for WebSockets.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::ctx::Ctx;
use crate::domain::tickets;
use crate::error::Error;
use crate::web::extract::Json;
use crate::web::reply::{Data, Reply};
use crate::web::routes;

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "for": "/ws/events" }))]
pub struct NewTicketBody {
    /// The path of the WebSocket, without a query, such as `/ws/events`.
    #[serde(rename = "for")]
    path: String,
}

/// A ticket; its secret only here.
#[derive(Serialize, ToSchema)]
pub struct TicketView {
    ticket: String,
    expires_at: String,
}

/// # Errors
/// A validation error for a path that is no WebSocket's.
pub async fn create(ctx: Ctx, body: Json<NewTicketBody>) -> Reply<TicketView> {
    let path = body.0.path;
    if !routes::is_socket(&path) {
        let rule = "for must be the path of a WebSocket, such as /ws/events";
        return Err(Error::field("for", rule));
    }
    let ticket = tickets::create(&ctx, &path).await?;
    Ok(Data(TicketView {
        ticket: ticket.secret,
        expires_at: ticket.expires_at.rfc3339(),
    }))
}
