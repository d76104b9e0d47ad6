//! Terminals: the shells that one has open in a container. They are opened by `web::ws::terminals`.

use actix_web::web::Path;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::ctx::Ctx;
use crate::domain::terminals::{self, Summary};
use crate::domain::time::Time;
use crate::web::reply::{Data, Reply};

/// A shell that runs.
#[derive(Serialize, ToSchema)]
pub struct TerminalView {
    id: String,
    /// The name by which it is found again; none ends with its only socket.
    session: Option<String>,
    /// How many sockets look at it.
    viewers: usize,
    cols: u16,
    rows: u16,
    opened_at: String,
    /// Since when no socket does.
    idle_since: Option<String>,
}

impl From<Summary> for TerminalView {
    fn from(shell: Summary) -> Self {
        Self {
            id: shell.id,
            session: shell.session.map(|name| name.as_str().to_owned()),
            viewers: shell.viewers,
            cols: shell.size.cols,
            rows: shell.size.rows,
            opened_at: shell.opened_at.rfc3339(),
            idle_since: shell.alone_since.map(Time::rfc3339),
        }
    }
}

/// # Errors
/// As `terminals::list`.
pub async fn list(ctx: Ctx, id: Path<String>) -> Reply<Vec<TerminalView>> {
    let shells = terminals::list(&ctx, &id).await?;
    Ok(Data(shells.into_iter().map(TerminalView::from).collect()))
}

/// # Errors
/// As `terminals::end`.
pub async fn end(ctx: Ctx, path: Path<(String, String)>) -> Reply<&'static str> {
    let (id, name) = path.into_inner();
    terminals::end(&ctx, &id, &name).await?;
    Ok(Data("deleted"))
}
