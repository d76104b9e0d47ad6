//! The database: one pool over SQLite or PostgreSQL, chosen by the URL, and one file of queries a
//! noun. Queries take a [`Conn`] and answer rows; rules and transactions belong to the domain.
//!
//! To add a table: a migration in both `migrations/sqlite` and `migrations/postgres`, its columns
//! in [`schema`], and a file here. What only one backend can say (`on_conflict`, locks) is matched
//! on the variant in that file.

pub mod accounts;
pub mod audit;
pub mod commands;
pub mod containers;
pub mod idempotency;
pub mod images;
pub mod jobs;
pub mod members;
pub mod notify;
pub mod oauth_apps;
pub mod oauth_tokens;
pub mod oidc;
pub mod passkeys;
pub mod password_resets;
pub mod schema;
pub mod second_factors;
pub mod sessions;
pub mod settings;
pub mod tickets;
pub mod tokens;
pub mod users;

use std::cell::RefCell;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::r2d2::{ManageConnection, Pool};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::{Connection, PgConnection, SqliteConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::error::Error;

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// A connection to whichever database this installation uses.
#[derive(diesel::MultiConnection)]
pub enum Conn {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// A statement that failed, or a database that is not there.
#[derive(Debug)]
pub struct Failure {
    unique: bool,
    cause: String,
}

impl Failure {
    fn new(cause: impl std::fmt::Display) -> Self {
        Self {
            unique: false,
            cause: cause.to_string(),
        }
    }

    /// Another row has a value that must be unique.
    #[must_use]
    pub const fn is_unique_violation(&self) -> bool {
        self.unique
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "database: {}", self.cause)
    }
}

impl std::error::Error for Failure {}

impl From<DieselError> for Failure {
    fn from(error: DieselError) -> Self {
        let unique = matches!(
            error,
            DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)
        );
        Self {
            unique,
            cause: error.to_string(),
        }
    }
}

pub type Result<T> = std::result::Result<T, Failure>;

/// Where the database is.
#[derive(Clone)]
pub enum Url {
    /// A file's path.
    Sqlite(String),
    /// A `postgres://` URL; may hold a password, so it is never printed.
    Postgres(String),
}

impl Url {
    /// Reads `sqlite://PATH` or `postgres://…`.
    ///
    /// # Errors
    /// A sentence saying which forms there are; it does not repeat the value, which may hold a
    /// password.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        if let Some(path) = text
            .strip_prefix("sqlite://")
            .or_else(|| text.strip_prefix("sqlite:"))
        {
            if path.is_empty() {
                return Err("DATABASE_URL names no file after sqlite://".into());
            }
            Ok(Self::Sqlite(path.to_owned()))
        } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Ok(Self::Postgres(text.to_owned()))
        } else {
            Err("DATABASE_URL must be sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME".into())
        }
    }

    /// `SQLite` or `PostgreSQL`.
    #[must_use]
    pub const fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }
}

struct Manager(Url);

impl ManageConnection for Manager {
    type Connection = Conn;
    type Error = Failure;

    fn connect(&self) -> Result<Conn> {
        match &self.0 {
            Url::Sqlite(path) => {
                let mut conn = SqliteConnection::establish(path).map_err(Failure::new)?;
                // The order matters: the time-out must hold before the journal mode is changed,
                // for that takes a lock. NORMAL loses nothing in WAL mode when the process dies.
                conn.batch_execute(
                    "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; \
                     PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; \
                     PRAGMA cache_size = -8000;",
                )?;
                Ok(Conn::Sqlite(conn))
            }
            Url::Postgres(url) => {
                let mut conn = PgConnection::establish(url).map_err(Failure::new)?;
                conn.batch_execute("SET TIME ZONE 'UTC'; SET lock_timeout = '15s'")?;
                Ok(Conn::Postgres(conn))
            }
        }
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<()> {
        conn.batch_execute("SELECT 1").map_err(Failure::from)
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        // A panic inside a transaction, or a server that closed the line, leaves a connection that
        // nobody else may get.
        match conn {
            Conn::Sqlite(c) => !transaction_is_over::<SqliteConnection>(c),
            Conn::Postgres(c) => !transaction_is_over::<PgConnection>(c),
        }
    }
}

fn transaction_is_over<C>(conn: &mut C) -> bool
where
    C: Connection<TransactionManager = AnsiTransactionManager>,
{
    !<AnsiTransactionManager as TransactionManager<C>>::is_broken_transaction_manager(conn)
        && matches!(
            AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_depth(),
            Ok(None)
        )
}

/// The pool, cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: Pool<Manager>,
    url: Url,
}

