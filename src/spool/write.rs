//! Writing a spool: whole records, one segment after another, the oldest dropped past the limit.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::{HEAD, Limits, RECORD, Shared, is_nearly_full, lock};
use crate::domain::ids::CommandId;
use crate::runtime::Stream;

/// See [`super::Spools::writer`].
#[derive(Debug)]
pub struct Writer {
    id: CommandId,
    shared: Arc<Shared>,
    /// None while its files are being written on another thread, or when that was lost.
    files: Option<Box<Files>>,
}

#[derive(Debug)]
struct Files {
    dir: PathBuf,
    limits: Limits,
    /// Bytes of output so far, lost ones included: names the next segment.
    position: u64,
    /// The last of `segments`, while it takes more.
    current: Option<File>,
    /// Name and size in bytes of each that is kept, oldest first.
    segments: VecDeque<(u64, u64)>,
    failed: bool,
}

impl Writer {
    pub(super) fn new(id: CommandId, dir: PathBuf, limits: Limits, shared: Arc<Shared>) -> Self {
        lock(&shared.open).insert(id.clone());
        let files = Files {
            dir,
            limits,
            position: 0,
            current: None,
            segments: VecDeque::new(),
            failed: false,
        };
        Self {
            id,
            shared,
            files: Some(Box::new(files)),
        }
    }

    /// Adds what was written, and tells who listens. What the disk does not take is lost to the
    /// listeners, never to the command: that goes on.
    pub async fn append(&mut self, output: Vec<(Stream, Bytes)>) {
        let Some(mut files) = self.files.take() else {
            return;
        };
        let done = tokio::task::spawn_blocking(move || {
            files.append(&output);
            files
        });
        self.files = done.await.ok();
        self.shared.tell(&self.id, |tail| tail.output += 1);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.shared.open).remove(&self.id);
    }
}

impl Files {
    fn append(&mut self, output: &[(Stream, Bytes)]) {
        let mut records = Vec::new();
        for (stream, bytes) in output {
            for piece in bytes.chunks(RECORD) {
                records.push(match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                });
                // At most RECORD.
                let length = u32::try_from(piece.len()).unwrap_or_default();
                records.extend_from_slice(&length.to_le_bytes());
                records.extend_from_slice(piece);
            }
        }
        let written: u64 = output.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        match self.write(&records) {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !self.failed {
                    tracing::warn!(%error, "a command's output could not be kept for listeners");
                }
                self.failed = true;
                self.give_up_segment();
            }
        }
        self.position += written;
    }

    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        let full = self
            .segments
            .back()
            .is_some_and(|(_, size)| *size >= self.limits.segment());
        if full {
            self.current = None;
        }
        if self.current.is_none() {
            self.begin_segment()?;
        }
        if let (Some(file), Some((_, size))) = (&mut self.current, self.segments.back_mut()) {
            file.write_all(records)?;
            *size += records.len() as u64;
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let tight = is_nearly_full(&self.dir);
        let kept = |segments: &VecDeque<(u64, u64)>| segments.iter().map(|(_, size)| size).sum();
        let room = self.limits.command.saturating_sub(self.limits.segment());
        while self.segments.len() > 1 && (tight || room < kept(&self.segments)) {
            if let Some((name, _)) = self.segments.pop_front() {
                fs::remove_file(self.dir.join(segment_name(name)))?;
            }
        }
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.dir.join(segment_name(self.position)))?;
        self.current = Some(file);
        self.segments.push_back((self.position, 0));
        Ok(())
    }

    /// After a failed write: what was whole stays, and the next output begins another segment.
    fn give_up_segment(&mut self) {
        let (Some(file), Some((name, size))) = (self.current.take(), self.segments.back().copied())
        else {
            return;
        };
        let _cut = file.set_len(size);
        if size == 0 {
            let _gone = fs::remove_file(self.dir.join(segment_name(name)));
            self.segments.pop_back();
        }
    }
}

/// So that names sort as numbers do.
pub(super) fn segment_name(position: u64) -> String {
    format!("{position:020}")
}

const _: () = assert!(HEAD == 1 + size_of::<u32>());
