//! What is kept of a command's output: all of it in its spool, the beginning in its record.
//!
//! To do one more thing with a command's output, do it in [`Taken::take`]: every byte passes there in
//! order.

use bytes::Bytes;

use super::{Output, ending};
use crate::app::App;
use crate::db::commands::Ending;
use crate::domain::commands::{CommandStatus, KEPT_OUTPUT, cut};
use crate::domain::ids::CommandId;
use crate::runtime::Stream;
use crate::spool::{Piece, Writer};

/// Chunks of output that are written down together.
const BATCH: usize = 8;

/// A command's output on its way: all of it to its spool, the beginning of each stream to its record.
pub(super) struct Taken {
    pub(super) kept: Kept,
    spool: Writer,
}

impl Taken {
    pub(super) fn new(spool: Writer) -> Self {
        Self {
            kept: Kept::default(),
            spool,
        }
    }

    /// All that has come by now, beginning with what was received already.
    pub(super) async fn take(&mut self, first: (Stream, Bytes), output: &mut Output) {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(chunk) = output.try_recv()
        {
            batch.push(chunk);
        }
        for (stream, bytes) in &batch {
            self.kept.take(*stream, bytes);
        }
        self.spool.append(batch).await;
    }

    /// All that is still to come.
    pub(super) async fn take_rest(&mut self, output: &mut Output) {
        while let Some(chunk) = output.recv().await {
            self.take(chunk, output).await;
        }
    }
}

/// What a record keeps of the two streams.
#[derive(Default)]
pub(super) struct Kept {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

impl Kept {
    fn take(&mut self, stream: Stream, chunk: &Bytes) {
        let kept = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = KEPT_OUTPUT - kept.len();
        if chunk.len() > room {
            self.truncated = true;
        }
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }

    pub(super) fn ending(self, status: CommandStatus) -> Ending {
        let (stdout, out) = text(&self.stdout);
        let (stderr, err) = text(&self.stderr);
        Ending {
            stdout,
            stderr,
            truncated: self.truncated || out || err,
            ..ending(status)
        }
    }
}

/// As text for both databases, and whether there was more: PostgreSQL has no NUL in text, and what
/// is no text grows by what stands for it.
fn text(bytes: &[u8]) -> (String, bool) {
    let mut text = String::from_utf8_lossy(bytes).replace('\0', "\u{FFFD}");
    let longer = cut(&mut text, KEPT_OUTPUT);
    (text, longer)
}

/// What an earlier server had written down of a command's output.
pub(super) async fn recovered(app: &App, id: &CommandId) -> Kept {
    let mut reader = app.spools.reader(id);
    let reading = tokio::task::spawn_blocking(move || {
        let mut kept = Kept::default();
        loop {
            match reader.read() {
                Ok(Piece::Output(output)) => {
                    for (stream, chunk) in output {
                        kept.take(stream, &chunk);
                    }
                }
                Ok(Piece::Dropped(_)) => kept.truncated = true,
                Ok(Piece::Nothing) => return kept,
                Err(error) => {
                    tracing::warn!(%error, "a command's output could not be read");
                    return kept;
                }
            }
        }
    });
    reading.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_kept_to_its_bound_whatever_stands_for_its_bytes() {
        for byte in [b'x', 0, 0xFF] {
            let mut kept = Kept::default();
            for _ in 0..5 {
                kept.take(Stream::Stdout, &vec![byte; KEPT_OUTPUT / 4].into());
            }
            let ending = kept.ending(CommandStatus::Completed);
            assert!(ending.truncated, "{byte}");
            assert!(ending.stdout.len() <= KEPT_OUTPUT, "{byte}");
            assert!(ending.stdout.len() > KEPT_OUTPUT - 3, "{byte}");
        }
        // All of the bytes fit, and what stands for them does not.
        for (length, truncated) in [(KEPT_OUTPUT / 3, false), (KEPT_OUTPUT / 3 + 1, true)] {
            let mut kept = Kept::default();
            kept.take(Stream::Stderr, &vec![0xFF; length].into());
            let ending = kept.ending(CommandStatus::Completed);
            assert_eq!(ending.truncated, truncated, "{length}");
            assert!(ending.stderr.chars().all(|c| c == '\u{FFFD}'));
        }
    }
}
