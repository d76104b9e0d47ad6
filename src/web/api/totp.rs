//! One-time codes as a second factor.
//!
//! To show more of a factor, extend [`FactorView`].

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::ctx::Ctx;
use crate::domain::second_factor;
use crate::web::extract::Json;
use crate::web::reply::{Data, Reply};

/// How one's second factor is.
#[derive(Serialize, ToSchema)]
pub struct FactorView {
    enabled: bool,
    recovery_codes_left: i64,
}

/// What an authenticator needs; only in this answer.
#[derive(Serialize, ToSchema)]
pub struct SetupView {
    /// Base32.
    secret: String,
    /// For a QR code.
    otpauth_url: String,
}

/// Codes for recovery, each good once; only in this answer.
#[derive(Serialize, ToSchema)]
pub struct RecoveryView {
    recovery_codes: Vec<String>,
}

/// A code of the authenticator.
#[derive(Deserialize, ToSchema)]
pub struct CodeBody {
    code: String,
}

/// One's own password, again.
#[derive(Deserialize, ToSchema)]
pub struct AgainBody {
    password: String,
}

/// # Errors
/// As `second_factor::get`.
pub async fn get(ctx: Ctx) -> Reply<FactorView> {
    let factor = second_factor::get(&ctx).await?;
    Ok(Data(FactorView {
        enabled: factor.enabled,
        recovery_codes_left: factor.recovery_codes_left,
    }))
}

/// # Errors
/// As `second_factor::start`.
pub async fn start(ctx: Ctx) -> Reply<SetupView> {
    let setup = second_factor::start(&ctx).await?;
    Ok(Data(SetupView {
        secret: setup.secret,
        otpauth_url: setup.url,
    }))
}

/// # Errors
/// As `second_factor::confirm`.
pub async fn confirm(ctx: Ctx, body: Json<CodeBody>) -> Reply<RecoveryView> {
    let recovery_codes = second_factor::confirm(&ctx, &body.0.code).await?;
    Ok(Data(RecoveryView { recovery_codes }))
}

/// # Errors
/// As `second_factor::renew_recovery`.
pub async fn renew(ctx: Ctx, body: Json<AgainBody>) -> Reply<RecoveryView> {
    let recovery_codes = second_factor::renew_recovery(&ctx, &body.0.password).await?;
    Ok(Data(RecoveryView { recovery_codes }))
}

/// # Errors
/// As `second_factor::disable`.
pub async fn disable(ctx: Ctx, body: Json<AgainBody>) -> Reply<&'static str> {
    second_factor::disable(&ctx, &body.0.password).await?;
    Ok(Data("deleted"))
}
