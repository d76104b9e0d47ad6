//! The audit log: who did what, when, from where, and what came of it. It only grows, and each
//! entry's hash covers the one before, so that a changed or missing entry shows.
//!
//! To record a new action, name it in [`Action`] and call [`record`] in the transaction of what it
//! did.

mod filter;

use sha2::{Digest, Sha256};

use crate::auth::actor::{Actor, Credential};
use crate::auth::secrets::hex;
use crate::db::audit::{AuditFilter, AuditRow};
use crate::db::{self, Conn};
use crate::domain::ctx::Ctx;
use crate::domain::ids::{AuditId, ContainerId, UserId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::text_enum::text_enum;
use crate::domain::time::Time;
use crate::error::{Error, Result};

use self::filter::LogFilter;
pub use self::filter::LogQuery;

text_enum! {
    /// What came of an action.
    Outcome {
        Success = "success",
        Failure = "failure",
        Denied = "denied",
    }
}

text_enum! {
    /// What was done or tried.
    Action {
        Login = "auth.login",
        Logout = "auth.logout",
        PasswordChange = "auth.password",
        PasswordReset = "auth.reset",
        Confirm = "auth.confirm",
        TotpStart = "auth.totp.start",
        TotpEnable = "auth.totp.enable",
        TotpDisable = "auth.totp.disable",
        TotpRecovery = "auth.totp.recovery",
        PasskeyAdd = "auth.passkey.add",
        PasskeyRemove = "auth.passkey.remove",
        OidcLink = "auth.oidc.link",
        OidcUnlink = "auth.oidc.unlink",
        SessionEnd = "session.end",
        Setup = "user.setup",
        UserCreate = "user.create",
        UserDisable = "user.disable",
        UserEnable = "user.enable",
        UserRole = "user.role",
        UserChange = "user.change",
        UserRename = "user.rename",
        UserReset = "user.reset",
        UserSessionsEnd = "user.sessions.end",
        UserTotpRemove = "user.totp.remove",
        TokenCreate = "token.create",
        TokenRevoke = "token.revoke",
        ContainerCreate = "container.create",
        ContainerStart = "container.start",
        ContainerStop = "container.stop",
        ContainerRestart = "container.restart",
        ContainerDelete = "container.delete",
        ContainerExit = "container.exit",
        CommandCreate = "command.create",
        CommandCancel = "command.cancel",
        ImageAdd = "image.add",
        ImageRemove = "image.remove",
        AppCreate = "oauth.app.create",
        AppUpdate = "oauth.app.update",
        AppDelete = "oauth.app.delete",
        AppSecret = "oauth.app.secret",
        OauthAuthorize = "oauth.authorize",
        OauthDeny = "oauth.deny",
        OauthToken = "oauth.token",
        OauthReplay = "oauth.replay",
        OauthTokenRevoke = "oauth.token.revoke",
        OauthIntrospect = "oauth.introspect",
        OauthRevoke = "oauth.revoke",
        TerminalOpen = "terminal.open",
        TerminalClose = "terminal.close",
        TicketCreate = "ticket.create",
        FileUpload = "file.upload",
        FileDelete = "file.delete",
        FileMove = "file.move",
        FileMkdir = "file.mkdir",
        FileChmod = "file.chmod",
        Request = "request",
    }
}

/// An entry, as it is shown.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    pub id: AuditId,
    pub user_id: Option<UserId>,
    pub container_id: Option<String>,
    pub action: String,
    pub outcome: Outcome,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    pub created_at: Time,
}

/// What an entry is about.
#[derive(Debug, Clone)]
pub struct Event {
    action: Action,
    outcome: Outcome,
    user: Option<UserId>,
    container: Option<ContainerId>,
    metadata: serde_json::Map<String, serde_json::Value>,
}

impl Event {
    #[must_use]
    pub fn new(action: Action, outcome: Outcome) -> Self {
        let metadata = serde_json::Map::new();
        Self {
            action,
            outcome,
            user: None,
            container: None,
            metadata,
        }
    }

