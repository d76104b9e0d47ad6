//! Events: what happened to containers, commands and images, told to whoever may see it while it
//! happens. Published in the transaction of the change and delivered when that has committed, to
//! the listeners of this process and, on PostgreSQL, of every server of the database.
//!
//! To tell of something new: a variant of [`Change`], who may see it in [`may_see`], and a call of
//! [`publish`] in the transaction that changes it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::auth::actor::{Caller, Scope};
use crate::db::{self, Conn, notify};
use crate::domain::commands::CommandStatus;
use crate::domain::containers::ContainerState;
use crate::domain::ctx::Ctx;
use crate::domain::ids::{CommandId, ContainerId, UserId};
use crate::domain::images::ImageStatus;
use crate::domain::permissions::Permissions;
use crate::domain::time::Time;
use crate::error::{Error, Result};

/// Events that wait for a slow listener; one that missed some is told to look for itself.
const WAITING: usize = 1024;
/// Where servers of one database tell each other.
const CHANNEL: &str = "hzel_events";
/// How often what other servers told is looked at.
const CARRY_EVERY: Duration = Duration::from_millis(100);
/// How long a lost connection is left alone.
const RECONNECT: Duration = Duration::from_secs(2);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type")]
pub enum Change {
    #[serde(rename = "container.created")]
    ContainerCreated {
        id: ContainerId,
        hostname: String,
        state: ContainerState,
    },
    #[serde(rename = "container.state")]
    ContainerState {
        id: ContainerId,
        hostname: String,
        state: ContainerState,
        state_reason: Option<String>,
        ipv4: Option<String>,
        started_at: Option<Time>,
    },
    #[serde(rename = "container.deleted")]
    ContainerDeleted { id: ContainerId, hostname: String },
    #[serde(rename = "command.queued")]
    CommandQueued {
        id: CommandId,
        container_id: ContainerId,
    },
    #[serde(rename = "command.started")]
    CommandStarted {
        id: CommandId,
        container_id: ContainerId,
    },
    #[serde(rename = "command.finished")]
    CommandFinished {
        id: CommandId,
        container_id: ContainerId,
        status: CommandStatus,
        exit_code: Option<i32>,
    },
    #[serde(rename = "image.progress")]
    ImageProgress {
        name: String,
        status: ImageStatus,
        step: String,
        percent: i32,
        error: Option<String>,
    },
    #[serde(rename = "image.removed")]
    ImageRemoved { name: String },
    /// Some were missed: what is shown is to be asked for again.
    #[serde(rename = "resync")]
    Resync,
}

/// A change and its time, as listeners get it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    #[serde(flatten)]
    pub change: Change,
    pub time: Time,
}

/// Whom an event concerns, beside administrators.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) enum Audience {
    Everyone,
    Box {
        owner: UserId,
        /// With whom it is shared, each with the bits.
        members: Vec<(UserId, i32)>,
    },
}

impl Audience {
    /// Of a container as it is shared now; to be asked before it is deleted.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn of(conn: &mut Conn, container: &ContainerId, owner: &UserId) -> Result<Self> {
        Ok(Self::Box {
            owner: owner.clone(),
            members: db::members::of_container(conn, container)?,
        })
    }
}

/// An event with whom it concerns.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Published {
    audience: Audience,
    event: Event,
}

/// As it goes from server to server.
#[derive(serde::Serialize, serde::Deserialize)]
struct Carried {
    /// Who sent it.
    server: String,
    published: Published,
}

/// Where this process's events go through.
#[derive(Debug)]
pub struct Events {
    sender: broadcast::Sender<Arc<Published>>,
    /// This process's name among the servers of the database.
    server: String,
    order: Mutex<Order>,
}

/// Events in the order of their numbers. Of two changes of one row the later one draws its number
/// when the earlier has committed, whose event may still be on its way: without this, a listener
/// could hear of a command's start before it hears of the command.
#[derive(Debug, Default)]
struct Order {
    /// The number that is drawn next.
    next: u64,
    /// The number that is told next.
    due: u64,
    /// What has come before its turn; nothing for what was rolled back.
    early: BTreeMap<u64, Option<Published>>,
}

/// A place in the order of events. Dropped without being told, as when a transaction is rolled
/// back, it holds up nobody.
struct Turn {
    app: App,
    number: u64,
    told: Option<Published>,
}

impl Turn {
    fn draw(app: &App) -> Self {
        let mut order = app.events.order();
        let number = order.next;
        order.next += 1;
        drop(order);
        Self {
            app: app.clone(),
            number,
            told: None,
        }
    }

    fn tell(mut self, published: Published) {
        self.told = Some(published);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.app.events.settle(self.number, self.told.take());
    }
}

impl Events {
    /// `server` must be another one's never.
    #[must_use]
    pub fn new(server: String) -> Self {
        Self {
            sender: broadcast::Sender::new(WAITING),
            server,
            order: Mutex::default(),
        }
    }

    fn order(&self) -> std::sync::MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all whose turn has come.
    fn settle(&self, number: u64, told: Option<Published>) {
        let mut order = self.order();
        order.early.insert(number, told);
        let order = &mut *order;
        while let Some(told) = order.early.remove(&order.due) {
            order.due += 1;
            if let Some(published) = told {
                self.tell(published);
            }
        }
    }

