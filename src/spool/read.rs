//! Reading a spool, while it is written and after. Nothing is held open between two reads, so that
//! a slow reader keeps no dropped segment on the disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::Bytes;

use super::write::segment_name;
use super::{HEAD, RECORD};
use crate::runtime::Stream;

/// Bytes that are read at once.
const AT_ONCE: usize = 256 * 1024;

/// See [`super::Spools::reader`].
#[derive(Debug, Clone)]
pub struct Reader {
    dir: PathBuf,
    /// Bytes of output before the next one.
    position: u64,
    /// The segment it is in, and how many bytes of the file were read.
    segment: Option<(u64, u64)>,
}

/// What comes next in a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Output(Vec<(Stream, Bytes)>),
    /// So many bytes were dropped before they were read.
    Dropped(u64),
    /// All that there is was read.
    Nothing,
}

impl Reader {
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            position: 0,
            segment: None,
        }
    }

    /// Whether anything was read or passed over.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.position > 0
    }

    /// Whether there is anything on the disk.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dir.exists()
    }

    /// What comes next. Blocks.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn read(&mut self) -> io::Result<Piece> {
        loop {
            let from = match self.segment {
                None => self.position,
                Some((name, offset)) => match self.read_segment(name, offset)? {
                    Some(output) if !output.is_empty() => return Ok(Piece::Output(output)),
                    // Dropped meanwhile.
                    None => self.position,
                    Some(_) => {
                        let after = self.position.max(name + 1);
                        if self.first_segment(after)?.is_none() {
                            return Ok(Piece::Nothing);
                        }
                        // There is a later one, so this one is complete now: what was written to it
                        // since it was read must not be passed over.
                        match self.read_segment(name, offset)? {
                            Some(output) if !output.is_empty() => {
                                return Ok(Piece::Output(output));
                            }
                            Some(_) | None => after,
                        }
                    }
                },
            };
            let Some(next) = self.first_segment(from)? else {
                return Ok(Piece::Nothing);
            };
            let dropped = next.saturating_sub(self.position);
            self.position = next;
            self.segment = Some((next, 0));
            if dropped > 0 {
                return Ok(Piece::Dropped(dropped));
            }
        }
    }

    /// Whole records of a segment from `offset` on; none when there is no such segment.
    fn read_segment(&mut self, name: u64, offset: u64) -> io::Result<Option<Vec<(Stream, Bytes)>>> {
        let file = match File::open(self.dir.join(segment_name(name))) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut buffer = vec![0; AT_ONCE];
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        let buffer = Bytes::from(buffer);
        let (mut output, mut used) = (Vec::new(), 0);
        while let Some((stream, bytes)) = record(&buffer, used) {
            used += HEAD + bytes.len();
            self.position += bytes.len() as u64;
            output.push((stream, bytes));
        }
        self.segment = Some((name, offset + used as u64));
        Ok(Some(output))
    }

    /// The first segment at `position` or after it.
    fn first_segment(&self, position: u64) -> io::Result<Option<u64>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
        Ok(names.filter(|name| *name >= position).min())
    }
}

/// The record at `at`, if all of it is there.
fn record(buffer: &Bytes, at: usize) -> Option<(Stream, Bytes)> {
    let head = buffer.get(at..at + HEAD)?;
    let stream = match head[0] {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return None,
    };
    let length = usize::try_from(u32::from_le_bytes(head[1..].try_into().ok()?)).ok()?;
    if length > RECORD {
        return None;
    }
    let start = at + HEAD;
    (buffer.len() >= start + length).then(|| (stream, buffer.slice(start..start + length)))
}
