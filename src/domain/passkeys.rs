//! Passkeys: signing in with a device instead of a password. The device asks its user (a finger, a
//! PIN), so a passkey stands for both factors.
//!
//! To keep something more of a passkey, add a column and fill it in [`finish`].

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use webauthn_rs::prelude::{
    DiscoverableAuthentication, Passkey as Credential, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Uuid, Webauthn, WebauthnBuilder,
};

use crate::app::App;
use crate::auth::actor::AuthMethod;
use crate::auth::secrets;
use crate::config::Config;
use crate::db;
use crate::db::passkeys::{CeremonyRow, PasskeyRow};
use crate::domain::audit::{self, Action, Event, Outcome};
use crate::domain::ctx::Ctx;
use crate::domain::ids::{PasskeyId, UserId};
use crate::domain::sessions::{self, SignedIn};
use crate::domain::time::Time;
use crate::domain::users::Status;
use crate::error::{Error, Result};

/// Minutes that a device and its user may take.
const MINUTES: i64 = 5;
/// Passkeys that one account may have.
const MOST: usize = 20;

/// A passkey, as its user sees it.
#[derive(Debug, Clone)]
pub struct Passkey {
    pub id: PasskeyId,
    pub name: String,
    pub created_at: Time,
    pub last_used_at: Option<Time>,
}

impl From<PasskeyRow> for Passkey {
    fn from(row: PasskeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
        }
    }
}

/// What a browser needs to ask its device.
pub struct Asked {
    /// Comes back with the device's answer.
    pub ticket: String,
    /// As `navigator.credentials` takes it, with base64url for bytes.
    pub options: Value,
}

/// What checks devices' answers; none where browsers offer no passkeys: at addresses without a name,
/// and without https elsewhere than on this machine.
///
/// # Errors
/// A sentence, when the public address cannot be used.
pub fn relying_party(config: &Config) -> Result<Option<Webauthn>, String> {
    let url = &config.public_url;
    let Some(host) = url.domain() else {
        return Ok(None);
    };
    if !config.is_https() && host != "localhost" {
        return Ok(None);
    }
    WebauthnBuilder::new(host, url)
        .and_then(|builder| builder.rp_name("hzel").build())
        .map(Some)
        .map_err(|e| format!("HZEL_PUBLIC_URL cannot be used for passkeys: {e}"))
}

fn webauthn(app: &App) -> Result<&Webauthn> {
    app.trust.passkeys.as_ref().ok_or(Error::NotImplemented(
        "Passkeys need https and an address with a name",
    ))
}

/// Whether browsers can offer passkeys here.
#[must_use]
pub fn is_available(app: &App) -> bool {
    app.trust.passkeys.is_some()
}

async fn keep(ctx: &Ctx, user: Option<UserId>, state: String) -> Result<String> {
    let ticket = secrets::random_base62(43, &*ctx.app().entropy);
    let now = ctx.now();
    let row = CeremonyRow {
        ticket_hash: secrets::hash(&ticket),
        user_id: user,
        state,
        expires_at: now.plus(TimeDelta::minutes(MINUTES)),
    };
    ctx.db()
        .write(move |conn| Ok(db::passkeys::insert_ceremony(conn, &row, now)?))
        .await?;
    Ok(ticket)
}

/// The state that [`keep`] kept, used up by this, whatever comes of it.
async fn take<T: DeserializeOwned>(
    ctx: &Ctx,
    user: Option<UserId>,
    ticket: &str,
) -> Result<Option<T>> {
    let (hash, now) = (secrets::hash(ticket), ctx.now());
    let row = ctx
        .db()
        .write(move |conn| {
            Ok(db::passkeys::take_ceremony(
                conn,
                &hash,
                user.as_ref(),
                now,
            )?)
        })
        .await?;
    row.map(|row| serde_json::from_str(&row.state).map_err(Error::internal))
        .transpose()
}

fn credential_of(row: &PasskeyRow) -> Result<Credential> {
    serde_json::from_str(&row.credential).map_err(Error::internal)
}

