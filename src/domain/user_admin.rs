//! What administrators do with other people's accounts: look, make, change, let in and keep out.
//!
//! To let them do one more thing, add a function that begins with `require_full_admin` and finds
//! the account with [`row_of`].

use crate::auth::actor::Caller;
use crate::db::accounts::{Facts, facts};
use crate::db::users::{UserFilter, UserRow};
use crate::db::{self, Conn};
use crate::domain::access;
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::idempotency;
use crate::domain::ids::UserId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::password_resets::{self, ResetLink};
use crate::domain::sessions::{self, Session};
use crate::domain::time::Time;
use crate::domain::users::{self, DisplayName, Role, Status, User};
use crate::error::{Error, FieldError, Result};

/// An account, as administrators see it.
#[derive(Debug, Clone)]
pub struct Account {
    pub user: User,
    pub last_login_at: Option<Time>,
    pub has_password: bool,
    /// Whether sign-in with the password wants a code too.
    pub has_totp: bool,
    /// Whether it can sign in with OpenID Connect.
    pub has_oidc: bool,
    pub passkeys: i64,
    pub sessions: i64,
    pub containers: i64,
}

impl Account {
    fn of(row: UserRow, facts: Facts) -> Self {
        Self {
            last_login_at: row.last_login_at,
            has_password: row.password_hash.is_some(),
            has_totp: facts.totp,
            has_oidc: facts.oidc,
            passkeys: facts.passkeys,
            sessions: facts.sessions,
            containers: facts.containers,
            user: row.into(),
        }
    }
}

/// Which accounts; words of [`Role`] and [`Status`].
#[derive(Debug, Clone, Default)]
pub struct UserQuery {
    /// A part of the address or the name.
    pub q: Option<String>,
    pub role: Option<String>,
    pub status: Option<String>,
}

/// An account to be made. Without a password its owner chooses one by a link.
pub struct NewAccount {
    pub email: String,
    pub display_name: Option<String>,
    /// A word of [`Role`]; `user` when none.
    pub role: Option<String>,
    pub password: Option<String>,
}

/// What is to change; what is none stays.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub display_name: Option<String>,
    /// A word of [`Role`].
    pub role: Option<String>,
    /// A word of [`Status`].
    pub status: Option<String>,
}

fn word<T>(
    field: &str,
    text: Option<&str>,
    parse: fn(&str) -> Option<T>,
    rule: &str,
) -> Result<Option<T>> {
    text.map(|text| {
        parse(text).ok_or_else(|| Error::field(field, format!("{field} must be {rule}")))
    })
    .transpose()
}

fn role_of(text: Option<&str>) -> Result<Option<Role>> {
    word("role", text, Role::from_text, "admin or user")
}

fn status_of(text: Option<&str>) -> Result<Option<Status>> {
    word("status", text, Status::from_text, "active or disabled")
}

fn row_of(conn: &mut Conn, id: &str) -> Result<UserRow> {
    let unknown = || Error::NotFound(format!("User {id} was not found"));
    let parsed: UserId = id.parse().map_err(|_| unknown())?;
    db::users::get(conn, &parsed)?.ok_or_else(unknown)
}

fn account(conn: &mut Conn, ctx: &Ctx, row: UserRow) -> Result<Account> {
    let now = ctx.now();
    let ids = [row.id.clone()];
    let found = facts(conn, &ids, now, sessions::idle_since(now))?;
    let facts = found.get(&row.id).copied().unwrap_or_default();
    Ok(Account::of(row, facts))
}

