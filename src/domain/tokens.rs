//! Personal access tokens: how programs come in.
//!
//! To limit tokens in a new way, add it to [`NewToken`] and check it in [`authenticate`].

use crate::app::App;
use crate::auth::actor::{AuthMethod, Caller, Credential, Scope};
use crate::auth::secrets;
use crate::db::tokens::TokenRow;
use crate::db::users::UserRow;
use crate::db::{self, Conn};
use crate::domain::access;
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::idempotency;
use crate::domain::ids::{TokenId, UserId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::sessions;
use crate::domain::time::Time;
use crate::domain::users::Status;
use crate::error::{Error, FieldError, Result};

/// A token without its secret.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Token {
    pub id: TokenId,
    pub name: String,
    pub prefix: String,
    /// None is the whole account.
    pub scopes: Option<Vec<Scope>>,
    pub created_at: Time,
    pub expires_at: Option<Time>,
    pub last_used_at: Option<Time>,
    pub revoked_at: Option<Time>,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    pub name: String,
    pub expires_at: Option<Time>,
    /// Words of [`Scope`]; none is the whole account.
    pub scopes: Option<Vec<String>>,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        Self {
            scopes: row.scopes.as_deref().map(parse_scopes),
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
        }
    }
}

fn parse_scopes(text: &str) -> Vec<Scope> {
    text.split(' ').filter_map(Scope::from_text).collect()
}

fn check(ctx: &Ctx, new: &NewToken) -> Result<Option<Vec<Scope>>> {
    let mut wrong = Vec::new();
    let mut note = |field: &str, message: String| {
        wrong.push(FieldError {
            field: field.to_owned(),
            message,
        });
    };
    let chars = new.name.trim().chars().count();
    if chars == 0 || chars > 100 || new.name.chars().any(char::is_control) {
        note(
            "name",
            "name must be one line of 1 to 100 characters".into(),
        );
    }
    if new.expires_at.is_some_and(|at| at <= ctx.now()) {
        note("expires_at", "expires_at must be in the future".into());
    }
    if new.scopes.as_ref().is_some_and(Vec::is_empty) {
        note(
            "scopes",
            "scopes must not be empty; leave it out for the whole account".into(),
        );
    }
    let scopes = new.scopes.as_ref().map(|words| {
        let mut scopes: Vec<Scope> = Vec::new();
        for word in words {
            match Scope::from_text(word) {
                Some(scope) if scopes.contains(&scope) => {}
                Some(scope) => scopes.push(scope),
                None => {
                    let all: Vec<&str> = Scope::ALL.iter().map(|s| s.as_str()).collect();
                    note(
                        "scopes",
                        format!("scopes must each be one of {}", all.join(", ")),
                    );
                    break;
                }
            }
        }
        scopes
    });
    if wrong.is_empty() {
        Ok(scopes)
    } else {
        Err(Error::Validation(wrong))
    }
}

/// Makes a token of the caller's own; the secret is in this answer and nowhere else. A repeated
/// request (same idempotency key) answers the token without it.
///
/// # Errors
/// Validation errors; [`Error::Forbidden`] when a limited token asks for more than it has.
pub async fn create(ctx: &Ctx, new: NewToken) -> Result<(Token, Option<String>)> {
    let caller = ctx.caller()?.clone();
    let scopes = check(ctx, &new)?;
    if let Some(held) = &caller.scopes {
        let exceeds = scopes
            .as_ref()
            .is_none_or(|s| s.iter().any(|scope| !held.contains(scope)));
        if exceeds {
            return Err(Error::Forbidden(
                "A token cannot make one that may do more".into(),
            ));
        }
    }
    make(ctx, &caller.user_id, new, scopes).await
}

/// Makes a token for someone, at the command line.
///
/// # Errors
/// As [`create`].
pub async fn create_for(ctx: &Ctx, user: &UserId, new: NewToken) -> Result<(Token, String)> {
    ctx.require_admin()?;
    let scopes = check(ctx, &new)?;
    let (token, secret) = make(ctx, user, new, scopes).await?;
    secret
        .map(|secret| (token, secret))
        .ok_or_else(|| Error::internal("no secret was made"))
}