/// Begins to make a passkey for one's own account.
///
/// # Errors
/// [`Error::NotImplemented`], [`Error::Unproved`], [`Error::Conflict`] past the most there may be.
pub async fn start(ctx: &Ctx) -> Result<Asked> {
    let webauthn = webauthn(ctx.app())?;
    let caller = ctx.caller()?;
    let (inner, user) = (ctx.clone(), caller.user_id.clone());
    let rows = ctx
        .db()
        .read(move |conn| {
            sessions::require_proved(conn, &inner)?;
            Ok(db::passkeys::list(conn, &user)?)
        })
        .await?;
    if rows.len() >= MOST {
        return Err(too_many());
    }
    let held = rows
        .iter()
        .map(|row| credential_of(row).map(|credential| credential.cred_id().clone()))
        .collect::<Result<Vec<_>>>()?;
    let id = Uuid::parse_str(caller.user_id.as_str()).map_err(Error::internal)?;
    let (challenge, state) = webauthn
        .start_passkey_registration(id, &caller.email, &caller.display_name, Some(held))
        .map_err(Error::internal)?;
    let state = serde_json::to_string(&state).map_err(Error::internal)?;
    let mut options = serde_json::to_value(&challenge).map_err(Error::internal)?;
    // Signing in asks for no address, so the device must know whose passkey it is.
    let selection = &mut options["publicKey"]["authenticatorSelection"];
    selection["residentKey"] = json!("required");
    selection["requireResidentKey"] = json!(true);
    let ticket = keep(ctx, Some(caller.user_id.clone()), state).await?;
    Ok(Asked { ticket, options })
}

fn too_many() -> Error {
    Error::Conflict(format!(
        "An account may have {MOST} passkeys; remove one first"
    ))
}

fn name_of(text: &str) -> Result<String> {
    let text = text.trim();
    let chars = text.chars().count();
    if chars == 0 || chars > 100 || text.chars().any(char::is_control) {
        return Err(Error::field(
            "name",
            "name must be one line of 1 to 100 characters",
        ));
    }
    Ok(text.to_owned())
}

/// Ends what [`start`] began, with the device's answer.
///
/// # Errors
/// Validation errors; [`Error::Conflict`] for a passkey that is known.
pub async fn finish(ctx: &Ctx, ticket: &str, name: &str, answer: Value) -> Result<Passkey> {
    let webauthn = webauthn(ctx.app())?;
    let user = ctx.caller()?.user_id.clone();
    let name = name_of(name)?;
    let state: PasskeyRegistration = take(ctx, Some(user.clone()), ticket)
        .await?
        .ok_or_else(|| Error::field("ticket", "ticket must be one that was given lately"))?;
    let wrong = |cause: &dyn std::fmt::Display| {
        tracing::info!(%cause, "a new passkey was refused");
        Error::field(
            "credential",
            "credential is not the answer that was asked for",
        )
    };
    let answer: RegisterPublicKeyCredential =
        serde_json::from_value(answer).map_err(|e| wrong(&e))?;
    let credential = webauthn
        .finish_passkey_registration(&answer, &state)
        .map_err(|e| wrong(&e))?;
    let now = ctx.now();
    let row = PasskeyRow {
        id: PasskeyId::new(now.utc()),
        user_id: user,
        credential_id: URL_SAFE_NO_PAD.encode(credential.cred_id()),
        name,
        credential: serde_json::to_string(&credential).map_err(Error::internal)?,
        created_at: now,
        last_used_at: None,
    };
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            // Several may have been begun while there was room for one.
            db::users::hold(conn, &row.user_id)?;
            if db::passkeys::list(conn, &row.user_id)?.len() >= MOST {
                return Err(too_many());
            }
            match db::passkeys::insert(conn, &row) {
                Ok(()) => {}
                Err(e) if e.is_unique_violation() => {
                    return Err(Error::Conflict("This passkey is known already".into()));
                }
                Err(e) => return Err(e.into()),
            }
            let event = Event::success(Action::PasskeyAdd)
                .with("subject", row.id.as_str())
                .with("name", row.name.as_str());
            audit::record(conn, &inner, event)?;
            Ok(row.into())
        })
        .await
}

/// One's own, newest first.
///
/// # Errors
/// [`Error::Unauthorized`].
pub async fn list(ctx: &Ctx) -> Result<Vec<Passkey>> {
    let user = ctx.caller()?.user_id.clone();
    let rows = ctx
        .db()
        .read(move |conn| Ok(db::passkeys::list(conn, &user)?))
        .await?;
    Ok(rows.into_iter().map(Passkey::from).collect())
}

