//! When credentials were last used, gathered in memory and written about once a minute: a request
//! never waits for that write.
//!
//! To note another kind of credential, add a map here and its statement in [`Touched::flush`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::db::{self, Db};
use crate::domain::ids::{AppId, SessionId, TokenId, UserId};
use crate::domain::time::Time;
use crate::error::Result;

/// See the module.
#[derive(Debug, Default)]
pub struct Touched {
    tokens: Mutex<HashMap<TokenId, Time>>,
    sessions: Mutex<HashMap<SessionId, Time>>,
    authorizations: Mutex<HashMap<(UserId, AppId), Time>>,
}

impl Touched {
    pub fn token(&self, id: &TokenId, at: Time) {
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone(), at);
    }

    pub fn session(&self, id: &SessionId, at: Time) {
        self.sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone(), at);
    }

    pub fn authorization(&self, user: &UserId, app: &AppId, at: Time) {
        self.authorizations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((user.clone(), app.clone()), at);
    }

    /// What was noted of a token and is not written yet.
    #[must_use]
    pub fn token_at(&self, id: &TokenId) -> Option<Time> {
        let tokens = self.tokens.lock();
        tokens
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .copied()
    }

    /// What was noted of a session and is not written yet.
    #[must_use]
    pub fn session_at(&self, id: &SessionId) -> Option<Time> {
        let sessions = self.sessions.lock();
        sessions
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .copied()
    }

    /// What was noted of an authorization and is not written yet.
    #[must_use]
    pub fn authorization_at(&self, user: &UserId, app: &AppId) -> Option<Time> {
        let authorizations = self.authorizations.lock();
        authorizations
            .unwrap_or_else(PoisonError::into_inner)
            .get(&(user.clone(), app.clone()))
            .copied()
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// When the database fails; what was gathered is then lost, which costs a minute's truth.
    pub async fn flush(&self, db: &Db) -> Result<()> {
        let tokens =
            std::mem::take(&mut *self.tokens.lock().unwrap_or_else(PoisonError::into_inner));
        let sessions =
            std::mem::take(&mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner));
        let authorizations = std::mem::take(
            &mut *self
                .authorizations
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if tokens.is_empty() && sessions.is_empty() && authorizations.is_empty() {
            return Ok(());
        }
        let work = move |conn: &mut db::Conn| {
            for (id, at) in &tokens {
                db::tokens::set_last_used(conn, id, *at)?;
            }
            for (id, at) in &sessions {
                db::sessions::set_last_seen(conn, id, *at)?;
            }
            for ((user, app), at) in &authorizations {
                db::oauth_apps::set_last_used(conn, user, app, *at)?;
            }
            Ok(())
        };
        if db.is_shared() {
            // Each by itself: rows held together in this order could block whoever takes them in
            // another.
            db.read(work).await
        } else {
            db.write(work).await
        }
    }
}
