//! What one may do with a container, as bits.
//!
//! To add a permission, add a constant with the next bit and ask for it with
//! [`Permissions::require`].

use crate::auth::actor::{Actor, Scope};
use crate::domain::ctx::Ctx;
use crate::domain::ids::UserId;
use crate::error::{Error, Result};

/// A set of permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Permissions(i32);

impl Permissions {
    pub const NONE: Self = Self(0);
    pub const VIEW: Self = Self(1);
    pub const READ_METRICS: Self = Self(2);
    pub const START_STOP: Self = Self(4);
    /// Terminal, commands and files.
    pub const TERMINAL: Self = Self(8);
    pub const DELETE: Self = Self(128);
    pub const OWNER: Self = Self(255);

    #[must_use]
    pub const fn bits(self) -> i32 {
        self.0
    }

    #[must_use]
    pub const fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// What `ctx`'s actor may do with a container of `owner`, who shared it with those bits.
    #[must_use]
    pub fn of(ctx: &Ctx, owner: &UserId, shared: Option<i32>) -> Self {
        match ctx.actor() {
            Actor::System(_) => Self::OWNER,
            Actor::Caller(caller) if caller.is_admin() || caller.user_id == *owner => Self::OWNER,
            Actor::Caller(_) => shared.map_or(Self::NONE, Self::from_bits),
            Actor::Anonymous => Self::NONE,
        }
    }

    /// The known ones of these bits; none without [`Permissions::VIEW`], on which all others stand.
    #[must_use]
    pub const fn from_bits(bits: i32) -> Self {
        if bits & Self::VIEW.0 == 0 {
            return Self::NONE;
        }
        Self(bits & Self::OWNER.0)
    }

    /// # Errors
    /// [`Error::Forbidden`], saying what is missing.
    pub fn require(self, wanted: Self) -> Result<()> {
        if self.has(wanted) {
            return Ok(());
        }
        let what = match wanted {
            Self::VIEW => "You do not have access to this container",
            Self::READ_METRICS => "You may not read this container's metrics",
            Self::START_STOP => "You may not start or stop this container",
            Self::TERMINAL => "You may not run anything in this container",
            _ => "You may not change or delete this container",
        };
        Err(Error::Forbidden(what.into()))
    }
}

/// # Errors
/// [`Error::Forbidden`], naming the scope that the credential lacks.
pub fn require_scope(ctx: &Ctx, scope: Scope) -> Result<()> {
    match ctx.actor() {
        Actor::Caller(caller) if !caller.has_scope(scope) => Err(Error::Forbidden(format!(
            "This token lacks the scope {scope}"
        ))),
        _ => Ok(()),
    }
}
