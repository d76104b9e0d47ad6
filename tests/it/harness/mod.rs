//! What every test stands on: a server of its own, a client that checks the form of every answer,
//! and an end that leaves nothing behind.
//!
//! To have every test prove one more thing at its end, add it to [`Server::finish`].

pub mod client;
mod database;
mod image;
mod leftovers;
mod lock;
pub mod node;
pub mod process;
mod server;
pub mod socket;

pub use self::client::{Client, Reply, Session};
pub use self::database::{Database, Kind};
pub use self::image::{default_name as default_image, doctor};
pub use self::leftovers::Leftovers;
pub use self::process::{Tree, free_port};
pub use self::server::{ADMIN, Options, PASSWORD, Server, eventually};

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

/// Makes a module with the tests `sqlite` and `postgres` of each function named.
macro_rules! on_both {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        mod $name {
            #[test]
            fn sqlite() {
                $crate::harness::run(
                    $crate::harness::Kind::Sqlite,
                    async |server| super::$name(server).await,
                );
            }

            #[test]
            fn postgres() {
                $crate::harness::run(
                    $crate::harness::Kind::Postgres,
                    async |server| super::$name(server).await,
                );
            }
        }
    )+};
}

/// As `on_both!`, for tests that start their servers themselves, in the way they need.
macro_rules! on_both_by_hand {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn sqlite() {
                $crate::harness::block_on(super::$name($crate::harness::Kind::Sqlite));
            }

            #[test]
            fn postgres() {
                $crate::harness::block_on(super::$name($crate::harness::Kind::Postgres));
            }
        }
    )+};
}

/// Runs a test's body on an executor of its own.
pub fn block_on(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("an executor");
    runtime.block_on(body);
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// Starts a server, has `body` try it, and ends it; the log is shown when something failed.
pub fn run(kind: Kind, body: impl AsyncFnOnce(&mut Server)) {
    block_on(with_server(kind, Options::default(), body));
}

/// As [`run`], with a server as `options` say.
pub async fn with_server(kind: Kind, options: Options, body: impl AsyncFnOnce(&mut Server)) {
    let mut server = Server::start(kind, options).await;
    let done = AssertUnwindSafe(body(&mut server)).catch_unwind().await;
    if done.is_ok() {
        server.finish().await;
    }
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}