impl Db {
    /// Opens the pool and one connection, so that a wrong address is told at once.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub fn open(url: &Url, connections: u32) -> Result<Self> {
        let postgres = matches!(url, Url::Postgres(_));
        let builder = Pool::builder()
            .max_size(connections)
            .min_idle(Some(1))
            // A SQLite file cannot go away; a PostgreSQL server can restart.
            .test_on_check_out(postgres)
            .connection_timeout(Duration::from_secs(10));
        if let Url::Sqlite(path) = url {
            keep_private(path)?;
        }
        // A first connection by hand tells the reason; the pool would retry until its time-out.
        drop(Manager(url.clone()).connect()?);
        let pool = builder.build(Manager(url.clone())).map_err(Failure::new)?;
        Ok(Self {
            pool,
            url: url.clone(),
        })
    }

    /// `SQLite` or `PostgreSQL`.
    #[must_use]
    pub const fn engine(&self) -> &'static str {
        self.url.engine()
    }

    /// Whether several servers may share this database.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.url, Url::Postgres(_))
    }

    /// Brings the tables to this version; answers the names of what was applied.
    ///
    /// # Errors
    /// When a migration fails; the tables are then as before it.
    pub fn migrate(&self) -> Result<Vec<String>> {
        let mut conn = self.pool.get().map_err(Failure::new)?;
        let applied = match &mut *conn {
            Conn::Sqlite(c) => c
                .run_pending_migrations(SQLITE_MIGRATIONS)
                .map(|list| list.iter().map(ToString::to_string).collect()),
            Conn::Postgres(c) => {
                // Two servers that start at once must not both apply.
                c.batch_execute("SELECT pg_advisory_lock(4812930)")?;
                let applied = c
                    .run_pending_migrations(POSTGRES_MIGRATIONS)
                    .map(|list| list.iter().map(ToString::to_string).collect());
                c.batch_execute("SELECT pg_advisory_unlock(4812930)")?;
                applied
            }
        };
        applied.map_err(Failure::new)
    }

    /// Runs `work` on a connection, on a thread that may block, outside any transaction.
    ///
    /// # Errors
    /// What `work` answers, or an internal error when there is no connection.
    pub async fn read<T, F>(&self, work: F) -> std::result::Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> std::result::Result<T, Error> + Send + 'static,
    {
        let pool = self.pool.clone();
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || {
            let _entered = span.enter();
            let mut conn = pool.get().map_err(|e| Error::from(Failure::new(e)))?;
            work(&mut conn)
        })
        .await
        .map_err(Error::internal)?
    }

    /// Runs `work` in one transaction: all of it happens, or nothing.
    ///
    /// # Errors
    /// What `work` answers (then nothing has happened), or an internal error.
    pub async fn write<T, F>(&self, work: F) -> std::result::Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> std::result::Result<T, Error> + Send + 'static,
    {
        self.read(move |conn| transaction(conn, work)).await
    }

    /// [`Db::write`] for a caller that may block, such as a command of the command line.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn write_blocking<T>(
        &self,
        work: impl FnOnce(&mut Conn) -> std::result::Result<T, Error>,
    ) -> std::result::Result<T, Error> {
        let mut conn = self.pool.get().map_err(|e| Error::from(Failure::new(e)))?;
        transaction(&mut conn, work)
    }
}

/// Makes the file, if there is none, for nobody else to read; SQLite gives its companions the same
/// mode.
fn keep_private(path: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(path).map(drop).map_err(Failure::new)
}

type Afterwards = Vec<Box<dyn FnOnce()>>;

thread_local! {
    /// What the transaction on this thread wants done when it has committed; none outside of one.
    static AFTERWARDS: RefCell<Option<Afterwards>> = const { RefCell::new(None) };
}

/// Has `act` called when the transaction that runs on this thread has committed, and not at all when
/// it does not; outside of one, at once. For telling others of a change: never before they can see
/// it. It must not block or fail.
pub fn after_commit(act: impl FnOnce() + 'static) {
    let now = AFTERWARDS.with_borrow_mut(|waiting| match waiting {
        Some(waiting) => {
            waiting.push(Box::new(act));
            None
        }
        None => Some(act),
    });
    if let Some(act) = now {
        act();
    }
}

/// Collects what is to be done after the transaction of this thread, panics included.
struct Collecting;

impl Collecting {
    fn begin() -> Self {
        AFTERWARDS.set(Some(Vec::new()));
        Self
    }

    fn committed(self) {
        let waiting = AFTERWARDS.take();
        drop(self);
        for act in waiting.into_iter().flatten() {
            act();
        }
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        AFTERWARDS.set(None);
    }
}

fn transaction<T>(
    conn: &mut Conn,
    work: impl FnOnce(&mut Conn) -> std::result::Result<T, Error>,
) -> std::result::Result<T, Error> {
    let afterwards = Collecting::begin();
    // SQLite's plain BEGIN takes its write lock only at the first write, and fails then when
    // another was quicker: whoever reads and then writes must hold it from the start.
    match conn {
        Conn::Sqlite(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE"),
        Conn::Postgres(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN"),
    }
    .map_err(Failure::from)?;
    let answer = work(conn);
    let ended = match (conn, answer.is_ok()) {
        (Conn::Sqlite(c), true) => AnsiTransactionManager::commit_transaction(c),
        (Conn::Postgres(c), true) => AnsiTransactionManager::commit_transaction(c),
        (Conn::Sqlite(c), false) => AnsiTransactionManager::rollback_transaction(c),
        (Conn::Postgres(c), false) => AnsiTransactionManager::rollback_transaction(c),
    };
    match (answer, ended) {
        (Ok(answer), Ok(())) => {
            afterwards.committed();
            Ok(answer)
        }
        (Err(error), Ok(())) => Err(error),
        (Ok(_), Err(e)) => Err(Failure::from(e).into()),
        (Err(first), Err(second)) => {
            tracing::warn!(error = %second, "a transaction could not be rolled back");
            Err(first)
        }
    }
}
