//! Tokens: given for a code or for a refresh token, and recognised.
//!
//! A refusal that changes something (the second use of a code or of a refresh token revokes what
//! the first gave) is the answer of a transaction that commits, so [`Refused`] travels inside its
//! result, not as its error.
//!
//! To add a grant, add it to [`Grant::of`] and give its tokens with [`give`].

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use sha2::{Digest, Sha256};

use super::refused::Refused;
use super::{ACCESS_SECONDS, REFRESH_DAYS, apps, authorize, denied, from_text, requested, to_text};
use crate::app::App;
use crate::auth::actor::{AuthMethod, Caller, Credential, Scope};
use crate::auth::secrets;
use crate::db::oauth_apps::AppRow;
use crate::db::oauth_tokens::{AccessTokenRow, FamilyRow, RefreshTokenRow};
use crate::db::users::UserRow;
use crate::db::{self, Conn};
use crate::domain::access;
use crate::domain::audit::{self, Action, Event, Outcome};
use crate::domain::ctx::Ctx;
use crate::domain::ids::{AccessTokenId, FamilyId, RefreshTokenId};
use crate::domain::time::Time;
use crate::domain::users::{Role, Status};
use crate::error::{Error, Result};

/// How an application says which one it is.
#[derive(Clone)]
pub struct Client {
    pub id: String,
    /// None for public ones.
    pub secret: Option<String>,
}

/// What an application sends for tokens, as it was sent; an empty text is as none.
#[derive(Default)]
pub struct TokenRequest {
    pub grant_type: Option<String>,
    pub code: Option<String>,
    pub redirect_uri: Option<String>,
    pub code_verifier: Option<String>,
    pub refresh_token: Option<String>,
    pub scope: Option<String>,
}

/// What an application gets.
pub struct Issued {
    pub access_token: String,
    pub refresh_token: String,
    /// Space-separated.
    pub scope: String,
}

enum Grant {
    Code {
        code: String,
        redirect_uri: String,
        verifier: Option<String>,
    },
    Refresh {
        token: String,
        scope: Option<String>,
    },
}

impl Grant {
    fn of(request: TokenRequest) -> std::result::Result<Self, Refused> {
        let given = |value: Option<String>| value.filter(|text| !text.is_empty());
        let required = |name: &'static str, value: Option<String>| {
            given(value).ok_or_else(|| Refused::Request {
                field: name,
                message: format!("{name} is required"),
            })
        };
        match request.grant_type.as_deref() {
            Some("authorization_code") => Ok(Self::Code {
                code: required("code", request.code)?,
                redirect_uri: required("redirect_uri", request.redirect_uri)?,
                verifier: given(request.code_verifier),
            }),
            Some("refresh_token") => Ok(Self::Refresh {
                token: required("refresh_token", request.refresh_token)?,
                scope: given(request.scope),
            }),
            None | Some("") => Err(Refused::Request {
                field: "grant_type",
                message: "grant_type is required".into(),
            }),
            Some(_) => Err(Refused::GrantType),
        }
    }
}

/// Gives tokens for a code or for a refresh token.
///
/// # Errors
/// Why not, in the terms of RFC 6749.
pub async fn exchange(
    ctx: &Ctx,
    client: Option<Client>,
    request: TokenRequest,
) -> std::result::Result<Issued, Refused> {
    let who = client.as_ref().map(|client| client.id.clone());
    let outcome = issue(ctx, client, request).await;
    denied::settle(ctx, Action::OauthToken, who, outcome).await
}

async fn issue(
    ctx: &Ctx,
    client: Option<Client>,
    request: TokenRequest,
) -> std::result::Result<Issued, Refused> {
    let grant = Grant::of(request)?;
    let client = known(ctx, client).await?;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            let app = match identify(conn, &client)? {
                Ok(app) => app,
                Err(refused) => return Ok(Err(refused)),
            };
            match grant {
                Grant::Code {
                    code,
                    redirect_uri,
                    verifier,
                } => redeem(
                    conn,
                    &inner,
                    &app,
                    &code,
                    &redirect_uri,
                    verifier.as_deref(),
                ),
                Grant::Refresh { token, scope } => {
                    rotate(conn, &inner, &app, &token, scope.as_deref())
                }
            }
        })
        .await?
}

/// What a step of a transaction answers: an error undoes it, a refusal does not.
type Step<T> = Result<std::result::Result<T, Refused>>;

