//! One-time codes as a second factor beside the password, and codes for recovery when the
//! authenticator is lost.
//!
//! To add another second factor, check it in [`use_code`]; sign-in asks nothing else.

use totp_rs::{Algorithm, Builder, Totp};

use crate::app::App;
use crate::auth::secrets;
use crate::db::second_factors::FactorRow;
use crate::db::{self, Conn};
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::ids::UserId;
use crate::domain::sessions;
use crate::error::{Error, Result};

/// Codes for recovery that are made at once.
const RECOVERY_CODES: usize = 10;
/// Characters of one, without its dashes: some 59 bits.
const RECOVERY_LEN: usize = 12;
/// 160 bits, as RFC 4226 recommends.
const SEED_LEN: usize = 20;
/// Seconds that a code is good for; that before and that after are taken too.
const STEP: u64 = 30;

/// How one's second factor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    pub enabled: bool,
    /// Codes for recovery that were not used.
    pub recovery_codes_left: i64,
    /// Whether the account has a password, beside which alone a code is asked for.
    pub available: bool,
}

/// What an authenticator needs; shown while the factor is set up and never after.
#[derive(Clone)]
pub struct Setup {
    /// Base32, for typing.
    pub secret: String,
    /// `otpauth://…`, for the QR code.
    pub url: String,
}

fn purpose(user: &UserId) -> String {
    format!("totp {user}")
}

fn totp(app: &App, email: &str, seed: &[u8]) -> Result<Totp> {
    let issuer = match app.config.public_url.host_str() {
        Some("localhost" | "127.0.0.1") | None => "hzel".to_owned(),
        Some(host) => format!("hzel {host}"),
    };
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(6)
        .with_skew(1)
        .with_step_duration(STEP)
        .with_secret(seed)
        .with_account_name(email)
        .with_issuer(Some(issuer))
        .build()
        .map_err(Error::internal)
}

fn opened(app: &App, email: &str, row: &FactorRow) -> Result<Totp> {
    let seed = app
        .trust
        .sealer
        .open(&purpose(&row.user_id), &row.seed)
        .ok_or_else(|| Error::internal("a seed was sealed with another key"))?;
    totp(app, email, &seed)
}

fn setup_of(totp: &Totp) -> Result<Setup> {
    Ok(Setup {
        secret: totp.secret().to_base32(),
        url: totp.to_url().map_err(Error::internal)?,
    })
}

/// Six digits, without the space that authenticators show in the middle.
fn digits(code: &str) -> String {
    code.chars().filter(|c| !c.is_whitespace()).collect()
}

/// The step of a right code of now.
fn step_of(totp: &Totp, ctx: &Ctx, code: &str) -> Option<i64> {
    let now = u64::try_from(ctx.now().utc().timestamp()).ok()?;
    let code = digits(code);
    let plain = code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit());
    plain
        .then(|| totp.check(&code, now))
        .flatten()
        .and_then(|step| i64::try_from(step).ok())
}

fn recovery_hash(user: &UserId, code: &str) -> String {
    let code: String = code
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_uppercase();
    // With the user's id, so that equal codes of two users would not show.
    secrets::hash(&format!("recovery\n{user}\n{code}"))
}

fn new_recovery(conn: &mut Conn, ctx: &Ctx, user: &UserId) -> Result<Vec<String>> {
    let codes: Vec<String> = (0..RECOVERY_CODES)
        .map(|_| secrets::readable(RECOVERY_LEN, &*ctx.app().entropy))
        .collect();
    let hashes: Vec<String> = codes.iter().map(|code| recovery_hash(user, code)).collect();
    db::second_factors::replace_recovery(conn, user, &hashes)?;
    Ok(codes)
}

/// Whether signing in with the password wants a code too.
///
/// # Errors
/// When the database fails.
pub(crate) fn is_on(conn: &mut Conn, user: &UserId) -> Result<bool> {
    Ok(db::second_factors::get(conn, user)?.is_some_and(|row| row.confirmed_at.is_some()))
}

