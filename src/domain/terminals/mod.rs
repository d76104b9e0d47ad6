//! Terminals: login shells in running containers, shared by the sockets that look at them.
//!
//! A shell with a session's name outlives its sockets, so that a reload, a lost network or another
//! device finds it again; without a name it ends with its only one. Shells live in this process and
//! end with it. [`hub`] knows them all, [`shell`] is one.
//!
//! To give a shell one more property: a field in [`shell::Shell`], and in [`Opening`] where the one
//! who opens it decides.

mod hub;
mod ring;
mod shell;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::auth::actor::{Actor, AuthMethod, Caller};
use crate::db::{self, Conn};
use crate::domain::audit::{self, Action, Event};
use crate::domain::containers::{self, ContainerState, Wanted};
use crate::domain::ctx::{Ctx, Origin};
use crate::domain::ids::ContainerId;
use crate::domain::jobs::JobKind;
use crate::domain::permissions::Permissions;
use crate::domain::users::{Role, Status};
use crate::error::{Error, Result};
use crate::runtime::{Fact, TerminalSize, TerminalSpec};

pub use self::hub::Terminals;
pub use self::shell::{Ending, REPLAY, Shell, Shown, Summary, Viewer};

use self::hub::{Key, Place};
use self::shell::Attached;

/// Until someone says otherwise.
pub const FIRST_SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };
/// Most columns and rows.
const MAX_SIZE: u16 = 1000;
/// Longest name of a session.
const MAX_NAME: usize = 64;
/// How often it is looked whether the users of shells may still use them.
const RECHECK: Duration = Duration::from_secs(15);
/// How long the ends of shells may take to be recorded when the server ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A size that a terminal can have.
///
/// # Errors
/// Validation errors.
pub fn size(cols: i64, rows: i64) -> Result<TerminalSize> {
    let check = |field: &str, value: i64| {
        u16::try_from(value)
            .ok()
            .filter(|value| (1..=MAX_SIZE).contains(value))
            .ok_or_else(|| {
                let rule = format!("{field} must be between 1 and {MAX_SIZE}");
                Error::field(field, rule)
            })
    };
    Ok(TerminalSize {
        cols: check("cols", cols)?,
        rows: check("rows", rows)?,
    })
}

/// The name of a shell that is to be found again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionName(String);

impl SessionName {
    /// # Errors
    /// A validation error.
    pub fn parse(text: &str) -> Result<Self> {
        let good = (1..=MAX_NAME).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::field(
                "session",
                format!("session must be 1 to {MAX_NAME} letters, digits, hyphens and underscores"),
            ))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// The name by which the shell is found again, if it is to be.
    pub session: Option<SessionName>,
    /// What the viewer has seen of its output.
    pub since: Option<Seen>,
}

/// How much of which shell's output was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// In bytes.
    pub offset: u64,
    /// Which shell it was; none trusts that it is the same.
    pub shell: Option<String>,
}

/// Whether the caller may open shells in a container, and whether it runs here.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`]; [`Error::Conflict`] when the container does
/// not run.
pub async fn check(ctx: &Ctx, container: &str) -> Result<ContainerId> {
    let (inner, asked) = (ctx.clone(), container.to_owned());
    let row = ctx
        .db()
        .read(move |conn| {
            let ((row, ..), _) = containers::find(conn, &inner, &asked, Permissions::TERMINAL)?;
            Ok(row)
        })
        .await?;
    if row.state != ContainerState::Running {
        return Err(Error::Conflict("The container is not running".into()));
    }
    containers::require_here(ctx, &row)?;
    Ok(row.id)
}