/// Which application it is, held until the transaction ends: its secret cannot change meanwhile.
pub(super) fn identify(conn: &mut Conn, client: &Client) -> Step<AppRow> {
    let found = match apps::by_client(conn, &client.id) {
        Ok((app, _)) => db::oauth_apps::hold(conn, &app.id)?,
        Err(Error::NotFound(_)) => None,
        Err(error) => return Err(error),
    };
    let Some(app) = found else {
        return Ok(Err(Refused::Client));
    };
    let right = match (&app.secret_hash, &client.secret) {
        (Some(hash), Some(secret)) => secrets::same(&secrets::hash(secret), hash),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    Ok(if right { Ok(app) } else { Err(Refused::Client) })
}

/// Whoever is not known, or has not the secret, is refused before anything waits for the right to
/// write: strangers must not hold up those who have it.
pub(super) async fn known(
    ctx: &Ctx,
    client: Option<Client>,
) -> std::result::Result<Client, Refused> {
    let client = client.ok_or(Refused::NoClient)?;
    let tried = client.clone();
    let found = ctx.db().read(move |conn| identify(conn, &tried)).await?;
    found.map(|_| client)
}

fn redeem(
    conn: &mut Conn,
    ctx: &Ctx,
    app: &AppRow,
    code: &str,
    redirect_uri: &str,
    verifier: Option<&str>,
) -> Step<Issued> {
    let looks_right =
        code.len() == authorize::CODE_LEN && code.bytes().all(|b| b.is_ascii_alphanumeric());
    let hash = secrets::hash(code);
    let row = if looks_right {
        db::oauth_tokens::code(conn, &hash)?
    } else {
        None
    };
    let Some(row) = row.filter(|row| row.app_id == app.id) else {
        return Ok(Err(Refused::Code("code is not valid")));
    };
    let now = ctx.now();
    if row.used_at.is_none() {
        if row.expires_at <= now {
            return Ok(Err(Refused::Code("code has expired")));
        }
        if row.redirect_uri != redirect_uri {
            return Ok(Err(Refused::Code(
                "redirect_uri is not the one that the code was given for",
            )));
        }
        if !is_verified(row.code_challenge.as_deref(), verifier) {
            return Ok(Err(Refused::Code("code_verifier is not right")));
        }
        let user = db::users::get(conn, &row.user_id)?;
        if user.is_none_or(|user| user.status != Status::Active) {
            return Ok(Err(Refused::Code("code is not valid")));
        }
    }
    if !db::oauth_tokens::use_code(conn, &hash, now)? {
        // Read again: whoever was quicker may just have finished.
        let family = db::oauth_tokens::code(conn, &hash)?.and_then(|row| row.family_id);
        if let Some(family) = family {
            revoke_after_replay(conn, ctx, app, &row.user_id, &family, "code")?;
        }
        return Ok(Err(Refused::Code("code was used already")));
    }
    let family = FamilyRow {
        id: FamilyId::new(now.utc()),
        app_id: app.id.clone(),
        user_id: row.user_id,
        scopes: row.scopes,
        created_at: now,
        expires_at: now.plus(TimeDelta::days(REFRESH_DAYS)),
        revoked_at: None,
        refresh_revoked_at: None,
    };
    db::oauth_tokens::insert_family(conn, &family)?;
    db::oauth_tokens::set_code_family(conn, &hash, &family.id)?;
    let scopes = from_text(&family.scopes);
    give(conn, ctx, app, &family, &scopes, "authorization_code").map(Ok)
}

/// PKCE by S256 only. A verifier for a code that was asked for without a challenge is somebody
/// else's code (RFC 9700, 4.8.2).
fn is_verified(challenge: Option<&str>, verifier: Option<&str>) -> bool {
    match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) => {
            let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            (43..=128).contains(&verifier.len())
                && verifier.bytes().all(unreserved)
                && secrets::same(
                    &URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())),
                    challenge,
                )
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn rotate(
    conn: &mut Conn,
    ctx: &Ctx,
    app: &AppRow,
    token: &str,
    scope: Option<&str>,
) -> Step<Issued> {
    let found = if secrets::is_well_formed(secrets::REFRESH_TOKEN, token) {
        db::oauth_tokens::refresh(conn, &secrets::hash(token))?
    } else {
        None
    };
    let Some((row, family, user)) = found.filter(|(_, family, _)| family.app_id == app.id) else {
        return Ok(Err(Refused::Refresh));
    };
    let now = ctx.now();
    let held = from_text(&family.scopes);
    let scopes = match scope.map(|text| requested(Some(text))) {
        None => held,
        Some(Ok(fewer)) if fewer.iter().all(|scope| held.contains(scope)) => fewer,
        Some(Ok(_) | Err(_)) => return Ok(Err(Refused::Scope)),
    };
    if row.used_at.is_none() && (row.expires_at <= now || user.status != Status::Active) {
        return Ok(Err(Refused::Refresh));
    }
    if !db::oauth_tokens::use_refresh(conn, &row.id, now)? {
        revoke_after_replay(conn, ctx, app, &user.id, &family.id, "refresh_token")?;
        return Ok(Err(Refused::Refresh));
    }
    let until = now.plus(TimeDelta::days(REFRESH_DAYS));
    if !db::oauth_tokens::prolong_family(conn, &family.id, until)? {
        return Ok(Err(Refused::Refresh));
    }
    give(conn, ctx, app, &family, &scopes, "refresh_token").map(Ok)
}

