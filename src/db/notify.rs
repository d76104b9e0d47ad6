//! Telling the other servers of a shared database what happened: PostgreSQL's NOTIFY, delivered at
//! the commit and not without it. SQLite has one server, which needs no telling.
//!
//! To tell of something new, choose a channel's name.

use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{Connection, PgConnection, RunQueryDsl};

use super::{Conn, Db, Failure, Result, Url};

/// Bytes that PostgreSQL takes in one message, at least.
pub const LONGEST: usize = 7_900;

/// Sends `payload`, of at most [`LONGEST`] bytes, in the caller's transaction.
pub fn send(conn: &mut Conn, channel: &str, payload: &str) -> Result<()> {
    match conn {
        Conn::Sqlite(_) => Ok(()),
        Conn::Postgres(conn) => {
            diesel::sql_query("SELECT pg_notify($1, $2)")
                .bind::<Text, _>(channel)
                .bind::<Text, _>(payload)
                .execute(conn)?;
            Ok(())
        }
    }
}

/// A connection that only listens.
pub struct Listening(PgConnection);

impl Listening {
    /// What was sent since the last call. Does not wait.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn take(&mut self) -> Result<Vec<String>> {
        // What has arrived is read first; a lost connection shows by failing there.
        let mut payloads = Vec::new();
        for notification in self.0.notifications_iter() {
            payloads.push(notification?.payload);
        }
        Ok(payloads)
    }
}

impl Db {
    /// Listens on `channel`, where several servers may share the database. Blocks.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub fn listen(&self, channel: &str) -> Result<Option<Listening>> {
        let Url::Postgres(url) = &self.url else {
            return Ok(None);
        };
        let mut conn = PgConnection::establish(url).map_err(Failure::new)?;
        // A name of our own, never input.
        conn.batch_execute(&format!("LISTEN {channel}"))?;
        Ok(Some(Listening(conn)))
    }
}
