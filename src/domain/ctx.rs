//! The first argument of everything: who acts, when, with what at hand, on which request's behalf.
//!
//! To give the domain one more fact of the request, add a field to [`Origin`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::app::App;
use crate::auth::actor::{Actor, Caller};
use crate::db::Db;
use crate::domain::ids::UserId;
use crate::domain::time::Time;
use crate::error::{Error, Result};

/// Where a request came from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub request_id: String,
    pub address: Option<IpAddr>,
    pub user_agent: Option<String>,
    /// The `Idempotency-Key` header with the hash of the body it came with.
    pub idempotency: Option<IdempotencyKey>,
}

impl Origin {
    /// The address, as keys of limits and rows have it; empty when it is not known.
    #[must_use]
    pub fn address_text(&self) -> String {
        self.address.map(|a| a.to_string()).unwrap_or_default()
    }
}

/// See [`Origin::idempotency`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub key: String,
    /// Method and path.
    pub route: String,
    /// SHA-256 in hex.
    pub body_hash: String,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Ctx {
    app: App,
    actor: Arc<Actor>,
    origin: Arc<Origin>,
    noted: Arc<AtomicBool>,
}

impl Ctx {
    #[must_use]
    pub fn new(app: App, actor: Actor, origin: Origin) -> Self {
        Self {
            app,
            actor: Arc::new(actor),
            origin: Arc::new(origin),
            noted: Arc::default(),
        }
    }

    /// For work that no request asked for.
    #[must_use]
    pub fn system(app: App, who: &'static str) -> Self {
        Self::new(app, Actor::System(who), Origin::default())
    }

    /// The same request, by what is known of its caller now.
    #[must_use]
    pub fn acting_as(&self, caller: Caller) -> Self {
        Self {
            actor: Arc::new(Actor::Caller(Box::new(caller))),
            ..self.clone()
        }
    }

    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    #[must_use]
    pub fn db(&self) -> &Db {
        &self.app.db
    }

    #[must_use]
    pub fn now(&self) -> Time {
        self.app.clock.now().into()
    }

    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Says that the audit log has what came of this request, failures included: for what is not
    /// told in one transaction with what it did.
    pub fn mark_noted(&self) {
        self.noted.store(true, Ordering::Relaxed);
    }

    /// Whether [`Ctx::mark_noted`] was called.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        self.noted.load(Ordering::Relaxed)
    }

    /// The signed-in user.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] for everyone else.
    pub fn caller(&self) -> Result<&Caller> {
        match &*self.actor {
            Actor::Caller(caller) => Ok(caller),
            Actor::Anonymous | Actor::System(_) => Err(Error::Unauthorized),
        }
    }

    /// The signed-in user, if there is one.
    #[must_use]
    pub fn user_id(&self) -> Option<&UserId> {
        self.caller().ok().map(|caller| &caller.user_id)
    }

    /// Whether an administrator, or hzel itself, acts.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        match &*self.actor {
            Actor::Caller(caller) => caller.is_admin(),
            Actor::System(_) => true,
            Actor::Anonymous => false,
        }
    }

    /// # Errors
    /// [`Error::Unauthorized`] for nobody, [`Error::Forbidden`] for everyone but administrators.
    pub fn require_admin(&self) -> Result<()> {
        match &*self.actor {
            Actor::Anonymous => Err(Error::Unauthorized),
            _ if self.is_admin() => Ok(()),
            _ => Err(Error::Forbidden("Only administrators may do this".into())),
        }
    }

    /// # Errors
    /// As [`Ctx::require_admin`], and [`Error::Forbidden`] for a token limited to some scopes: none
    /// of them is about other people's accounts.
    pub fn require_full_admin(&self) -> Result<()> {
        self.require_admin()?;
        match &*self.actor {
            Actor::Caller(caller) if caller.scopes.is_some() => Err(Error::Forbidden(
                "This needs a session, or a token that is not limited to scopes".into(),
            )),
            _ => Ok(()),
        }
    }
}
