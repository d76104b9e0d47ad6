//! What is written in batches and what is forgotten in time.
//!
//! To forget one more kind of row, add its statement to [`forget`].

use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::db;
use crate::domain::ctx::Ctx;
use crate::domain::{commands, idempotency, oauth, password_resets, sessions, tickets};
use crate::error::Result;

/// How often the last uses of credentials are written.
const FLUSH_EVERY: Duration = Duration::from_secs(30);
/// Rounds of [`FLUSH_EVERY`] between two of [`forget`].
const FORGET_EVERY: u32 = 20;
/// Days that finished jobs are kept, for whoever looks into a failure.
const JOB_DAYS: i64 = 14;

/// Makes its rounds until `stop` is cancelled, and writes once more then.
pub async fn sweep(app: App, stop: CancellationToken) {
    let mut round = 0_u32;
    loop {
        // Both at the start too, for a server may be restarted more often than that.
        sweep_spools(&app).await;
        if round.is_multiple_of(FORGET_EVERY)
            && let Err(error) = forget(&app).await
        {
            tracing::warn!(%error, "old rows could not be removed");
        }
        round = round.wrapping_add(1);
        tokio::select! {
            () = stop.cancelled() => {
                if let Err(error) = app.touched.flush(&app.db).await {
                    tracing::warn!(%error, "the last uses of credentials could not be written");
                }
                return;
            }
            () = tokio::time::sleep(FLUSH_EVERY) => {}
        }
        if let Err(error) = app.touched.flush(&app.db).await {
            tracing::warn!(%error, "the last uses of credentials could not be written");
        }
    }
}

/// What commands wrote is kept for listeners only for a while, and not beyond its bounds.
async fn sweep_spools(app: &App) {
    let (own, now) = (app.clone(), app.clock.now());
    let swept = tokio::task::spawn_blocking(move || own.spools.sweep(now.into())).await;
    if let Err(error) = swept.unwrap_or_else(|lost| Err(std::io::Error::other(lost))) {
        tracing::warn!(%error, "old output of commands could not be removed");
    }
}

async fn forget(app: &App) -> Result<()> {
    let ctx = Ctx::system(app.clone(), "retention");
    sessions::forget_ended(&ctx).await?;
    password_resets::forget_ended(&ctx).await?;
    oauth::forget_ended(&ctx).await?;
    tickets::forget_ended(&ctx).await?;
    let now = ctx.now();
    ctx.db()
        .write(move |conn| {
            db::jobs::delete_finished(conn, now.plus(-TimeDelta::days(JOB_DAYS)))?;
            db::idempotency::delete_older(conn, now.plus(-TimeDelta::hours(idempotency::HOURS)))?;
            Ok(())
        })
        .await?;
    commands::forget_old(&ctx).await
}