    fn tell(&self, published: Published) {
        // Nobody may be listening.
        let _heard = self.sender.send(Arc::new(published));
    }
}

/// Tells of a change in the caller's transaction, to be heard when it has committed.
///
/// # Errors
/// When the database fails.
pub(crate) fn publish(
    conn: &mut Conn,
    ctx: &Ctx,
    audience: Audience,
    change: Change,
) -> Result<()> {
    let app = ctx.app().clone();
    let published = Published {
        audience,
        event: Event {
            change,
            time: ctx.now(),
        },
    };
    if app.db.is_shared() {
        let mut carried = Carried {
            server: app.events.server.clone(),
            published: published.clone(),
        };
        let mut text = serde_json::to_string(&carried).map_err(Error::internal)?;
        if text.len() > notify::LONGEST {
            carried.published.audience = Audience::Everyone;
            carried.published.event.change = Change::Resync;
            text = serde_json::to_string(&carried).map_err(Error::internal)?;
        }
        notify::send(conn, CHANNEL, &text)?;
    }
    let turn = Turn::draw(&app);
    db::after_commit(move || turn.tell(published));
    Ok(())
}

/// Hears of what one caller may see.
pub struct Listening {
    caller: Caller,
    receiver: broadcast::Receiver<Arc<Published>>,
    ctx: Ctx,
}

/// Begins to listen, for what the caller may see now: whoever keeps this open for long must end it
/// when that changes (`crate::domain::access`).
///
/// # Errors
/// [`Error::Unauthorized`] for nobody.
pub fn listen(ctx: &Ctx) -> Result<Listening> {
    Ok(Listening {
        caller: ctx.caller()?.clone(),
        receiver: ctx.app().events.sender.subscribe(),
        ctx: ctx.clone(),
    })
}

impl Listening {
    /// The next event; none when the server ends.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(published) if may_see(&self.caller, &published) => {
                    return Some(published.event.clone());
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    return Some(Event {
                        change: Change::Resync,
                        time: self.ctx.now(),
                    });
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn may_see(caller: &Caller, published: &Published) -> bool {
    let (scope, wanted) = match published.event.change {
        Change::CommandQueued { .. }
        | Change::CommandStarted { .. }
        | Change::CommandFinished { .. } => (Scope::Commands, Permissions::TERMINAL),
        Change::ContainerCreated { .. }
        | Change::ContainerState { .. }
        | Change::ContainerDeleted { .. }
        | Change::ImageProgress { .. }
        | Change::ImageRemoved { .. }
        | Change::Resync => (Scope::ContainersRead, Permissions::VIEW),
    };
    let concerned = match &published.audience {
        Audience::Everyone => true,
        Audience::Box { owner, members } => {
            let shared = members.iter().find(|(user, _)| *user == caller.user_id);
            caller.is_admin()
                || caller.user_id == *owner
                || shared.is_some_and(|(_, bits)| Permissions::from_bits(*bits).has(wanted))
        }
    };
    concerned && caller.has_scope(scope)
}

/// Brings in what the other servers of the database tell, until `stop` is cancelled.
pub async fn carry(app: App, stop: CancellationToken) {
    if !app.db.is_shared() {
        return;
    }
    let mut first = true;
    loop {
        let (shared, ended) = (app.clone(), stop.clone());
        let lost = tokio::task::spawn_blocking(move || carry_until_lost(&shared, &ended, first));
        match lost.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "other servers' events cannot be heard"),
            Err(error) => tracing::error!(%error, "hearing other servers' events was lost"),
        }
        first = false;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RECONNECT) => {}
        }
    }
}

fn carry_until_lost(app: &App, stop: &CancellationToken, first: bool) -> db::Result<()> {
    let Some(mut listening) = app.db.listen(CHANNEL)? else {
        return Ok(());
    };
    if !first {
        // What was told in between is gone.
        app.events.tell(Published {
            audience: Audience::Everyone,
            event: Event {
                change: Change::Resync,
                time: app.clock.now().into(),
            },
        });
    }
    while !stop.is_cancelled() {
        for text in listening.take()? {
            match serde_json::from_str::<Carried>(&text) {
                Ok(carried) if carried.server == app.events.server => {}
                Ok(carried) => app.events.tell(carried.published),
                // Of a server of another version.
                Err(error) => tracing::debug!(%error, "an event is not understood"),
            }
        }
        std::thread::sleep(CARRY_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heard_in_the_order_of_their_numbers() {
        let events = Events::new("here".into());
        let mut heard = events.sender.subscribe();
        let named = |name: &str| Published {
            audience: Audience::Everyone,
            event: Event {
                change: Change::ImageRemoved { name: name.into() },
                time: chrono::DateTime::UNIX_EPOCH.into(),
            },
        };
        events.settle(2, Some(named("third")));
        events.settle(1, None);
        assert!(heard.try_recv().is_err(), "the first is on its way");
        events.settle(0, Some(named("first")));
        for name in ["first", "third"] {
            assert_eq!(heard.try_recv().unwrap().event, named(name).event);
        }
        assert!(heard.try_recv().is_err());
    }
}
