//! People with accounts: their addresses, names, roles and status.
//!
//! To add a field: a column in both migrations, here in [`User`], and in the views that show it.

use crate::auth::password;
use crate::db::users::UserRow;
use crate::db::{self, Conn};
use crate::domain::access;
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::ids::UserId;
use crate::domain::text_enum::text_enum;
use crate::domain::time::Time;
use crate::error::{Error, Result};

text_enum! {
    /// What a user may do on the platform.
    Role { Admin = "admin", User = "user" }
}

text_enum! {
    /// Whether a user may come in.
    Status { Active = "active", Disabled = "disabled" }
}

/// An e-mail address, lower case. Only its shape is checked: whether it exists, only a mail tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// # Errors
    /// A validation error for `email`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::field(
                "email",
                "email must be an e-mail address of ASCII characters",
            )
        };
        let text = text.trim();
        let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
        let plain = |c: char| c.is_ascii_graphic() && !"\"(),:;<>@[\\]".contains(c);
        // Only ASCII: two addresses that look alike must be alike.
        let domain_ok = !domain.starts_with(['.', '-'])
            && !domain.ends_with(['.', '-'])
            && !domain.contains("..")
            && domain
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
        if local.is_empty()
            || domain.is_empty()
            || text.len() > 254
            || local.len() > 64
            || !local.chars().all(plain)
            || !domain_ok
        {
            return Err(wrong());
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a person is called on pages: 1 to 100 characters on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayName(String);

impl DisplayName {
    /// # Errors
    /// A validation error for `display_name`.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let chars = text.chars().count();
        if chars == 0 || chars > 100 || text.chars().any(char::is_control) {
            return Err(Error::field(
                "display_name",
                "display_name must be one line of 1 to 100 characters",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A person with an account.
#[derive(Debug, Clone)]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub display_name: String,
    pub role: Role,
    pub status: Status,
    pub created_at: Time,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            email: row.email,
            display_name: row.display_name,
            role: row.role,
            status: row.status,
            created_at: row.created_at,
        }
    }
}

/// Who is to have an account.
pub struct NewUser {
    pub email: String,
    /// The part of the address before the `@` when none.
    pub display_name: Option<String>,
    pub role: Role,
    pub password: String,
}

/// A [`NewUser`] that keeps the rules.
pub(crate) struct CheckedUser {
    pub email: Email,
    pub display_name: DisplayName,
    pub role: Role,
    pub password: String,
}

/// Checks the fields of a new account; one without a password has another way of signing in.
///
/// # Errors
/// One validation error with every field that breaks a rule.
pub(crate) fn check_fields(
    email: &str,
    display_name: Option<&str>,
    password: Option<&str>,
) -> Result<(Email, DisplayName)> {
    let mut wrong = Vec::new();
    let mut note = |error: Error| wrong.extend(error.fields().iter().cloned());
    let email = Email::parse(email).map_err(&mut note).ok();
    let name = display_name
        .filter(|name| !name.trim().is_empty())
        .map(str::to_owned)
        .or_else(|| {
            email
                .as_ref()
                .and_then(|e| e.as_str().split('@').next().map(str::to_owned))
        });
    // Without a name and without an address only the address is worth a message.
    let display_name = name.and_then(|n| DisplayName::parse(&n).map_err(&mut note).ok());
    let address = email.as_ref().map_or("", Email::as_str);
    if let Some(password) = password
        && let Err(error) = password::check_rules("password", password, address)
    {
        note(error);
    }
    match (email, display_name) {
        (Some(email), Some(display_name)) if wrong.is_empty() => Ok((email, display_name)),
        _ => Err(Error::Validation(wrong)),
    }
}

impl NewUser {
    /// # Errors
    /// As [`check_fields`].
    pub(crate) fn check(self) -> Result<CheckedUser> {
        let name = self.display_name.as_deref();
        let (email, display_name) = check_fields(&self.email, name, Some(&self.password))?;
        Ok(CheckedUser {
            email,
            display_name,
            role: self.role,
            password: self.password,
        })
    }
}

/// Writes the row, in the caller's transaction.
///
/// # Errors
/// [`Error::Conflict`] when the address has an account.
pub(crate) fn insert(
    conn: &mut Conn,
    ctx: &Ctx,
    user: &CheckedUser,
    password_hash: String,
) -> Result<User> {
    let hash = Some(password_hash);
    insert_with(conn, ctx, &user.email, &user.display_name, user.role, hash)
}

/// As [`insert`]; without a hash for an account that has another way of signing in.
///
/// # Errors
/// As [`insert`].
pub(crate) fn insert_with(
    conn: &mut Conn,
    ctx: &Ctx,
    email: &Email,
    display_name: &DisplayName,
    role: Role,
    password_hash: Option<String>,
) -> Result<User> {
    let now = ctx.now();
    let row = UserRow {
        id: UserId::new(now.utc()),
        email: email.as_str().to_owned(),
        display_name: display_name.as_str().to_owned(),
        role,
        status: Status::Active,
        password_hash,
        created_at: now,
        updated_at: now,
        last_login_at: None,
    };
    // In a transaction of PostgreSQL a failed statement is the end, so the usual case is asked
    // first; the constraint decides between two at once.
    if db::users::get_by_email(conn, &row.email)?.is_some() {
        return Err(taken());
    }
    match db::users::insert(conn, &row) {
        Ok(()) => Ok(row.into()),
        Err(e) if e.is_unique_violation() => Err(taken()),
        Err(e) => Err(e.into()),
    }
}

fn taken() -> Error {
    Error::Conflict("An account with this e-mail address exists".into())
}

/// Makes an account.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators, validation errors, [`Error::Conflict`].
pub async fn create(ctx: &Ctx, new: NewUser) -> Result<User> {
    ctx.require_admin()?;
    let user = new.check()?;
    let hash = ctx.app().passwords.hash(user.password.clone()).await?;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            let made = insert(conn, &inner, &user, hash)?;
            let event = Event::success(Action::UserCreate)
                .with("subject", made.id.as_str())
                .with("email", made.email.as_str())
                .with("role", made.role.as_str());
            audit::record(conn, &inner, event)?;
            Ok(made)
        })
        .await
}

