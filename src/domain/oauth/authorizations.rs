//! What users have allowed applications: remembered so that the same is not asked twice, listed,
//! and taken back.
//!
//! To show more of an authorization, add it to [`Authorization`].

use super::{from_text, to_text};
use crate::auth::actor::Scope;
use crate::db::oauth_apps::{AppRow, AuthorizationRow};
use crate::db::{self, Conn};
use crate::domain::access;
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::ids::{AppId, AuthorizationId, UserId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Time;
use crate::error::{Error, Result};

/// An application that may act for a user.
#[derive(Debug, Clone)]
pub struct Authorization {
    pub id: AuthorizationId,
    pub app_id: AppId,
    pub client_id: String,
    pub name: String,
    pub description: String,
    pub owner_name: String,
    pub scopes: Vec<Scope>,
    pub created_at: Time,
    /// To about a minute.
    pub last_used_at: Option<Time>,
}

/// Whether a user has allowed all of that already.
pub(super) fn covers(
    conn: &mut Conn,
    user: &UserId,
    app: &AppId,
    scopes: &[Scope],
) -> Result<bool> {
    let held = db::oauth_apps::authorization(conn, user, app)?
        .map(|row| from_text(&row.scopes))
        .unwrap_or_default();
    Ok(!held.is_empty() && scopes.iter().all(|scope| held.contains(scope)))
}

/// Remembers what a user has allowed, with what was allowed before. The caller holds the
/// application, so that nobody takes it back meanwhile.
///
/// # Errors
/// [`Error::Conflict`] when the same user allows the same application something at the same time.
pub(super) fn remember(
    conn: &mut Conn,
    ctx: &Ctx,
    user: &UserId,
    app: &AppRow,
    scopes: &[Scope],
) -> Result<()> {
    let now = ctx.now();
    let busy = || Error::Conflict("This application is being authorized already".into());
    if let Some(row) = db::oauth_apps::authorization_to_change(conn, user, &app.id)? {
        let mut all = from_text(&row.scopes);
        all.extend(
            scopes
                .iter()
                .filter(|s| !row.scopes.split(' ').any(|w| w == s.as_str())),
        );
        // A code without an authorization would be a grant that no list shows.
        return if db::oauth_apps::set_authorized_scopes(conn, &row.id, &to_text(&all), now)? {
            Ok(())
        } else {
            Err(busy())
        };
    }
    let row = AuthorizationRow {
        id: AuthorizationId::new(now.utc()),
        user_id: user.clone(),
        app_id: app.id.clone(),
        scopes: to_text(scopes),
        created_at: now,
        updated_at: now,
        last_used_at: None,
    };
    match db::oauth_apps::insert_authorization(conn, &row) {
        Ok(()) => Ok(()),
        Err(e) if e.is_unique_violation() => Err(busy()),
        Err(e) => Err(e.into()),
    }
}

/// What the caller has allowed, newest first.
///
/// # Errors
/// [`Error::Unauthorized`].
pub async fn list(ctx: &Ctx, request: PageRequest) -> Result<Page<Authorization>> {
    let user = ctx.caller()?.user_id.clone();
    let inner = ctx.clone();
    ctx.db()
        .read(move |conn| {
            let noted = |app: &AppId| inner.app().touched.authorization_at(&user, app);
            let rows =
                db::oauth_apps::authorizations(conn, &user, request.before(), request.fetch())?;
            let page = Page::cut(rows, &request, |(row, ..)| row.id.to_string());
            Ok(page.map(|(row, app, owner_name)| Authorization {
                last_used_at: row.last_used_at.max(noted(&app.id)),
                id: row.id,
                app_id: app.id,
                client_id: app.client_id,
                name: app.name,
                description: app.description,
                owner_name,
                scopes: from_text(&row.scopes),
                created_at: row.created_at,
            }))
        })
        .await
}

/// Takes back what the caller has allowed an application: its codes and tokens end at once.
///
/// # Errors
/// [`Error::NotFound`] when nothing was allowed.
pub async fn revoke(ctx: &Ctx, app: &str) -> Result<()> {
    let user = ctx.caller()?.user_id.clone();
    let (inner, app) = (ctx.clone(), app.to_owned());
    ctx.db()
        .write(move |conn| {
            let unknown = || Error::NotFound(format!("Authorization {app} was not found"));
            if app.contains('\0') {
                return Err(unknown());
            }
            // First the application: whoever decides, or gives out tokens, holds it, and comes
            // before, so that what was given is seen here, or after, and finds nothing.
            db::oauth_apps::hold_alone(conn, &app)?;
            db::oauth_tokens::delete_codes(conn, &app, Some(&user))?;
            let ended = db::oauth_tokens::revoke_of_user(conn, &app, &user, inner.now())?;
            if !db::oauth_apps::delete_authorization(conn, &user, &app)? {
                return Err(unknown());
            }
            access::ring_user(&inner, &user);
            let event = Event::success(Action::OauthRevoke)
                .with("subject", app)
                .with("families_revoked", ended);
            audit::record(conn, &inner, event)
        })
        .await
}
