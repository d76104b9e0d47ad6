//! Applications: registered by a user, known by their client id, and, but for public ones, by a
//! secret that is shown once.
//!
//! To keep one more fact of an application: a column in both migrations, here in [`Application`],
//! its rule in [`Checked`], and the views that show it.

use super::redirect;
use crate::auth::secrets;
use crate::db::oauth_apps::AppRow;
use crate::db::{self};
use crate::domain::access::{self, Changed};
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::idempotency;
use crate::domain::ids::AppId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::sessions;
use crate::domain::time::Time;
use crate::error::{Error, FieldError, Result};

/// Characters of a client id: too many to guess those of others.
const CLIENT_ID_LEN: usize = 24;
const MAX_NAME: usize = 100;
const MAX_DESCRIPTION: usize = 500;
const MAX_REDIRECT_URIS: usize = 10;

/// An application without its secret.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Application {
    pub id: AppId,
    pub client_id: String,
    pub client_secret_prefix: Option<String>,
    pub name: String,
    pub description: String,
    pub redirect_uris: Vec<String>,
    /// It runs where it can keep no secret: in a browser, on a phone.
    pub public: bool,
    pub created_at: Time,
}

/// What everyone may know of an application.
#[derive(Debug, Clone)]
pub struct PublicApplication {
    pub client_id: String,
    pub name: String,
    pub description: String,
    pub owner_name: String,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct NewApplication {
    pub name: String,
    pub description: String,
    pub redirect_uris: Vec<String>,
    pub public: bool,
}

/// What is to be changed; none stays.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub name: Option<String>,
    pub description: Option<String>,
    pub redirect_uris: Option<Vec<String>>,
    /// Cannot be changed; the same value does no harm.
    pub public: Option<bool>,
}

impl From<AppRow> for Application {
    fn from(row: AppRow) -> Self {
        Self {
            redirect_uris: redirect_uris(&row),
            id: row.id,
            client_id: row.client_id,
            client_secret_prefix: row.secret_prefix,
            name: row.name,
            description: row.description,
            public: row.public,
            created_at: row.created_at,
        }
    }
}

/// The redirect URIs of a row.
pub(super) fn redirect_uris(row: &AppRow) -> Vec<String> {
    serde_json::from_str(&row.redirect_uris).unwrap_or_default()
}

/// Whether a text on the consent page could pass for another: turned round, or with what is not
/// seen in it.
fn deceives(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
    )
}

/// What keeps the rules.
struct Checked {
    name: String,
    description: String,
    redirect_uris: Vec<String>,
}

impl Checked {
    /// # Errors
    /// One validation error with every field that breaks a rule.
    fn of(new: &NewApplication) -> Result<Self> {
        let mut wrong = Vec::new();
        let mut note = |field: &str, message: &str| {
            wrong.push(FieldError {
                field: field.to_owned(),
                message: message.to_owned(),
            });
        };
        let name = new.name.trim();
        if name.is_empty() {
            note("name", "Application name must not be empty");
        } else if name.chars().count() > MAX_NAME {
            note("name", "Application name must be at most 100 characters");
        } else if name.chars().any(|c| c.is_control() || deceives(c)) {
            note(
                "name",
                "Application name must be one line of visible characters",
            );
        }
        let description = new.description.trim();
        let breaks_lines = |c: char| c == '\n' || c == '\r';
        if description.chars().count() > MAX_DESCRIPTION {
            note("description", "description must be at most 500 characters");
        } else if description
            .chars()
            .any(|c| deceives(c) || c.is_control() && !breaks_lines(c))
        {
            note(
                "description",
                "description must consist of visible characters",
            );
        }
        let mut redirect_uris: Vec<String> = Vec::new();
        for uri in &new.redirect_uris {
            if !redirect_uris.contains(uri) {
                redirect_uris.push(uri.clone());
            }
        }
        if redirect_uris.is_empty() {
            note("redirect_uris", "At least one redirect URI is required");
        } else if redirect_uris.len() > MAX_REDIRECT_URIS {
            note("redirect_uris", "redirect_uris must be at most 10");
        } else if !redirect_uris
            .iter()
            .all(|uri| redirect::check(uri, new.public))
        {
            note(
                "redirect_uris",
                if new.public {
                    "redirect_uris must each be absolute and without a fragment: https, http on a \
                     loopback host, or a private-use scheme such as org.example.app:/callback"
                } else {
                    "redirect_uris must each be absolute and without a fragment: https, or http on \
                     a loopback host"
                },
            );
        }
        if wrong.is_empty() {
            Ok(Self {
                name: name.to_owned(),
                description: description.to_owned(),
                redirect_uris,
            })
        } else {
            Err(Error::Validation(wrong))
        }
    }

