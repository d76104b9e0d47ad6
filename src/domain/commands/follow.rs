//! Following a command: how far it is and all that it writes, from its first byte, for any number of
//! listeners, each at its own pace, while it runs and after.
//!
//! To tell listeners one more thing: a variant of [`Step`], and its place in [`Following::next`].

use std::time::Duration;

use bytes::Bytes;

use super::{Command, find};
use crate::db;
use crate::domain::ctx::Ctx;
use crate::domain::ids::{CommandId, ContainerId};
use crate::error::{Error, Result};
use crate::runtime::Stream;
use crate::spool::{Listener, Piece, Reader};

/// How often the row is looked at, for what another server does.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Bytes of a record that are told at once.
const PIECE: usize = 32 * 1024;

/// What there is to tell next.
#[derive(Debug)]
pub enum Step {
    Queued,
    Started,
    Output(Vec<(Stream, Bytes)>),
    /// So much was dropped unread, where it is known how much.
    Dropped(Option<u64>),
    Finished(Box<Command>),
}

/// What was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Queued,
    Started,
    AllOutput,
    End,
}

/// A listener of one command.
pub struct Following {
    ctx: Ctx,
    id: CommandId,
    command: Command,
    told: Told,
    /// The counter of the row's changes at the last look.
    row: u64,
    listener: Listener,
    reader: Reader,
    /// Of the record, where the whole output is kept no more.
    from_record: Vec<(Stream, Bytes)>,
    /// Whether there was more than that.
    missing: bool,
}

/// Begins to follow a command.
///
/// # Errors
/// As [`super::get`].
pub async fn follow(ctx: &Ctx, id: &str) -> Result<Following> {
    let (inner, asked) = (ctx.clone(), id.to_owned());
    let command: Command = ctx
        .db()
        .read(move |conn| Ok(find(conn, &inner, &asked)?.into()))
        .await?;
    let spools = &ctx.app().spools;
    Ok(Following {
        listener: spools.listen(&command.id),
        reader: spools.reader(&command.id),
        id: command.id.clone(),
        ctx: ctx.clone(),
        told: Told::Nothing,
        // It may have changed before the listening began.
        row: u64::MAX,
        command,
        from_record: Vec::new(),
        missing: false,
    })
}

impl Following {
    #[must_use]
    pub const fn id(&self) -> &CommandId {
        &self.id
    }

    /// Where it runs.
    #[must_use]
    pub const fn container_id(&self) -> &ContainerId {
        &self.command.container_id
    }

    /// The next thing to tell, as soon as there is one; none after the end, and when the command was
    /// deleted with its container.
    ///
    /// # Errors
    /// When the database or the disk fails.
    pub async fn next(&mut self) -> Result<Option<Step>> {
        loop {
            // What comes after this counts as new: nothing is missed between looking and waiting.
            let tail = self.listener.seen();
            if self.row != tail.row && !self.look().await? {
                return Ok(None);
            }
            self.row = tail.row;
            match self.told {
                Told::Nothing => {
                    self.told = Told::Queued;
                    return Ok(Some(Step::Queued));
                }
                Told::Queued => {
                    if self.command.started_at.is_some() {
                        self.told = Told::Started;
                        return Ok(Some(Step::Started));
                    }
                    if self.command.status.is_over() {
                        self.told = Told::AllOutput;
                        continue;
                    }
                }
                Told::Started => match self.read().await? {
                    Piece::Output(output) => return Ok(Some(Step::Output(output))),
                    Piece::Dropped(bytes) => return Ok(Some(Step::Dropped(Some(bytes)))),
                    Piece::Nothing if self.command.status.is_over() => {
                        self.told = Told::AllOutput;
                        self.fall_back();
                        continue;
                    }
                    Piece::Nothing => {}
                },
                Told::AllOutput => {
                    if !self.from_record.is_empty() {
                        return Ok(Some(Step::Output(std::mem::take(&mut self.from_record))));
                    }
                    if std::mem::take(&mut self.missing) {
                        return Ok(Some(Step::Dropped(None)));
                    }
                    self.told = Told::End;
                    return Ok(Some(Step::Finished(Box::new(self.command.clone()))));
                }
                Told::End => return Ok(None),
            }
            let changed = tokio::time::timeout(LOOK_EVERY, self.listener.changed());
            if changed.await.is_err() {
                self.row = u64::MAX;
            }
        }
    }

    /// Reads the row; false when there is none any more.
    async fn look(&mut self) -> Result<bool> {
        if self.command.status.is_over() {
            return Ok(true);
        }
        let id = self.id.clone();
        let row = self.ctx.db();
        let row = row
            .read(move |conn| Ok(db::commands::get(conn, &id)?))
            .await?;
        if let Some(row) = row {
            self.command = row.into();
            return Ok(true);
        }
        Ok(false)
    }

    async fn read(&mut self) -> Result<Piece> {
        let mut reader = self.reader.clone();
        let (reader, piece) = tokio::task::spawn_blocking(move || {
            let piece = reader.read();
            (reader, piece)
        })
        .await
        .map_err(Error::internal)?;
        self.reader = reader;
        piece.map_err(Error::internal)
    }

    /// The spool has nothing more: where it is gone, the record has the beginning of the output.
    fn fall_back(&mut self) {
        if self.reader.exists() {
            return;
        }
        if self.reader.has_begun() {
            // It went in the middle.
            self.missing = true;
            return;
        }
        for (stream, text) in [
            (Stream::Stdout, &self.command.stdout),
            (Stream::Stderr, &self.command.stderr),
        ] {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            let pieces = (0..bytes.len()).step_by(PIECE);
            self.from_record
                .extend(pieces.map(|at| (stream, bytes.slice(at..bytes.len().min(at + PIECE)))));
        }
        self.missing = self.command.truncated;
    }
}
