//! Writing a spool: whole records, one segment after another, the oldest dropped past the limit.
//! While the disk is nearly full a spool keeps only a little, so that however many are written they
//! do not fill it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::sweep::drop_segment;
use super::{HEAD, RECORD, Spools, lock};
use crate::domain::ids::CommandId;
use crate::runtime::Stream;

/// Largest segment while the disk is nearly full.
const TIGHT_SEGMENT: u64 = 1 << 20;
/// Bytes that are kept beside the segment that is written, while the disk is nearly full.
const TIGHT_ROOM: u64 = 2 * TIGHT_SEGMENT;

/// See [`super::Spools::writer`].
#[derive(Debug)]
pub struct Writer {
    id: CommandId,
    spools: Spools,
    /// None while its files are being written on another thread, or when that was lost.
    files: Option<Box<Files>>,
}

#[derive(Debug)]
struct Files {
    dir: PathBuf,
    spools: Spools,
    /// Bytes of output so far, lost ones included: names the next segment.
    position: u64,
    /// The last of `segments`, while it takes more.
    current: Option<File>,
    /// Name and size in bytes of each that is kept, oldest first; a sweep may have taken the first of
    /// them.
    segments: VecDeque<(u64, u64)>,
    failed: bool,
}

impl Writer {
    pub(super) fn new(id: CommandId, spools: Spools) -> Self {
        lock(&spools.shared.open).insert(id.clone());
        let files = Files {
            dir: spools.path(&id),
            spools: spools.clone(),
            position: 0,
            current: None,
            segments: VecDeque::new(),
            failed: false,
        };
        Self {
            id,
            spools,
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
        self.spools.shared.tell(&self.id, |tail| tail.output += 1);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.spools.shared.open).remove(&self.id);
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
        let mut most = self.spools.limits.segment();
        if self.spools.is_tight() {
            most = most.min(TIGHT_SEGMENT);
        }
        if self.segments.back().is_some_and(|(_, size)| *size >= most) {
            self.current = None;
        }
        if self.current.is_none() {
            self.begin_segment()?;
        }
        if let (Some(file), Some((_, size))) = (&mut self.current, self.segments.back_mut()) {
            file.write_all(records)?;
            let written = records.len() as u64;
            *size += written;
            self.spools
                .shared
                .kept
                .fetch_add(written, Ordering::Relaxed);
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        self.spools.make_room();
        let tight = self.spools.is_tight();
        let limits = self.spools.limits;
        let mut room = limits.command.saturating_sub(limits.segment());
        if tight {
            room = room.min(TIGHT_ROOM);
        }
        let mut kept: u64 = self.segments.iter().map(|(_, size)| size).sum();
        while kept > room && (tight || self.segments.len() > 1) {
            let Some((name, size)) = self.segments.pop_front() else {
                break;
            };
            drop_segment(&self.dir, name)?;
            kept -= size;
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