/// Everyone, oldest first.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators.
pub async fn list(ctx: &Ctx) -> Result<Vec<User>> {
    ctx.require_admin()?;
    ctx.db()
        .read(|conn| Ok(db::users::list(conn)?.into_iter().map(User::from).collect()))
        .await
}

fn by_email(conn: &mut Conn, email: &str) -> Result<UserRow> {
    db::users::get_by_email(conn, Email::parse(email)?.as_str())?
        .ok_or_else(|| Error::NotFound(format!("No account has the e-mail address {email}")))
}

/// Refuses what would leave the platform without an administrator. The caller holds
/// [`db::users::lock`], so that two cannot each take the other for the one that stays.
fn keep_an_admin(conn: &mut Conn, user: &UserRow) -> Result<()> {
    let is_admin = user.role == Role::Admin && user.status == Status::Active;
    if is_admin && db::users::count_active_admins(conn)? <= 1 {
        return Err(Error::Conflict("This is the last administrator".into()));
    }
    Ok(())
}

/// Lets a user in, or keeps it out: a disabled one's sessions end at once. In the caller's
/// transaction, under [`db::users::lock`].
///
/// # Errors
/// [`Error::Conflict`] for the last administrator.
pub(crate) fn put_status(
    conn: &mut Conn,
    ctx: &Ctx,
    row: &mut UserRow,
    status: Status,
) -> Result<()> {
    let action = match status {
        Status::Active => Action::UserEnable,
        Status::Disabled => {
            keep_an_admin(conn, row)?;
            db::sessions::delete_all(conn, &row.id, None)?;
            db::password_resets::delete_of(conn, &row.id)?;
            Action::UserDisable
        }
    };
    db::users::set_status(conn, &row.id, status, ctx.now())?;
    access::ring_user(ctx, &row.id);
    row.status = status;
    let event = Event::success(action).with("subject", row.id.as_str());
    audit::record(conn, ctx, event)
}

/// Gives a user another role. In the caller's transaction, under [`db::users::lock`].
///
/// # Errors
/// [`Error::Conflict`] for the last administrator.
pub(crate) fn put_role(conn: &mut Conn, ctx: &Ctx, row: &mut UserRow, role: Role) -> Result<()> {
    if role == Role::User {
        keep_an_admin(conn, row)?;
    }
    db::users::set_role(conn, &row.id, role, ctx.now())?;
    access::ring_user(ctx, &row.id);
    row.role = role;
    let event = Event::success(Action::UserRole)
        .with("subject", row.id.as_str())
        .with("role", role.as_str());
    audit::record(conn, ctx, event)
}

/// [`put_status`] by address, for the command line.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for the last administrator.
pub async fn set_status(ctx: &Ctx, email: &str, status: Status) -> Result<User> {
    ctx.require_admin()?;
    let (inner, email) = (ctx.clone(), email.to_owned());
    ctx.db()
        .write(move |conn| {
            db::users::lock(conn)?;
            let mut row = by_email(conn, &email)?;
            put_status(conn, &inner, &mut row, status)?;
            Ok(row.into())
        })
        .await
}

/// [`put_role`] by address, for the command line.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for the last administrator.
pub async fn set_role(ctx: &Ctx, email: &str, role: Role) -> Result<User> {
    ctx.require_admin()?;
    let (inner, email) = (ctx.clone(), email.to_owned());
    ctx.db()
        .write(move |conn| {
            db::users::lock(conn)?;
            let mut row = by_email(conn, &email)?;
            put_role(conn, &inner, &mut row, role)?;
            Ok(row.into())
        })
        .await
}

/// An account by its address, for the command line.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find(ctx: &Ctx, email: &str) -> Result<User> {
    ctx.require_admin()?;
    let email = email.to_owned();
    ctx.db()
        .read(move |conn| Ok(by_email(conn, &email)?.into()))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_lower_case_ascii_with_one_at() {
        assert_eq!(
            Email::parse(" Anna@Example.org ").unwrap().as_str(),
            "anna@example.org"
        );
        for bad in [
            "",
            "anna",
            "@x.org",
            "a@",
            "a@b@c.org",
            "аnna@x.org",
            "a b@x.org",
            "a@x..org",
        ] {
            assert!(Email::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_one_line() {
        assert!(DisplayName::parse("Anna Meier").is_ok());
        assert!(DisplayName::parse("Anna\nMeier").is_err());
        assert!(DisplayName::parse(" ").is_err());
    }
}
