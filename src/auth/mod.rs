//! Who is calling: secrets and their forms, passwords, the actor, the resolver that finds it, and
//! what slows guessing down.
//!
//! To add a kind of credential: its prefix in [`secrets`], its variant in [`actor::Credential`],
//! and its branch in [`resolver`].

pub mod actor;
pub mod limiter;
pub mod oidc;
pub mod password;
pub mod resolver;
pub mod sealed;
pub mod secrets;
pub mod session_store;
pub mod touched;