    #[must_use]
    pub fn success(action: Action) -> Self {
        Self::new(action, Outcome::Success)
    }

    /// Whose doing it is, when that is not the actor: a sign-in's.
    #[must_use]
    pub fn by(mut self, user: &UserId) -> Self {
        self.user = Some(user.clone());
        self
    }

    #[must_use]
    pub fn container(mut self, id: &ContainerId) -> Self {
        self.container = Some(id.clone());
        self
    }

    /// One more fact; never a secret.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.metadata.insert(name.to_owned(), value.into());
        self
    }
}

/// Writes an entry, in the caller's transaction.
///
/// Call it last. On PostgreSQL it takes a lock that every writer of an entry wants and that is held
/// to the commit: who takes another lock after it, such as that of a row it changes, can wait for
/// someone who holds that one and waits here, and PostgreSQL ends one of the two with an error.
///
/// # Errors
/// When the database fails.
pub fn record(conn: &mut Conn, ctx: &Ctx, event: Event) -> Result<()> {
    let Event {
        action,
        outcome,
        user,
        container,
        mut metadata,
    } = event;
    let user_id = user.or_else(|| ctx.user_id().cloned());
    match ctx.actor() {
        Actor::Caller(caller) => {
            let (kind, id) = match &caller.credential {
                Credential::Session { id, .. } => ("session_id", id.as_str()),
                Credential::PersonalToken { id } => ("token_id", id.as_str()),
                Credential::OauthToken { id, app_id } => {
                    metadata.insert("app_id".into(), app_id.as_str().into());
                    ("access_token_id", id.as_str())
                }
            };
            metadata.insert(kind.into(), id.into());
        }
        Actor::System(who) => {
            metadata.insert("actor".into(), (*who).into());
        }
        Actor::Anonymous => {}
    }
    if let Some(address) = ctx.origin().address {
        metadata.insert("address".into(), address.to_string().into());
    }
    if !ctx.origin().request_id.is_empty() {
        metadata.insert("request_id".into(), ctx.origin().request_id.clone().into());
    }
    let (seq, before) = match db::audit::lock_tail(conn)? {
        Some((seq, hash)) => (seq + 1, hash),
        None => (1, String::new()),
    };
    let now = ctx.now();
    let mut row = AuditRow {
        id: AuditId::new(now.utc()),
        seq,
        user_id,
        container_id: container.map(|id| id.to_string()),
        action: action.as_str().to_owned(),
        outcome,
        metadata: serde_json::Value::Object(metadata).to_string(),
        created_at: now,
        hash: String::new(),
    };
    row.hash = link(&before, &row);
    Ok(db::audit::insert(conn, &row)?)
}

/// Whether the last entry about a container tells of the same failure. What is tried every few
/// seconds is written down once, not thousands of times a day.
///
/// # Errors
/// When the database fails.
pub(crate) fn is_repeated(
    conn: &mut Conn,
    id: &ContainerId,
    action: Action,
    reason: &str,
) -> Result<bool> {
    let last = of_container(conn, id, 1)?.into_iter().next();
    Ok(last.is_some_and(|last| {
        last.action == action.as_str()
            && last.outcome == Outcome::Failure
            && last.metadata.get("reason").is_some_and(|r| r == reason)
    }))
}

/// Writes an entry of its own, for what changed nothing: a refusal, a failed sign-in. A failure to
/// write it is logged, not answered: the refusal stands either way.
pub async fn record_alone(ctx: &Ctx, event: Event) {
    let inner = ctx.clone();
    let written = ctx
        .db()
        .write(move |conn| record(conn, &inner, event))
        .await;
    if let Err(error) = written {
        tracing::error!(%error, "an audit entry could not be written");
    }
}