/// Opens a shell, or comes back to the one of that name.
///
/// # Errors
/// As [`check`]; [`Error::QuotaExceeded`] when there are too many shells.
pub async fn open(ctx: &Ctx, container: &str, opening: Opening) -> Result<Viewer> {
    let caller = ctx.caller()?.clone();
    let container = check(ctx, container).await?;
    // One that ends at this very moment is replaced by a new one.
    let mut found = None;
    for _ in 0..3 {
        let key = Key::new(ctx, &container, &caller.user_id, opening.session.clone());
        let place = ctx.app().terminals.reserve(key)?;
        let shell = place
            .slot
            .shell(|| start(ctx, &place, &container, &caller))
            .await?;
        let since = opening.since.as_ref();
        let since = since.filter(|seen| seen.shell.as_ref().is_none_or(|id| *id == shell.id));
        match shell.attach(since.map(|seen| seen.offset)) {
            Attached::Here(viewer) => {
                found = Some(viewer);
                break;
            }
            Attached::Over => ctx.app().terminals.forget(&place.key, &place.slot),
            Attached::Full => {
                return Err(Error::QuotaExceeded(
                    "This terminal is looked at from too many places".into(),
                ));
            }
        }
    }
    let viewer = found.ok_or_else(|| Error::Conflict("The terminal ends as it begins".into()))?;
    record_open(ctx, &viewer).await?;
    Ok(viewer)
}

/// Starts the shell of a slot.
async fn start(
    ctx: &Ctx,
    place: &Place,
    container: &ContainerId,
    caller: &Caller,
) -> Result<Arc<Shell>> {
    let app = ctx.app();
    let id = crate::domain::ids::new_uuid(ctx.now().utc());
    let spec = TerminalSpec {
        exec_id: id.clone(),
        argv: None,
        user: None,
        env: Vec::new(),
        size: FIRST_SIZE,
    };
    let terminal = app
        .runtime
        .open_terminal(container, spec)
        .await
        .map_err(Error::from_runtime)?;
    let (shell, lines) = Shell::new(
        id,
        container.clone(),
        caller.clone(),
        place.key.session().cloned(),
        Arc::clone(&app.clock),
        terminal,
        FIRST_SIZE,
    );
    let (app, running) = (app.clone(), Arc::clone(&shell));
    let (key, slot) = (place.key.clone(), Arc::clone(&place.slot));
    ctx.app().terminals.spawn(async move {
        let idle = app.config.terminal_idle;
        let mut why = running.run(lines, idle).await;
        if why == Ending::Exited && container_stops(&app, &running.container).await {
            why = Ending::Stopped;
        }
        app.terminals.forget(&key, &slot);
        running.close(why);
        record_close(&app, &running, why).await;
    });
    Ok(shell)
}

async fn record_open(ctx: &Ctx, viewer: &Viewer) -> Result<()> {
    let shell = viewer.shell();
    let (inner, container) = (ctx.clone(), shell.container.clone());
    let event = described(Event::success(Action::TerminalOpen), shell);
    let written = ctx
        .db()
        .write(move |conn| {
            containers::find(conn, &inner, container.as_str(), Permissions::TERMINAL)?;
            audit::record(conn, &inner, event)
        })
        .await;
    // What cannot be recorded does not happen.
    if written.is_err() && shell.summary().viewers == 1 {
        shell.end(Ending::Left);
    }
    written
}

async fn record_close(app: &App, shell: &Shell, why: Ending) {
    // Recorded with who asked for it.
    if why == Ending::Asked {
        return;
    }
    let ctx = Ctx::system(app.clone(), "terminals");
    let event = described(Event::success(Action::TerminalClose), shell)
        .by(&shell.caller.user_id)
        .with("why", why.as_str());
    audit::record_alone(&ctx, event).await;
}

fn described(event: Event, shell: &Shell) -> Event {
    let event = event
        .container(&shell.container)
        .with("subject", shell.id.as_str());
    match &shell.session {
        Some(name) => event.with("session", name.as_str()),
        None => event,
    }
}

/// Whether a shell that has ended was ended with its container: the shell's end is seen first.
async fn container_stops(app: &App, id: &ContainerId) -> bool {
    let key = id.clone();
    let wanted = app
        .db
        .read(move |conn| {
            let row = db::containers::get(conn, &key)?.map(|owned| owned.0);
            let stays = row.is_some_and(|row| {
                row.state == ContainerState::Running && row.wanted == Wanted::Running
            });
            let ends = db::jobs::open_for(conn, &key)?
                .iter()
                .any(|job| job.kind != JobKind::ContainerStart);
            Ok(stays && !ends)
        })
        .await;
    let runs = matches!(app.runtime.fact(id).await, Ok(Fact::Running(_)));
    // A database that does not answer is no reason to think so.
    !runs || matches!(wanted, Ok(false))
}