/// A secret that was used twice is in two hands, and nobody knows whose the right ones are.
fn revoke_after_replay(
    conn: &mut Conn,
    ctx: &Ctx,
    app: &AppRow,
    user: &crate::domain::ids::UserId,
    family: &FamilyId,
    what: &str,
) -> Result<()> {
    if !db::oauth_tokens::revoke_family(conn, family, ctx.now())? {
        return Ok(());
    }
    access::ring_user(ctx, user);
    let event = Event::new(Action::OauthReplay, Outcome::Denied)
        .by(user)
        .with("subject", app.id.as_str())
        .with("name", app.name.as_str())
        .with("family_id", family.as_str())
        .with("reused", what);
    // The refusal that follows is told by this entry.
    ctx.mark_noted();
    audit::record(conn, ctx, event)
}

/// Makes the pair of tokens, in the caller's transaction.
fn give(
    conn: &mut Conn,
    ctx: &Ctx,
    app: &AppRow,
    family: &FamilyRow,
    scopes: &[Scope],
    grant: &str,
) -> Result<Issued> {
    let entropy = &*ctx.app().entropy;
    let now = ctx.now();
    let access_token = secrets::generate(secrets::ACCESS_TOKEN, entropy);
    let refresh_token = secrets::generate(secrets::REFRESH_TOKEN, entropy);
    let access = AccessTokenRow {
        id: AccessTokenId::new(now.utc()),
        hash: secrets::hash(&access_token),
        family_id: family.id.clone(),
        scopes: to_text(scopes),
        created_at: now,
        expires_at: now.plus(TimeDelta::seconds(ACCESS_SECONDS)),
        revoked_at: None,
    };
    db::oauth_tokens::insert_access(conn, &access)?;
    let refresh = RefreshTokenRow {
        id: RefreshTokenId::new(now.utc()),
        hash: secrets::hash(&refresh_token),
        family_id: family.id.clone(),
        created_at: now,
        expires_at: now.plus(TimeDelta::days(REFRESH_DAYS)),
        used_at: None,
    };
    db::oauth_tokens::insert_refresh(conn, &refresh)?;
    let event = Event::success(Action::OauthToken)
        .by(&family.user_id)
        .with("subject", app.id.as_str())
        .with("name", app.name.as_str())
        .with("family_id", family.id.as_str())
        .with("access_token_id", access.id.as_str())
        .with("grant", grant)
        .with("scopes", access.scopes.as_str());
    audit::record(conn, ctx, event)?;
    Ok(Issued {
        access_token,
        refresh_token,
        scope: access.scopes,
    })
}

pub(super) fn access_is_alive(
    row: &AccessTokenRow,
    family: &FamilyRow,
    user: &UserRow,
    now: Time,
) -> bool {
    row.revoked_at.is_none()
        && row.expires_at > now
        && family.revoked_at.is_none()
        && user.status == Status::Active
}

/// Who has that access token; none when it is not one, or is revoked, expired, or its user
/// disabled. Whoever the user is, an application acts as `user`.
///
/// # Errors
/// When the database fails.
pub async fn authenticate(app: &App, secret: &str) -> Result<Option<Caller>> {
    if !secrets::is_well_formed(secrets::ACCESS_TOKEN, secret) {
        return Ok(None);
    }
    let hash = secrets::hash(secret);
    let now = Time::from(app.clock.now());
    let found = app
        .db
        .read(move |conn| Ok(db::oauth_tokens::access(conn, &hash)?))
        .await?;
    let Some((token, family, user)) =
        found.filter(|(token, family, user)| access_is_alive(token, family, user, now))
    else {
        return Ok(None);
    };
    app.touched.authorization(&user.id, &family.app_id, now);
    Ok(Some(caller_of(token, family, user)))
}

fn caller_of(token: AccessTokenRow, family: FamilyRow, user: UserRow) -> Caller {
    Caller {
        user_id: user.id,
        email: user.email,
        display_name: user.display_name,
        role: Role::User,
        auth_method: AuthMethod::OauthToken,
        scopes: Some(from_text(&token.scopes)),
        credential: Credential::OauthToken {
            id: token.id,
            app_id: family.app_id,
        },
    }
}

/// Who has the access token of that id; none when it is revoked or expired, or its user may not
/// come in.
pub(crate) fn find(conn: &mut Conn, id: &AccessTokenId, now: Time) -> Result<Option<Caller>> {
    let found = db::oauth_tokens::get_access(conn, id)?
        .filter(|(token, family, user)| access_is_alive(token, family, user, now));
    Ok(found.map(|(token, family, user)| caller_of(token, family, user)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn only_the_right_verifier_opens_a_challenge() {
        assert!(is_verified(Some(CHALLENGE), Some(VERIFIER)));
        assert!(is_verified(None, None));
        assert!(!is_verified(Some(CHALLENGE), None));
        assert!(!is_verified(None, Some(VERIFIER)));
        assert!(!is_verified(Some(VERIFIER), Some(VERIFIER)));
        assert!(!is_verified(Some(CHALLENGE), Some(CHALLENGE)));
        assert!(!is_verified(Some(CHALLENGE), Some(&VERIFIER[..42])));
    }
}