/// Removes one of one's own.
///
/// # Errors
/// [`Error::NotFound`], also for another's; [`Error::Unproved`].
pub async fn remove(ctx: &Ctx, id: &str) -> Result<()> {
    let user = ctx.caller()?.user_id.clone();
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .write(move |conn| {
            sessions::require_proved(conn, &inner)?;
            if id.contains('\0') || !db::passkeys::delete(conn, &user, &id)? {
                return Err(Error::NotFound(format!("Passkey {id} was not found")));
            }
            let event = Event::success(Action::PasskeyRemove).with("subject", id);
            audit::record(conn, &inner, event)
        })
        .await
}

/// Begins a sign-in with whatever passkey the device has for this place.
///
/// # Errors
/// [`Error::NotImplemented`], [`Error::RateLimited`].
pub async fn start_login(ctx: &Ctx) -> Result<Asked> {
    let webauthn = webauthn(ctx.app())?;
    let key = format!("passkey:{}", ctx.origin().address_text());
    ctx.app().limiter.spend(&key, ctx.now())?;
    let (challenge, state) = webauthn
        .start_discoverable_authentication()
        .map_err(Error::internal)?;
    let state = serde_json::to_string(&state).map_err(Error::internal)?;
    let mut options = serde_json::to_value(&challenge).map_err(Error::internal)?;
    // A button asks for it, not the filling of a field.
    if let Some(options) = options.as_object_mut() {
        options.remove("mediation");
    }
    let ticket = keep(ctx, None, state).await?;
    Ok(Asked { ticket, options })
}

/// Signs in with the device's answer.
///
/// # Errors
/// [`Error::WrongPasskey`], also for a disabled account; [`Error::RateLimited`] after many.
pub async fn login(ctx: &Ctx, ticket: &str, answer: Value) -> Result<SignedIn> {
    let webauthn = webauthn(ctx.app())?;
    let by_address = format!("address:{}", ctx.origin().address_text());
    let limiter = &ctx.app().limiter;
    limiter.attempt_with(&by_address, sessions::FREE_BY_ADDRESS, ctx.now())?;
    let outcome = enter(ctx, webauthn, ticket, answer).await;
    if outcome.is_ok() {
        limiter.refund(&by_address);
    } else {
        let event = Event::new(Action::Login, Outcome::Denied).with("method", "passkey");
        audit::record_alone(ctx, event).await;
    }
    outcome
}

async fn enter(ctx: &Ctx, webauthn: &Webauthn, ticket: &str, answer: Value) -> Result<SignedIn> {
    let wrong = |cause: &dyn std::fmt::Display| {
        tracing::info!(%cause, "a passkey was refused");
        Error::WrongPasskey
    };
    let state: DiscoverableAuthentication = take(ctx, None, ticket)
        .await?
        .ok_or_else(|| wrong(&"no such ceremony"))?;
    let answer: PublicKeyCredential = serde_json::from_value(answer).map_err(|e| wrong(&e))?;
    let (owner, credential_id) = webauthn
        .identify_discoverable_authentication(&answer)
        .map_err(|e| wrong(&e))?;
    let credential_id = URL_SAFE_NO_PAD.encode(credential_id);
    let row = ctx
        .db()
        .read(move |conn| Ok(db::passkeys::get_by_credential(conn, &credential_id)?))
        .await?
        .filter(|row| row.user_id.as_str() == owner.to_string())
        .ok_or_else(|| wrong(&"it is not known"))?;
    let mut credential = credential_of(&row)?;
    let result = webauthn
        .finish_discoverable_authentication_v2(&answer, state, &credential)
        .map_err(|e| wrong(&e))?;
    credential.update_credential(&result);
    let text = serde_json::to_string(&credential).map_err(Error::internal)?;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            let user = db::users::get(conn, &row.user_id)?.ok_or(Error::WrongPasskey)?;
            if user.status != Status::Active {
                return Err(sessions::disabled());
            }
            if !db::passkeys::set_used(conn, &row.id, &text, inner.now())? {
                return Err(Error::WrongPasskey);
            }
            sessions::begin(conn, &inner, &user.id, AuthMethod::Session)
        })
        .await
}