/// The caller's shells in a container, oldest first.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`].
pub async fn list(ctx: &Ctx, container: &str) -> Result<Vec<Summary>> {
    let user = ctx.caller()?.user_id.clone();
    let (inner, asked) = (ctx.clone(), container.to_owned());
    let id = ctx
        .db()
        .read(move |conn| {
            let ((row, ..), _) = containers::find(conn, &inner, &asked, Permissions::TERMINAL)?;
            Ok(row.id)
        })
        .await?;
    let mut shells: Vec<Summary> = ctx
        .app()
        .terminals
        .of(&id, &user)
        .iter()
        .map(|shell| shell.summary())
        .collect();
    shells.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(shells)
}

/// Ends one of the caller's shells, by its session's name or its id.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`], [`Error::NotFound`].
pub async fn end(ctx: &Ctx, container: &str, name: &str) -> Result<()> {
    let user = ctx.caller()?.user_id.clone();
    let (inner, asked, wanted) = (ctx.clone(), container.to_owned(), name.to_owned());
    let shell = ctx
        .db()
        .write(move |conn| {
            let ((row, ..), _) = containers::find(conn, &inner, &asked, Permissions::TERMINAL)?;
            let shells = inner.app().terminals.of(&row.id, &user);
            let shell = shells
                .into_iter()
                .find(|shell| {
                    shell.id == wanted
                        || shell.session.as_ref().is_some_and(|s| s.as_str() == wanted)
                })
                .ok_or_else(|| Error::NotFound(format!("Terminal {wanted} was not found")))?;
            let event = described(Event::success(Action::TerminalClose), &shell)
                .with("why", Ending::Asked.as_str());
            audit::record(conn, &inner, event)?;
            Ok(shell)
        })
        .await?;
    shell.end(Ending::Asked);
    Ok(())
}

/// Ends shells whose users may not use them any more: looked at now and then, and whenever
/// [`Terminals::recheck`] is called. Ends them all when `stop` is cancelled.
pub async fn watch(app: App, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(RECHECK) => {}
            () = app.terminals.recheck_asked() => {}
        }
        let shells = app.terminals.all();
        if shells.is_empty() {
            continue;
        }
        let inner = app.clone();
        let lost = app.db.read(move |conn| {
            let mut lost = Vec::new();
            for shell in shells {
                if !may_stay(conn, &inner, &shell)? {
                    lost.push(shell);
                }
            }
            Ok(lost)
        });
        match lost.await {
            Ok(lost) => lost.iter().for_each(|shell| shell.end(Ending::Withdrawn)),
            Err(error) => tracing::error!(%error, "terminals could not be checked"),
        }
    }
    for shell in app.terminals.all() {
        shell.end(Ending::Server);
    }
    if tokio::time::timeout(LAST_WORDS, app.terminals.ended())
        .await
        .is_err()
    {
        tracing::warn!("the ends of some terminals are not recorded");
    }
}

/// Whether a shell's user may still use its container.
fn may_stay(conn: &mut Conn, app: &App, shell: &Shell) -> Result<bool> {
    let Some(user) = db::users::get(conn, &shell.caller.user_id)? else {
        return Ok(false);
    };
    if user.status != Status::Active {
        return Ok(false);
    }
    let mut caller = shell.caller.clone();
    // An application acts as an ordinary user, whoever its user is.
    caller.role = match caller.auth_method {
        AuthMethod::OauthToken => Role::User,
        _ => user.role,
    };
    let ctx = Ctx::new(
        app.clone(),
        Actor::Caller(Box::new(caller)),
        Origin::default(),
    );
    let id = shell.container.as_str();
    match containers::find(conn, &ctx, id, Permissions::TERMINAL) {
        Ok(_) => Ok(true),
        Err(Error::Forbidden(_) | Error::ContainerNotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_bounds() {
        assert_eq!(size(80, 24).unwrap(), FIRST_SIZE);
        for (cols, rows) in [(0, 24), (80, 0), (1001, 24), (80, -1), (1 << 40, 1)] {
            assert!(size(cols, rows).is_err(), "{cols}×{rows}");
        }
    }

    #[test]
    fn names_are_simple() {
        for good in ["a", "tab-1", "A_b-9", &"x".repeat(64)] {
            assert_eq!(SessionName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "é", ".", &"x".repeat(65)] {
            assert!(SessionName::parse(bad).is_err(), "{bad}");
        }
    }
}
