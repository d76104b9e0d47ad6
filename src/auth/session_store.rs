//! actix-session's store over our table. A sign-in makes its row, with its audit entry, in the
//! domain's transaction; the store then only hands the row's key to the cookie, and reads the row
//! and its user back in one query.
//!
//! To keep something more in a session, give it a column: the state of actix-session lives only for
//! the request.

use std::collections::HashMap;

use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use actix_web::cookie::time::Duration;

use crate::app::App;
use crate::domain::sessions;

/// The entry under which a loaded session has its caller.
pub const CALLER: &str = "caller";
/// The entry under which a sign-in leaves the key of its row.
pub const NEW_KEY: &str = "new_key";

/// See the module.
pub struct DbSessionStore {
    app: App,
}

impl DbSessionStore {
    #[must_use]
    pub const fn new(app: App) -> Self {
        Self { app }
    }
}

impl SessionStore for DbSessionStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<HashMap<String, String>>, LoadError> {
        let found = sessions::find_by_key(&self.app, key.as_ref())
            .await
            .map_err(|e| LoadError::Other(e.into()))?;
        let Some(caller) = found else { return Ok(None) };
        let text = sessions::caller_to_text(&caller).map_err(|e| LoadError::Other(e.into()))?;
        Ok(Some(HashMap::from([(CALLER.to_owned(), text)])))
    }

    async fn save(
        &self,
        state: HashMap<String, String>,
        _ttl: &Duration,
    ) -> Result<SessionKey, SaveError> {
        let key = state
            .get(NEW_KEY)
            .and_then(|text| serde_json::from_str::<String>(text).ok())
            .ok_or_else(|| SaveError::Other(MissingKey.into()))?;
        SessionKey::try_from(key).map_err(|e| SaveError::Other(e.into()))
    }

    async fn update(
        &self,
        key: SessionKey,
        _state: HashMap<String, String>,
        _ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        Ok(key)
    }

    async fn update_ttl(&self, _key: &SessionKey, _ttl: &Duration) -> Result<(), anyhow::Error> {
        Ok(())
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        sessions::delete_by_key(&self.app, key.as_ref())
            .await
            .map_err(Into::into)
    }
}

/// A handler wrote into a session that no sign-in made.
#[derive(Debug, thiserror::Error)]
#[error("a session is made by signing in only")]
struct MissingKey;
