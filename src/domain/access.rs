//! Access that lasts. A request is authorised once; a socket or a stream stays open for hours, and
//! must end when the credential it came with, the permission or the container does: at once when
//! this process knows of it ([`Bell`]), and within seconds when another changed the database.
//!
//! Whatever takes access away rings the bell ([`ring`]) in its transaction. To make something else end streams,
//! add it to [`Changed`], ring it there, and look at it in [`still`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::auth::actor::{Caller, Credential, CredentialKind};
use crate::db::{self, Conn};
use crate::domain::containers;
use crate::domain::ctx::Ctx;
use crate::domain::ids::{ContainerId, UserId};
use crate::domain::oauth;
use crate::domain::permissions::Permissions;
use crate::domain::time::Time;
use crate::domain::users::Status;
use crate::domain::{sessions, tokens};
use crate::error::{Error, Result};

/// How often the database is asked, for what others have changed.
const EVERY: Duration = Duration::from_secs(5);
/// How often in a row the database may fail to answer before access counts as lost.
const FAILURES: u32 = 3;
/// Changes that wait for a slow listener; one that missed some looks at everything.
const WAITING: usize = 256;
/// When someone with too many streams may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A session's use is noted at most this often while a stream is open.
const TOUCH_EVERY: Duration = Duration::from_secs(30);

/// What took access from someone, perhaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// A user's credentials, role or status.
    User(UserId),
    /// Everybody's: an application was deleted, a password reset.
    Everyone,
    /// A container is gone, or others may use it.
    Container(ContainerId),
}

/// Rung when access may have changed.
#[derive(Debug)]
pub struct Bell(broadcast::Sender<Changed>);

impl Default for Bell {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING))
    }
}

/// Tells open streams to look whether they may stay: in a transaction, once it has committed.
pub(crate) fn ring(ctx: &Ctx, changed: Changed) {
    let app = ctx.app().clone();
    db::after_commit(move || {
        // Nobody may be listening.
        let _heard = app.access.0.send(changed);
    });
}

/// [`ring`] for those of one user.
pub(crate) fn ring_user(ctx: &Ctx, user: &UserId) {
    ring(ctx, Changed::User(user.clone()));
}

/// What must stay true while a stream is open, beside its credential.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    container: Option<(ContainerId, Permissions)>,
}

impl Watch {
    /// The credential only, with the role it had at the beginning.
    #[must_use]
    pub fn credential() -> Self {
        Self::default()
    }

    /// The credential, the container, and what is done with it.
    #[must_use]
    pub const fn on(container: ContainerId, wanted: Permissions) -> Self {
        Self {
            container: Some((container, wanted)),
        }
    }
}

/// Why a stream may not stay open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Session,
    Token,
    Account,
    Role,
    Withdrawn,
    Container,
    /// It could not be asked for too long.
    Unknown,
    /// The server itself ends.
    Stopping,
}

impl Ended {
    /// A sentence for people, short enough for a close frame.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Session => "The session has ended",
            Self::Token => "The token was revoked or has expired",
            Self::Account => "The account is disabled",
            Self::Role => "The account's role has changed",
            Self::Withdrawn => "Access was withdrawn",
            Self::Container => "The container was deleted",
            Self::Unknown => "Access could not be checked",
            Self::Stopping => "The server is restarting",
        }
    }
}

/// Who has that credential now; none when it has ended or its user may not come in.
pub(crate) fn find_caller(
    conn: &mut Conn,
    kind: CredentialKind,
    id: &str,
    now: Time,
) -> Result<Option<Caller>> {
    match kind {
        CredentialKind::Session => match id.parse() {
            Ok(id) => sessions::find(conn, &id, now),
            Err(_) => Ok(None),
        },
        CredentialKind::PersonalToken => match id.parse() {
            Ok(id) => tokens::find(conn, &id, now),
            Err(_) => Ok(None),
        },
        CredentialKind::OauthToken => match id.parse() {
            Ok(id) => oauth::token::find(conn, &id, now),
            Err(_) => Ok(None),
        },
    }
}

