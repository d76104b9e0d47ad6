//! What the whole server shares: database, engine, clock, randomness, configuration and signals.
//!
//! To share one more thing, add a field to [`Shared`] and build it in [`App::new`].

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use webauthn_rs::Webauthn;

use crate::auth::limiter::Limiter;
use crate::auth::oidc;
use crate::auth::password::Passwords;
use crate::auth::sealed::Sealer;
use crate::auth::touched::Touched;
use crate::config::Config;
use crate::db::Db;
use crate::domain::access::{Bell, OpenStreams};
use crate::domain::events::Events;
use crate::domain::ids::ContainerId;
use crate::domain::terminals::Terminals;
use crate::jobs::waiting::Waiting;
use crate::runtime::{Runtime, Unclaimed};
use crate::spool::Spools;

/// Tells the time; a parameter, so that a test can decide it.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// Gives unpredictable bytes; a parameter, so that a test can decide them.
pub trait Entropy: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);
}

/// The kernel's randomness.
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        use rand::TryRng;
        // Without randomness there are no secrets: better no answer than a guessable one.
        rand::rngs::SysRng
            .try_fill_bytes(bytes)
            .expect("the kernel gives randomness");
    }
}

/// The limits that the machine sets to one container.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    pub cpus: u32,
    pub memory_mb: u32,
}

/// What identity stands on beside the database.
pub struct Trust {
    pub sealer: Sealer,
    /// The provider that people may sign in with, if there is one.
    pub oidc: Option<oidc::Provider>,
    /// What checks passkeys, where browsers offer them.
    pub passkeys: Option<Webauthn>,
}

/// See [`App`].
pub struct Shared {
    pub config: Config,
    pub db: Db,
    pub runtime: Arc<dyn Runtime>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub passwords: Passwords,
    pub limiter: Limiter,
    pub trust: Trust,
    pub machine: Machine,
    /// This server's name in rows about work and containers.
    pub node_name: String,
    /// Rung when a job was queued here.
    pub jobs_ready: Notify,
    /// Rung when a command was queued here.
    pub commands_ready: Notify,
    /// Who waits for a job or a command to end.
    pub waiting: Waiting,
    /// Credentials used since the last batch was written.
    pub touched: Touched,
    /// The last CPU reading of each container, for the next rate.
    pub cpu_readings: Mutex<HashMap<ContainerId, (std::time::Instant, u64)>>,
    /// Containers of this machine that the database does not know; see `jobs::reconcile`.
    pub unclaimed: Mutex<Vec<Unclaimed>>,
    /// The shells that run in containers of this server.
    pub terminals: Terminals,
    /// The code that `/setup` wants while there is no user.
    pub setup_code: String,
    /// Rung when someone's access may have ended.
    pub access: Bell,
    /// How many sockets and streams each user has open.
    pub open_streams: OpenStreams,
    /// What happens, for whoever listens.
    pub events: Events,
    /// What commands write.
    pub spools: Spools,
    /// Cancelled when the server is to end.
    pub stopping: CancellationToken,
}

/// A handle on [`Shared`], cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

impl Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    #[must_use]
    pub fn new(
        config: Config,
        db: Db,
        runtime: Arc<dyn Runtime>,
        node_name: String,
        trust: Trust,
    ) -> Self {
        Self::with(
            config,
            db,
            runtime,
            node_name,
            trust,
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
        )
    }

    /// With a clock and a source of randomness of one's own.
    #[must_use]
    pub fn with(
        config: Config,
        db: Db,
        runtime: Arc<dyn Runtime>,
        node_name: String,
        trust: Trust,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let setup_code = crate::auth::secrets::setup_code(&*entropy);
        let limiter = Limiter::new(config.rate_limit);
        let server = crate::auth::secrets::random_base62(16, &*entropy);
        let spools = Spools::new(&config.data_dir, config.spool);
        Self(Arc::new(Shared {
            passwords: Passwords::new(Arc::clone(&entropy)),
            limiter,
            trust,
            machine: machine(),
            node_name,
            jobs_ready: Notify::new(),
            commands_ready: Notify::new(),
            waiting: Waiting::default(),
            touched: Touched::default(),
            unclaimed: Mutex::default(),
            cpu_readings: Mutex::default(),
            terminals: Terminals::default(),
            setup_code,
            access: Bell::default(),
            open_streams: OpenStreams::default(),
            events: Events::new(server),
            spools,
            stopping: CancellationToken::new(),
            config,
            db,
            runtime,
            clock,
            entropy,
        }))
    }
}

fn machine() -> Machine {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    let info = rustix::system::sysinfo();
    // The fields' types differ between architectures, so the product is taken in u64.
    #[expect(clippy::useless_conversion, reason = "u32 or u64 by architecture")]
    let bytes = u64::from(info.totalram) * u64::from(info.mem_unit);
    Machine {
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_mb: u32::try_from(bytes / (1024 * 1024)).unwrap_or(u32::MAX),
    }
}