/// Accounts, newest first.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators; validation errors for the filters.
pub async fn search(ctx: &Ctx, query: UserQuery, request: PageRequest) -> Result<Page<Account>> {
    ctx.require_full_admin()?;
    let text = query.q.filter(|q| !q.is_empty()).map(|q| q.to_lowercase());
    if text
        .as_ref()
        .is_some_and(|q| q.len() > 100 || q.contains('\0'))
    {
        return Err(Error::field("q", "q must have at most 100 characters"));
    }
    let filter = UserFilter {
        text,
        role: role_of(query.role.as_deref().filter(|r| !r.is_empty()))?,
        status: status_of(query.status.as_deref().filter(|s| !s.is_empty()))?,
    };
    let now = ctx.now();
    ctx.db()
        .read(move |conn| {
            let rows = db::users::search(conn, &filter, request.before(), request.fetch())?;
            let page = Page::cut(rows, &request, |row| row.id.to_string());
            let ids: Vec<UserId> = page.items.iter().map(|row| row.id.clone()).collect();
            let mut found = facts(conn, &ids, now, sessions::idle_since(now))?;
            Ok(page.map(|row| {
                let facts = found.remove(&row.id).unwrap_or_default();
                Account::of(row, facts)
            }))
        })
        .await
}

/// One account.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators, [`Error::NotFound`].
pub async fn get(ctx: &Ctx, id: &str) -> Result<Account> {
    ctx.require_full_admin()?;
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .read(move |conn| {
            let row = row_of(conn, &id)?;
            account(conn, &inner, row)
        })
        .await
}

/// Makes an account; without a password, with the link by which its owner chooses one. A repeated
/// request (same idempotency key) answers the account without the link.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators, validation errors, [`Error::Conflict`].
pub async fn create(ctx: &Ctx, new: NewAccount) -> Result<(Account, Option<ResetLink>)> {
    ctx.require_full_admin()?;
    let mut wrong: Vec<FieldError> = Vec::new();
    let fields = users::check_fields(
        &new.email,
        new.display_name.as_deref(),
        new.password.as_deref(),
    )
    .map_err(|e| wrong.extend(e.fields().iter().cloned()));
    let role = role_of(new.role.as_deref()).map_err(|e| wrong.extend(e.fields().iter().cloned()));
    let (Ok((email, name)), Ok(role)) = (fields, role) else {
        return Err(Error::Validation(wrong));
    };
    let role = role.unwrap_or(Role::User);
    let hash = match new.password {
        Some(password) => Some(ctx.app().passwords.hash(password).await?),
        None => None,
    };
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            sessions::require_proved(conn, &inner)?;
            if let Some(id) = idempotency::replay::<UserId>(conn, &inner)? {
                let row = row_of(conn, id.as_str())?;
                return Ok((account(conn, &inner, row)?, None));
            }
            let wants_link = hash.is_none();
            let made = users::insert_with(conn, &inner, &email, &name, role, hash)?;
            let link = if wants_link {
                Some(password_resets::put(conn, &inner, &made.id)?)
            } else {
                None
            };
            let event = Event::success(Action::UserCreate)
                .with("subject", made.id.as_str())
                .with("email", made.email.as_str())
                .with("role", made.role.as_str())
                .with("link", link.is_some());
            idempotency::keep(conn, &inner, &made.id)?;
            audit::record(conn, &inner, event)?;
            let row = row_of(conn, made.id.as_str())?;
            Ok((account(conn, &inner, row)?, link))
        })
        .await
}

/// Changes an account.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators, [`Error::NotFound`], validation errors,
/// [`Error::Conflict`] for the last administrator.
pub async fn change(ctx: &Ctx, id: &str, change: Change) -> Result<Account> {
    ctx.require_full_admin()?;
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .write(move |conn| {
            sessions::require_proved(conn, &inner)?;
            db::users::lock(conn)?;
            let mut row = row_of(conn, &id)?;
            let name = change
                .display_name
                .as_deref()
                .map(DisplayName::parse)
                .transpose()?;
            let role = role_of(change.role.as_deref())?;
            let status = status_of(change.status.as_deref())?;
            // The status first: it takes rows of other tables, and each of the three writes an audit
            // entry, after which only users' rows may be taken, for their table is locked.
            if let Some(status) = status.filter(|status| *status != row.status) {
                users::put_status(conn, &inner, &mut row, status)?;
            }
            if let Some(role) = role.filter(|role| *role != row.role) {
                users::put_role(conn, &inner, &mut row, role)?;
            }
            if let Some(name) = name.filter(|name| name.as_str() != row.display_name) {
                db::users::set_display_name(conn, &row.id, name.as_str(), inner.now())?;
                name.as_str().clone_into(&mut row.display_name);
                let event = Event::success(Action::UserRename).with("subject", row.id.as_str());
                audit::record(conn, &inner, event)?;
            }
            account(conn, &inner, row)
        })
        .await
}

