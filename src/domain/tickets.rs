//! Tickets: what opens one WebSocket, once, within seconds. Browsers and many libraries can send no
//! header with the request for one, and a credential does not belong into an address.
//!
//! To bind tickets to one more thing, give the row a column and compare it in [`redeem`].

use chrono::TimeDelta;

use crate::app::App;
use crate::auth::actor::Caller;
use crate::auth::secrets;
use crate::db;
use crate::db::tickets::TicketRow;
use crate::domain::access;
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::time::Time;
use crate::error::Result;

/// How long a ticket is good for, in seconds.
pub const SECONDS: i64 = 30;

/// A ticket as it is shown, once.
#[derive(Clone)]
pub struct Ticket {
    pub secret: String,
    pub expires_at: Time,
}

/// Makes a ticket for the WebSocket at `path`. It may what the credential that asks may, and dies
/// with it. A repeated request makes another: it could not be answered the same without keeping the
/// secret.
///
/// # Errors
/// [`crate::error::Error::Unauthorized`] for nobody.
pub async fn create(ctx: &Ctx, path: &str) -> Result<Ticket> {
    let caller = ctx.caller()?;
    let secret = secrets::generate(secrets::TICKET, &*ctx.app().entropy);
    let now = ctx.now();
    let row = TicketRow {
        hash: secrets::hash(&secret),
        path: path.to_owned(),
        user_id: caller.user_id.clone(),
        credential_kind: caller.credential.kind(),
        credential_id: caller.credential.id().to_owned(),
        created_at: now,
        expires_at: now.plus(TimeDelta::seconds(SECONDS)),
    };
    let expires_at = row.expires_at;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            db::tickets::insert(conn, &row)?;
            let event = Event::success(Action::TicketCreate).with("path", row.path);
            audit::record(conn, &inner, event)
        })
        .await?;
    Ok(Ticket { secret, expires_at })
}

/// Who made that ticket for that path; none when it is not one, was used, is past, is for another
/// path, or when its credential ended. Whatever the answer, it is used up.
///
/// # Errors
/// When the database fails.
pub async fn redeem(app: &App, secret: &str, path: &str) -> Result<Option<Caller>> {
    if !secrets::is_well_formed(secrets::TICKET, secret) {
        return Ok(None);
    }
    let (hash, path) = (secrets::hash(secret), path.to_owned());
    let now = Time::from(app.clock.now());
    app.db
        .write(move |conn| {
            let Some(row) = db::tickets::get(conn, &hash)? else {
                return Ok(None);
            };
            let ours = db::tickets::take(conn, &hash)?;
            if !ours || row.path != path || row.expires_at <= now {
                return Ok(None);
            }
            access::find_caller(conn, row.credential_kind, &row.credential_id, now)
        })
        .await
}

/// Forgets tickets that are past.
///
/// # Errors
/// When the database fails.
pub async fn forget_ended(ctx: &Ctx) -> Result<usize> {
    ctx.require_admin()?;
    let now = ctx.now();
    ctx.db()
        .write(move |conn| Ok(db::tickets::delete_ended(conn, now)?))
        .await
}