/// Whether all that is watched is still so; why not, if it is not.
///
/// # Errors
/// When the database fails.
pub async fn still(ctx: &Ctx, watch: &Watch) -> Result<Option<Ended>> {
    let before = ctx.caller()?.clone();
    let (inner, watch, now) = (ctx.clone(), watch.clone(), ctx.now());
    ctx.db()
        .read(move |conn| {
            let kind = before.credential.kind();
            let found = find_caller(conn, kind, before.credential.id(), now)?;
            let Some(caller) = found else {
                let user = db::users::get(conn, &before.user_id)?;
                let disabled = user.is_none_or(|user| user.status != Status::Active);
                return Ok(Some(match kind {
                    _ if disabled => Ended::Account,
                    CredentialKind::Session => Ended::Session,
                    CredentialKind::PersonalToken | CredentialKind::OauthToken => Ended::Token,
                }));
            };
            let Some((container, wanted)) = &watch.container else {
                return Ok((caller.role != before.role).then_some(Ended::Role));
            };
            let now = inner.acting_as(caller);
            match containers::find(conn, &now, container.as_str(), *wanted) {
                Ok(_) => Ok(None),
                Err(Error::ContainerNotFound(_)) => Ok(Some(Ended::Container)),
                Err(Error::Forbidden(_)) => Ok(Some(Ended::Withdrawn)),
                Err(error) => Err(error),
            }
        })
        .await
}

/// Waits until something that is watched is no longer so, or until the server ends.
pub async fn until_ended(ctx: Ctx, watch: Watch) -> Ended {
    let mut bell = ctx.app().access.0.subscribe();
    let stopping = ctx.app().stopping.clone();
    let mut failures = 0;
    loop {
        // First of all: something may have changed since the request was let in.
        match still(&ctx, &watch).await {
            Ok(None) => failures = 0,
            Ok(Some(ended)) => return ended,
            Err(error) => {
                tracing::warn!(%error, "whether a stream may stay open could not be asked");
                failures += 1;
                if failures >= FAILURES {
                    return Ended::Unknown;
                }
            }
        }
        let again = tokio::time::sleep(EVERY);
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Ended::Stopping,
                () = &mut again => break,
                changed = bell.recv() => match changed {
                    Ok(changed) if !concerns(&ctx, &watch, &changed) => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    // The app has it as long as there is an app.
                    Err(RecvError::Closed) => return Ended::Stopping,
                },
            }
        }
    }
}

fn concerns(ctx: &Ctx, watch: &Watch, changed: &Changed) -> bool {
    match changed {
        Changed::Everyone => true,
        Changed::User(user) => ctx.user_id() == Some(user),
        Changed::Container(id) => watch.container.as_ref().is_some_and(|(own, _)| own == id),
    }
}

/// How many streams each user has open in this process.
#[derive(Debug, Default)]
pub struct OpenStreams(Arc<Mutex<HashMap<UserId, usize>>>);

/// One of them; it counts until it is dropped.
#[derive(Debug)]
pub struct OpenStream {
    user: UserId,
    all: Arc<Mutex<HashMap<UserId, usize>>>,
}

impl OpenStreams {
    /// One more, if `user` may have one more.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when there are `limit` already.
    pub fn open(&self, user: &UserId, limit: usize) -> Result<OpenStream> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(user.clone()).or_default();
        if *count >= limit {
            return Err(Error::RateLimited {
                retry_after: RETRY_AFTER,
            });
        }
        *count += 1;
        Ok(OpenStream {
            user: user.clone(),
            all: Arc::clone(&self.0),
        })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.user);
            }
        }
    }
}

/// Notes that the one who asks is there, for a session's idle end: what is typed into a socket is
/// as good a use as a request.
#[derive(Debug)]
pub struct Presence {
    last: Option<std::time::Instant>,
}

impl Presence {
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// To be called for everything that the peer sends of its own will.
    pub fn note(&mut self, ctx: &Ctx) {
        if self.last.is_some_and(|last| last.elapsed() < TOUCH_EVERY) {
            return;
        }
        self.last = Some(std::time::Instant::now());
        if let Ok(caller) = ctx.caller()
            && let Credential::Session { id, .. } = &caller.credential
        {
            ctx.app().touched.session(id, ctx.now());
        }
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self::new()
    }
}