    fn redirect_uris(&self) -> Result<String> {
        serde_json::to_string(&self.redirect_uris).map_err(Error::internal)
    }
}

fn unknown(id: &str) -> Error {
    Error::NotFound(format!("Application {id} was not found"))
}

/// No row has such an id, and PostgreSQL takes no such text.
fn is_hopeless(id: &str) -> bool {
    id.contains('\0')
}

fn new_secret(ctx: &Ctx) -> (String, String, String) {
    let secret = secrets::generate(secrets::CLIENT_SECRET, &*ctx.app().entropy);
    let prefix = secret.chars().take(secrets::SHOWN_PREFIX_LEN).collect();
    let hash = secrets::hash(&secret);
    (secret, prefix, hash)
}

/// Registers an application of the caller's own; its secret is in this answer and nowhere else. A
/// repeated request (same idempotency key) answers the application without it.
///
/// # Errors
/// Validation errors.
pub async fn create(ctx: &Ctx, new: NewApplication) -> Result<(Application, Option<String>)> {
    let user_id = ctx.caller()?.user_id.clone();
    let checked = Checked::of(&new)?;
    let now = ctx.now();
    let secret = (!new.public).then(|| new_secret(ctx));
    let row = AppRow {
        id: AppId::new(now.utc()),
        client_id: secrets::random_base62(CLIENT_ID_LEN, &*ctx.app().entropy),
        user_id,
        redirect_uris: checked.redirect_uris()?,
        name: checked.name,
        description: checked.description,
        public: new.public,
        secret_hash: secret.as_ref().map(|(_, _, hash)| hash.clone()),
        secret_prefix: secret.as_ref().map(|(_, prefix, _)| prefix.clone()),
        created_at: now,
        updated_at: now,
    };
    let secret = secret.map(|(secret, ..)| secret);
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            if let Some(app) = idempotency::replay::<Application>(conn, &inner)? {
                return Ok((app, None));
            }
            db::oauth_apps::insert(conn, &row)?;
            let event = Event::success(Action::AppCreate)
                .with("subject", row.id.as_str())
                .with("name", row.name.as_str());
            let app = Application::from(row);
            idempotency::keep(conn, &inner, &app)?;
            audit::record(conn, &inner, event)?;
            Ok((app, secret))
        })
        .await
}

/// One's own, newest first.
///
/// # Errors
/// [`Error::Unauthorized`].
pub async fn list(ctx: &Ctx, request: PageRequest) -> Result<Page<Application>> {
    let user = ctx.caller()?.user_id.clone();
    ctx.db()
        .read(move |conn| {
            let rows = db::oauth_apps::list(conn, &user, request.before(), request.fetch())?;
            Ok(Page::cut(rows, &request, |row| row.id.to_string()).map(Application::from))
        })
        .await
}

/// One of one's own.
///
/// # Errors
/// [`Error::NotFound`], also for another's.
pub async fn get(ctx: &Ctx, id: &str) -> Result<Application> {
    let user = ctx.caller()?.user_id.clone();
    if is_hopeless(id) {
        return Err(unknown(id));
    }
    let id = id.to_owned();
    ctx.db()
        .read(move |conn| {
            let row = db::oauth_apps::get(conn, &user, &id)?.ok_or_else(|| unknown(&id))?;
            Ok(row.into())
        })
        .await
}

/// What everyone may know of the application of that client id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get_public(ctx: &Ctx, client_id: &str) -> Result<PublicApplication> {
    let client_id = client_id.to_owned();
    ctx.db()
        .read(move |conn| {
            let (app, owner_name) = by_client(conn, &client_id)?;
            Ok(PublicApplication {
                client_id: app.client_id,
                name: app.name,
                description: app.description,
                owner_name,
            })
        })
        .await
}

