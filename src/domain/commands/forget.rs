//! Forgetting commands: those that ended long ago, and of each container all but the newest. Their
//! records hold up to megabytes each, so that a container that runs one every minute would fill the
//! disk.
//!
//! To forget by another rule, add it to [`forget_old`].

use chrono::TimeDelta;

use super::CommandStatus;
use crate::app::App;
use crate::db::{self, Conn};
use crate::domain::ctx::Ctx;
use crate::domain::ids::CommandId;
use crate::error::Result;

/// Ended commands of one container that are kept, the newest.
const KEPT: i64 = 1000;
/// Commands that are removed in one transaction.
const BATCH: i64 = 100;
/// Transactions of one round; what is left over waits for the next.
const BATCHES: u32 = 100;

/// Removes what is too old or too much of this server's commands, with what is left of their output
/// on its disk: those of another server's containers are that one's, for it has their output.
///
/// # Errors
/// When the database fails.
pub async fn forget_old(ctx: &Ctx) -> Result<()> {
    let mut left = BATCHES;
    let days = TimeDelta::days(ctx.app().config.commands_days.into());
    let before = ctx.now().plus(-days);
    for status in CommandStatus::ALL.iter().copied() {
        if status.is_over() {
            let node = ctx.app().node_name.clone();
            let find = move |conn: &mut Conn| {
                db::commands::ended_before(conn, &node, status, before, BATCH)
            };
            remove(ctx, &mut left, find).await?;
        }
    }
    let node = ctx.app().node_name.clone();
    let crowded = ctx
        .db()
        .read(move |conn| Ok(db::commands::crowded(conn, &node, KEPT)?))
        .await?;
    for container in crowded {
        let find = move |conn: &mut Conn| db::commands::ended_beyond(conn, &container, KEPT, BATCH);
        remove(ctx, &mut left, find).await?;
    }
    Ok(())
}

/// Removes what `find` finds, batch by batch, as long as there are any `left`.
async fn remove<F>(ctx: &Ctx, left: &mut u32, find: F) -> Result<()>
where
    F: Fn(&mut Conn) -> db::Result<Vec<CommandId>> + Clone + Send + 'static,
{
    while *left > 0 && !ctx.app().stopping.is_cancelled() {
        let find = find.clone();
        // What has ended stays so, and the search must keep nobody from writing.
        let found = ctx.db().read(move |conn| Ok(find(conn)?)).await?;
        if found.is_empty() {
            break;
        }
        *left -= 1;
        let ids = found.clone();
        ctx.db()
            .write(move |conn| Ok(db::commands::delete(conn, &ids)?))
            .await?;
        forget_output(ctx.app(), found).await;
    }
    Ok(())
}

/// Removes what listeners could still have read of commands that are gone.
pub async fn forget_output(app: &App, ids: Vec<CommandId>) {
    let app = app.clone();
    let removing = tokio::task::spawn_blocking(move || {
        for id in &ids {
            app.spools.remove(id);
        }
    });
    if let Err(error) = removing.await {
        tracing::warn!(%error, "commands' output was not removed");
    }
}