/// The hash of an entry that follows the one of hash `before`.
fn link(before: &str, row: &AuditRow) -> String {
    let mut digest = Sha256::new();
    let seq = row.seq.to_string();
    let parts = [
        before,
        &seq,
        row.id.as_str(),
        row.user_id.as_ref().map_or("", UserId::as_str),
        row.container_id.as_deref().unwrap_or(""),
        &row.action,
        row.outcome.as_str(),
        &row.metadata,
        &row.created_at.rfc3339(),
    ];
    for part in parts {
        // Lengths first: no two different entries give the same bytes.
        digest.update(part.len().to_le_bytes());
        digest.update(part.as_bytes());
    }
    hex(&digest.finalize())
}

/// What everyone did, newest first, as far as `query` asks for it.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators; validation errors for the filters.
pub async fn list(ctx: &Ctx, query: LogQuery, request: PageRequest) -> Result<Page<AuditEntry>> {
    ctx.require_full_admin()?;
    let filter = LogFilter::parse(&query)?;
    let before = before(&request)?;
    ctx.db()
        .read(move |conn| match filter.resolve(conn)? {
            Some(filter) => piece(conn, &filter, before, &request),
            None => Ok(Page {
                items: Vec::new(),
                next: None,
            }),
        })
        .await
}

/// What was done in one's own name, newest first.
///
/// # Errors
/// [`Error::Unauthorized`].
pub async fn list_own(ctx: &Ctx, request: PageRequest) -> Result<Page<AuditEntry>> {
    let filter = AuditFilter {
        user: Some(ctx.caller()?.user_id.clone()),
        ..AuditFilter::default()
    };
    let before = before(&request)?;
    ctx.db()
        .read(move |conn| piece(conn, &filter, before, &request))
        .await
}

/// The number of the last entry before a piece.
fn before(request: &PageRequest) -> Result<Option<i64>> {
    let wrong = |_| Error::field("cursor", "cursor must be one that an earlier answer gave");
    let before = request.before().map(str::parse::<i64>);
    before.transpose().map_err(wrong)
}

fn piece(
    conn: &mut Conn,
    filter: &AuditFilter,
    before: Option<i64>,
    request: &PageRequest,
) -> Result<Page<AuditEntry>> {
    let rows = db::audit::list(conn, filter, before, request.fetch())?;
    Ok(Page::cut(rows, request, |row| row.seq.to_string()).map(entry))
}

/// What was done with one container, newest first. The caller has checked that it may be seen.
pub(crate) fn of_container(
    conn: &mut Conn,
    id: &ContainerId,
    limit: i64,
) -> Result<Vec<AuditEntry>> {
    let filter = AuditFilter {
        container: Some(id.to_string()),
        ..AuditFilter::default()
    };
    let rows = db::audit::list(conn, &filter, None, limit)?;
    Ok(rows.into_iter().map(entry).collect())
}

fn entry(row: AuditRow) -> AuditEntry {
    AuditEntry {
        id: row.id,
        user_id: row.user_id,
        container_id: row.container_id,
        action: row.action,
        outcome: row.outcome,
        metadata: serde_json::from_str(&row.metadata).unwrap_or_default(),
        created_at: row.created_at,
    }
}

/// How the chain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// Whole, with that many entries.
    Whole(i64),
    /// The first entry that does not follow from those before it.
    Broken { seq: i64 },
}

/// Walks the whole chain.
///
/// # Errors
/// When the database fails.
pub async fn verify(ctx: &Ctx) -> Result<Verified> {
    ctx.require_admin()?;
    ctx.db()
        .read(|conn| {
            let (mut last, mut hash) = (0, String::new());
            loop {
                let rows = db::audit::list_after(conn, last, 1000)?;
                if rows.is_empty() {
                    return Ok(Verified::Whole(last));
                }
                for row in rows {
                    if row.seq != last + 1 || row.hash != link(&hash, &row) {
                        return Ok(Verified::Broken { seq: last + 1 });
                    }
                    last = row.seq;
                    hash = row.hash;
                }
            }
        })
        .await
}
