//! Containers that are on this machine and not in the database. They belong to nobody that hzel knows
//! of, so only administrators hear of them; nothing is done to them until their time is over.
//!
//! To let administrators do something with one, add a function here and a method to the engine.

use std::sync::PoisonError;

use crate::domain::ctx::Ctx;
use crate::error::Result;
pub use crate::runtime::Unclaimed;

/// Those of this machine, as of the last time that the reconciler looked.
///
/// # Errors
/// [`crate::error::Error::Unauthorized`] for nobody. Others than administrators see none.
pub fn list(ctx: &Ctx) -> Result<Vec<Unclaimed>> {
    if !ctx.caller()?.is_admin() {
        return Ok(Vec::new());
    }
    let unclaimed = &ctx.app().unclaimed;
    Ok(unclaimed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone())
}