/// The application of that client id, with its owner's name.
///
/// # Errors
/// [`Error::NotFound`].
pub(super) fn by_client(conn: &mut db::Conn, client_id: &str) -> Result<(AppRow, String)> {
    let wrong = || Error::NotFound("There is no application with this client_id".into());
    if !client_id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(wrong());
    }
    db::oauth_apps::get_by_client(conn, client_id)?.ok_or_else(wrong)
}

/// Changes one of one's own. Codes given out for a redirect URI that is gone are forgotten.
///
/// # Errors
/// [`Error::NotFound`], also for another's; validation errors.
pub async fn update(ctx: &Ctx, id: &str, change: Change) -> Result<Application> {
    let user = ctx.caller()?.user_id.clone();
    if is_hopeless(id) {
        return Err(unknown(id));
    }
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .write(move |conn| {
            let mut row =
                db::oauth_apps::get_to_change(conn, &user, &id)?.ok_or_else(|| unknown(&id))?;
            if change.public.is_some_and(|public| public != row.public) {
                return Err(Error::field(
                    "public",
                    "public cannot be changed; register another application",
                ));
            }
            let before = redirect_uris(&row);
            let checked = Checked::of(&NewApplication {
                name: change.name.unwrap_or(row.name),
                description: change.description.unwrap_or(row.description),
                redirect_uris: change.redirect_uris.unwrap_or_else(|| before.clone()),
                public: row.public,
            })?;
            row.redirect_uris = checked.redirect_uris()?;
            let moved = checked.redirect_uris != before;
            row.name = checked.name;
            row.description = checked.description;
            row.updated_at = inner.now();
            db::oauth_apps::update(conn, &row)?;
            if moved {
                db::oauth_tokens::delete_codes(conn, row.id.as_str(), None)?;
            }
            let event = Event::success(Action::AppUpdate)
                .with("subject", row.id.as_str())
                .with("name", row.name.as_str());
            audit::record(conn, &inner, event)?;
            Ok(row.into())
        })
        .await
}

/// Gives an application of one's own another secret: the old one and the refresh tokens end at
/// once.
///
/// # Errors
/// [`Error::NotFound`], also for another's; [`Error::Conflict`] for a public one.
pub async fn rotate_secret(ctx: &Ctx, id: &str) -> Result<(Application, String)> {
    let user = ctx.caller()?.user_id.clone();
    if is_hopeless(id) {
        return Err(unknown(id));
    }
    let (inner, id) = (ctx.clone(), id.to_owned());
    let (secret, prefix, hash) = new_secret(ctx);
    ctx.db()
        .write(move |conn| {
            // First the application: whoever gives out tokens holds it, and comes before or after.
            let mut row =
                db::oauth_apps::get_to_change(conn, &user, &id)?.ok_or_else(|| unknown(&id))?;
            sessions::require_proved(conn, &inner)?;
            if row.public {
                return Err(Error::Conflict("A public application has no secret".into()));
            }
            let now = inner.now();
            db::oauth_apps::set_secret(conn, &row.id, &hash, &prefix, now)?;
            let ended = db::oauth_tokens::revoke_refresh_of_app(conn, &row.id, now)?;
            row.secret_prefix = Some(prefix);
            let event = Event::success(Action::AppSecret)
                .with("subject", row.id.as_str())
                .with("name", row.name.as_str())
                .with("refresh_tokens_revoked", ended);
            audit::record(conn, &inner, event)?;
            Ok((row.into(), secret))
        })
        .await
}

/// Deletes an application of one's own with all that it was given.
///
/// # Errors
/// [`Error::NotFound`], also for another's.
pub async fn delete(ctx: &Ctx, id: &str) -> Result<()> {
    let user = ctx.caller()?.user_id.clone();
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .write(move |conn| {
            if is_hopeless(&id) || !db::oauth_apps::delete(conn, &user, &id)? {
                return Err(unknown(&id));
            }
            access::ring(&inner, Changed::Everyone);
            let event = Event::success(Action::AppDelete).with("subject", id);
            audit::record(conn, &inner, event)
        })
        .await
}