async fn make(
    ctx: &Ctx,
    user: &UserId,
    new: NewToken,
    scopes: Option<Vec<Scope>>,
) -> Result<(Token, Option<String>)> {
    let secret = secrets::generate(secrets::PERSONAL_TOKEN, &*ctx.app().entropy);
    let now = ctx.now();
    let row = TokenRow {
        id: TokenId::new(now.utc()),
        user_id: user.clone(),
        name: new.name.trim().to_owned(),
        prefix: secret.chars().take(secrets::SHOWN_PREFIX_LEN).collect(),
        hash: secrets::hash(&secret),
        scopes: scopes.map(|s| s.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(" ")),
        created_at: now,
        expires_at: new.expires_at,
        last_used_at: None,
        revoked_at: None,
    };
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            if let Some(token) = idempotency::replay::<Token>(conn, &inner)? {
                return Ok((token, None));
            }
            sessions::require_proved(conn, &inner)?;
            db::tokens::insert(conn, &row)?;
            let event = Event::success(Action::TokenCreate)
                .by(&row.user_id)
                .with("subject", row.id.as_str())
                .with("name", row.name.as_str());
            audit::record(conn, &inner, event)?;
            let token = Token::from(row);
            idempotency::keep(conn, &inner, &token)?;
            Ok((token, Some(secret)))
        })
        .await
}

/// One's own that are not revoked, newest first.
///
/// # Errors
/// [`Error::Unauthorized`].
pub async fn list(ctx: &Ctx, request: PageRequest) -> Result<Page<Token>> {
    let user = ctx.caller()?.user_id.clone();
    let page = ctx
        .db()
        .read(move |conn| {
            let rows = db::tokens::list(conn, &user, request.before(), request.fetch())?;
            Ok(Page::cut(rows, &request, |row| row.id.to_string()).map(Token::from))
        })
        .await?;
    Ok(page.map(|mut token| {
        let noted = ctx.app().touched.token_at(&token.id);
        token.last_used_at = token.last_used_at.max(noted);
        token
    }))
}

/// Revokes one of one's own: the next request with it is refused.
///
/// # Errors
/// [`Error::NotFound`], also for another's.
pub async fn revoke(ctx: &Ctx, id: &str) -> Result<()> {
    let user = ctx.caller()?.user_id.clone();
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .write(move |conn| {
            if id.contains('\0') || !db::tokens::revoke(conn, &user, &id, inner.now())? {
                return Err(Error::NotFound(format!("Token {id} was not found")));
            }
            access::ring_user(&inner, &user);
            audit::record(
                conn,
                &inner,
                Event::success(Action::TokenRevoke).with("subject", id),
            )
        })
        .await
}

/// Who has that token; none when it is not one, or is revoked or expired.
///
/// # Errors
/// [`Error::Forbidden`] when its user is disabled; when the database fails.
pub async fn authenticate(app: &App, secret: &str) -> Result<Option<Caller>> {
    if !secrets::is_well_formed(secrets::PERSONAL_TOKEN, secret) {
        return Ok(None);
    }
    let hash = secrets::hash(secret);
    let now = Time::from(app.clock.now());
    let found = app
        .db
        .read(move |conn| Ok(db::tokens::get_by_hash(conn, &hash)?))
        .await?;
    let Some((token, user)) = found.filter(|(token, _)| is_alive(token, now)) else {
        return Ok(None);
    };
    if user.status != Status::Active {
        return Err(Error::Forbidden("This account is disabled".into()));
    }
    app.touched.token(&token.id, now);
    Ok(Some(caller_of(token, user)))
}

fn is_alive(token: &TokenRow, now: Time) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|at| at > now)
}

fn caller_of(token: TokenRow, user: UserRow) -> Caller {
    Caller {
        user_id: user.id,
        email: user.email,
        display_name: user.display_name,
        role: user.role,
        auth_method: AuthMethod::PersonalToken,
        scopes: token.scopes.as_deref().map(parse_scopes),
        credential: Credential::PersonalToken { id: token.id },
    }
}

/// Who has the token of that id; none when it is revoked or expired, or its user may not come in.
pub(crate) fn find(conn: &mut Conn, id: &TokenId, now: Time) -> Result<Option<Caller>> {
    let found = db::tokens::get(conn, id)?
        .filter(|(token, user)| is_alive(token, now) && user.status == Status::Active);
    Ok(found.map(|(token, user)| caller_of(token, user)))
}