/// Uses a one-time code or a code for recovery up, in the caller's transaction. The latter writes an
/// audit entry: the caller has locked by now what it changes.
///
/// # Errors
/// [`Error::WrongCode`].
pub(crate) fn use_code(
    conn: &mut Conn,
    ctx: &Ctx,
    user: &UserId,
    email: &str,
    code: &str,
) -> Result<()> {
    let row = db::second_factors::get(conn, user)?.ok_or(Error::WrongCode)?;
    let totp = opened(ctx.app(), email, &row)?;
    if let Some(step) = step_of(&totp, ctx, code) {
        return if db::second_factors::advance(conn, user, step)? {
            Ok(())
        } else {
            Err(Error::WrongCode)
        };
    }
    let hash = recovery_hash(user, code);
    if !db::second_factors::use_recovery(conn, user, &hash, ctx.now())? {
        return Err(Error::WrongCode);
    }
    let left = db::second_factors::count_recovery(conn, user)?;
    let event = Event::success(Action::TotpRecovery)
        .by(user)
        .with("left", left);
    audit::record(conn, ctx, event)
}

/// How one's own is.
///
/// # Errors
/// [`Error::Unauthorized`].
pub async fn get(ctx: &Ctx) -> Result<Factor> {
    let user = ctx.caller()?.user_id.clone();
    ctx.db()
        .read(move |conn| {
            let row = db::users::get(conn, &user)?.ok_or(Error::Unauthorized)?;
            Ok(Factor {
                enabled: is_on(conn, &user)?,
                recovery_codes_left: db::second_factors::count_recovery(conn, &user)?,
                available: row.password_hash.is_some(),
            })
        })
        .await
}

/// Makes a seed; it counts once [`confirm`] was given a code of it.
///
/// # Errors
/// [`Error::Conflict`] when there is one already, and for an account without a password.
pub async fn start(ctx: &Ctx) -> Result<Setup> {
    let caller = ctx.caller()?.clone();
    let mut seed = [0_u8; SEED_LEN];
    let entropy = &*ctx.app().entropy;
    entropy.fill(&mut seed);
    let sealed = ctx
        .app()
        .trust
        .sealer
        .seal(&purpose(&caller.user_id), &seed, entropy)?;
    let setup = setup_of(&totp(ctx.app(), &caller.email, &seed)?)?;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            sessions::require_proved(conn, &inner)?;
            let on = || Error::Conflict("One-time codes are turned on already".into());
            db::users::hold(conn, &caller.user_id)?;
            let user = db::users::get(conn, &caller.user_id)?.ok_or(Error::Unauthorized)?;
            if user.password_hash.is_none() {
                return Err(Error::Conflict(
                    "This account has no password; its provider asks for a second factor".into(),
                ));
            }
            if is_on(conn, &caller.user_id)? {
                return Err(on());
            }
            db::second_factors::delete_unconfirmed(conn, &caller.user_id)?;
            let row = FactorRow {
                user_id: caller.user_id,
                seed: sealed,
                confirmed_at: None,
                last_step: 0,
                created_at: inner.now(),
            };
            match db::second_factors::insert(conn, &row) {
                Ok(()) => {}
                Err(e) if e.is_unique_violation() => return Err(on()),
                Err(e) => return Err(e.into()),
            }
            audit::record(conn, &inner, Event::success(Action::TotpStart))
        })
        .await?;
    Ok(setup)
}

/// What [`start`] made and nobody confirmed yet, for showing its form again.
///
/// # Errors
/// [`Error::Conflict`] when nothing was begun.
pub async fn pending(ctx: &Ctx) -> Result<Setup> {
    let caller = ctx.caller()?.clone();
    let user = caller.user_id.clone();
    let row = ctx
        .db()
        .read(move |conn| Ok(db::second_factors::get(conn, &user)?))
        .await?
        .filter(|row| row.confirmed_at.is_none())
        .ok_or_else(not_begun)?;
    setup_of(&opened(ctx.app(), &caller.email, &row)?)
}

