//! Turns the errors of system calls and child processes into [`RuntimeError`]s: one sentence for
//! people, the cause for the log. To add one more kind, add a method to [`Context`].

use std::fmt::Display;
use std::io;

use crate::runtime::RuntimeError;

/// Names what was being done when something failed.
pub(super) trait Context<T> {
    /// `what` is for people ("could not make the container's disk"); the error becomes the cause.
    fn or_fail(self, what: &'static str) -> Result<T, RuntimeError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn or_fail(self, what: &'static str) -> Result<T, RuntimeError> {
        self.map_err(|error| {
            let error = error.into();
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) {
                RuntimeError::NoSpace(format!("{what}: {error}"))
            } else {
                failed(what, error)
            }
        })
    }
}

/// A [`RuntimeError::Failed`] of any displayable cause.
pub(super) fn failed(what: &'static str, cause: impl Display) -> RuntimeError {
    RuntimeError::Failed {
        what,
        cause: cause.to_string(),
    }
}

/// The task or thread that did the work panicked or was cancelled at shutdown.
pub(super) fn joined<T>(
    result: Result<Result<T, RuntimeError>, tokio::task::JoinError>,
) -> Result<T, RuntimeError> {
    result.unwrap_or_else(|error| Err(failed("the engine was interrupted", error)))
}

/// Runs blocking work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    joined(tokio::task::spawn_blocking(work).await)
}
