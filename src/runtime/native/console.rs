//! The consoles of containers: what their inits print, kept within bounds.
//!
//! The init writes into a file on a small tmpfs of its own, so it cannot fill the host's disk and
//! never waits for the server. The server moves what is there to `console.log` now and then, and
//! gives the memory back by punching holes, by which no byte is lost in between.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// When the log is longer, its older part goes.
const LONGEST: u64 = 4 << 20;
/// What is kept of a log that was too long, and what is read of it at most.
const KEPT: u64 = 1 << 20;

/// Collects one console's output.
#[derive(Debug)]
pub(super) struct Console {
    source: File,
    /// How far `source` is collected.
    at: u64,
    log: PathBuf,
}

impl Console {
    /// Of a console that starts now.
    pub(super) fn new(source: File, log: PathBuf) -> Self {
        Self { source, at: 0, log }
    }

    /// Of a console that another server has collected from before.
    pub(super) fn resume(source: File, log: PathBuf) -> Self {
        // What was collected is a hole now.
        let at = rustix::fs::seek(&source, rustix::fs::SeekFrom::Data(0)).unwrap_or_else(|_| {
            source
                .metadata()
                .map(|metadata| metadata.len())
                .unwrap_or_default()
        });
        Self { source, at, log }
    }

    /// Moves what was printed since the last time to the log.
    pub(super) fn collect(&mut self) -> io::Result<()> {
        let length = self.source.metadata()?.len();
        if length < self.at {
            // The tenant truncated its own console.
            self.at = 0;
        }
        if length == self.at {
            return Ok(());
        }
        // Never more than fits the log: the tenant can make the file look as long as it likes.
        let from = self.at.max(length.saturating_sub(KEPT));
        let mut bytes = vec![0; usize::try_from(length - from).unwrap_or_default()];
        let read = self.source.read_at(&mut bytes, from)?;
        bytes.truncate(read);
        // Holes read as zeros: before what is new in its page, or wherever the tenant made some.
        bytes.retain(|&byte| byte != 0);
        append(&self.log, &bytes)?;
        self.at = length;
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.source, punch, 0, length)?;
        Ok(())
    }
}

/// Appends to a log and shortens it when it gets too long.
pub(super) fn append(log: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        .open(log)?;
    file.write_all(bytes)?;
    let length = file.metadata()?.len();
    if length <= LONGEST {
        return Ok(());
    }
    let kept = read_end(&mut file, length)?;
    let new = log.with_extension("log.new");
    let mut shorter = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    shorter.write_all(&kept)?;
    fs::rename(new, log)
}

fn read_end(file: &mut File, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(length.saturating_sub(KEPT)))?;
    let mut bytes = Vec::new();
    file.take(KEPT).read_to_end(&mut bytes)?;
    if length > KEPT
        && let Some(end) = bytes.iter().position(|&byte| byte == b'\n')
    {
        bytes.drain(..=end);
    }
    Ok(bytes)
}

/// The last `lines` lines of a log.
pub(super) fn tail(log: &Path, lines: usize) -> io::Result<String> {
    let mut file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let bytes = read_end(&mut file, length)?;
    Ok(last_lines(&String::from_utf8_lossy(&bytes), lines).to_owned())
}

fn last_lines(text: &str, lines: usize) -> &str {
    if lines == 0 {
        return "";
    }
    let body = text.strip_suffix('\n').unwrap_or(text);
    match body.rmatch_indices('\n').nth(lines - 1) {
        Some((at, _)) => &text[at + 1..],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb\nc", 1), "c");
        assert_eq!(last_lines("a\n", 5), "a\n");
        assert_eq!(last_lines("a\n", 0), "");
    }

    #[test]
    fn nothing_printed_is_lost_or_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("console.log");
        let path = Path::new("/dev/shm").join(format!("hzel-test-{}", rand::random::<u64>()));
        let open = || {
            fs::OpenOptions::new()
                .create(true)
                .append(true)
                .read(true)
                .open(&path)
                .unwrap()
        };
        let mut writer = open();
        let mut console = Console::new(open(), log.clone());
        writer.write_all(b"one\n").unwrap();
        console.collect().unwrap();
        writer.write_all(b"two\n").unwrap();
        console.collect().unwrap();
        writer.write_all(b"three\n").unwrap();
        let mut console = Console::resume(open(), log.clone());
        console.collect().unwrap();
        console.collect().unwrap();
        fs::remove_file(path).unwrap();
        assert_eq!(tail(&log, 10).unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_long_log_is_shortened_at_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("console.log");
        let line = format!("{}\n", "x".repeat(99));
        append(&log, line.repeat(50_000).as_bytes()).unwrap();
        let length = fs::metadata(&log).unwrap().len();
        assert!(length <= KEPT && length.is_multiple_of(100), "{length}");
    }
}