fn not_begun() -> Error {
    Error::Conflict("Begin to set up one-time codes first".into())
}

/// Turns it on, given a code that shows that the authenticator has the seed; answers the codes for
/// recovery, which are shown this once.
///
/// # Errors
/// A validation error for a wrong code; [`Error::Conflict`] when nothing was begun;
/// [`Error::RateLimited`].
pub async fn confirm(ctx: &Ctx, code: &str) -> Result<Vec<String>> {
    let caller = ctx.caller()?.clone();
    let key = format!("code:{}", caller.user_id);
    ctx.app().limiter.attempt(&key, ctx.now())?;
    let (inner, code) = (ctx.clone(), code.to_owned());
    let codes = ctx
        .db()
        .write(move |conn| {
            let user = caller.user_id;
            db::users::hold(conn, &user)?;
            let row = db::second_factors::get(conn, &user)?
                .filter(|row| row.confirmed_at.is_none())
                .ok_or_else(not_begun)?;
            let totp = opened(inner.app(), &caller.email, &row)?;
            let step = step_of(&totp, &inner, &code)
                .ok_or_else(|| Error::field("code", "code must be the one that is shown now"))?;
            if !db::second_factors::advance(conn, &user, step)?
                || !db::second_factors::confirm(conn, &user, inner.now())?
            {
                return Err(not_begun());
            }
            let codes = new_recovery(conn, &inner, &user)?;
            audit::record(conn, &inner, Event::success(Action::TotpEnable))?;
            Ok(codes)
        })
        .await?;
    ctx.app().limiter.succeeded(&key);
    Ok(codes)
}

/// Makes new codes for recovery; the old ones are void.
///
/// # Errors
/// A validation error for a wrong password, [`Error::Conflict`] while it is off,
/// [`Error::RateLimited`].
pub async fn renew_recovery(ctx: &Ctx, password: &str) -> Result<Vec<String>> {
    let proof = sessions::prove(ctx, "password", password).await?;
    let user = ctx.caller()?.user_id.clone();
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            proof.require(conn, &user)?;
            if !is_on(conn, &user)? {
                return Err(off());
            }
            let codes = new_recovery(conn, &inner, &user)?;
            let event = Event::success(Action::TotpRecovery).with("renewed", true);
            audit::record(conn, &inner, event)?;
            Ok(codes)
        })
        .await
}

fn off() -> Error {
    Error::Conflict("One-time codes are turned off".into())
}

/// Turns it off.
///
/// # Errors
/// A validation error for a wrong password, [`Error::Conflict`] while it is off,
/// [`Error::RateLimited`].
pub async fn disable(ctx: &Ctx, password: &str) -> Result<()> {
    let proof = sessions::prove(ctx, "password", password).await?;
    let user = ctx.caller()?.user_id.clone();
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            proof.require(conn, &user)?;
            if !is_on(conn, &user)? {
                return Err(off());
            }
            db::second_factors::delete(conn, &user)?;
            audit::record(conn, &inner, Event::success(Action::TotpDisable))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_code_is_read_as_people_type_it() {
        let user: UserId = "0190b5a0-0000-7000-8000-000000000001".parse().unwrap();
        let hash = recovery_hash(&user, "ACDE-FGHJ-KMNP");
        assert_eq!(hash, recovery_hash(&user, " acde fghj kmnp "));
        assert_ne!(hash, recovery_hash(&user, "ACDE-FGHJ-KMNQ"));
    }

    #[test]
    fn a_seed_gives_the_codes_of_its_rfc() {
        // RFC 6238, appendix B, the last six of eight digits.
        let totp = Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(6)
            .with_skew(1)
            .with_step_duration(STEP)
            .with_secret(*b"12345678901234567890")
            .with_account_name("a@x.org")
            .build()
            .unwrap();
        assert_eq!(totp.check("287082", 59), Some(1));
        assert_eq!(totp.check("081804", 1_111_111_109), Some(37_037_036));
        assert_eq!(totp.check("081804", 1_111_111_109 + 90), None);
    }
}