/// Makes the link by which the account's owner chooses a new password. The old password stays good
/// until then.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators, [`Error::NotFound`], [`Error::Conflict`]
/// for a disabled account.
pub async fn reset(ctx: &Ctx, id: &str) -> Result<ResetLink> {
    ctx.require_full_admin()?;
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .write(move |conn| {
            sessions::require_proved(conn, &inner)?;
            db::users::lock(conn)?;
            let row = row_of(conn, &id)?;
            if row.status == Status::Disabled {
                return Err(Error::Conflict("This account is disabled".into()));
            }
            let link = password_resets::put(conn, &inner, &row.id)?;
            let event = Event::success(Action::UserReset).with("subject", row.id.as_str());
            audit::record(conn, &inner, event)?;
            Ok(link)
        })
        .await
}

/// An account's sign-ins that have not ended, newest first.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators, [`Error::NotFound`].
pub async fn list_sessions(ctx: &Ctx, id: &str) -> Result<Vec<Session>> {
    ctx.require_full_admin()?;
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .read(move |conn| {
            let row = row_of(conn, &id)?;
            sessions::of_user(conn, &inner, &row.id)
        })
        .await
}

/// Ends all of an account's sign-ins, but the one that asks; how many there were.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators, [`Error::NotFound`].
pub async fn end_sessions(ctx: &Ctx, id: &str) -> Result<usize> {
    ctx.require_full_admin()?;
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .write(move |conn| {
            let row = row_of(conn, &id)?;
            let keep = inner.caller().ok().and_then(Caller::session_id);
            let ended = db::sessions::delete_all(conn, &row.id, keep)?;
            access::ring_user(&inner, &row.id);
            let event = Event::success(Action::UserSessionsEnd)
                .with("subject", row.id.as_str())
                .with("sessions_ended", ended);
            audit::record(conn, &inner, event)?;
            Ok(ended)
        })
        .await
}

/// Ends one of an account's sign-ins.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators, [`Error::NotFound`].
pub async fn end_session(ctx: &Ctx, id: &str, session: &str) -> Result<()> {
    ctx.require_full_admin()?;
    let (inner, id, session) = (ctx.clone(), id.to_owned(), session.to_owned());
    ctx.db()
        .write(move |conn| {
            let row = row_of(conn, &id)?;
            if session.contains('\0') || !db::sessions::delete(conn, &row.id, &session)? {
                return Err(Error::NotFound(format!("Session {session} was not found")));
            }
            access::ring_user(&inner, &row.id);
            let event = Event::success(Action::SessionEnd)
                .with("subject", session)
                .with("user", row.id.as_str());
            audit::record(conn, &inner, event)
        })
        .await
}

/// Turns an account's one-time codes off, for who has lost the authenticator and the codes for
/// recovery.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators, [`Error::NotFound`], [`Error::Conflict`]
/// while they are off.
pub async fn remove_totp(ctx: &Ctx, id: &str) -> Result<()> {
    ctx.require_full_admin()?;
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .write(move |conn| {
            sessions::require_proved(conn, &inner)?;
            let row = row_of(conn, &id)?;
            if !db::second_factors::delete(conn, &row.id)? {
                return Err(Error::Conflict("One-time codes are turned off".into()));
            }
            let event = Event::success(Action::UserTotpRemove).with("subject", row.id.as_str());
            audit::record(conn, &inner, event)
        })
        .await
}
