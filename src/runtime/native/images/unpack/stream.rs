//! Reading archives, decompressed by what their first bytes say they are. To add a compression,
//! add its magic number to [`open`].

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Watch;
use crate::runtime::native::images::problem::Problem;

/// Opens an archive, decompressing by what its first bytes say it is.
pub fn open(path: &Path, watch: &Arc<Watch>) -> Result<Box<dyn Read>, Problem> {
    let mut file = File::open(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => Problem::Broken(format!("there is no {}", path.display())),
        _ => Problem::Broken(format!("{} cannot be read: {cause}", path.display())),
    })?;
    if !file.metadata()?.is_file() {
        return Err(Problem::Broken(format!("{} is not a file", path.display())));
    }
    let mut magic = Vec::with_capacity(6);
    (&mut file).take(6).read_to_end(&mut magic)?;
    file.rewind()?;
    if magic == [0xfd, b'7', b'z', b'X', b'Z', 0] {
        return Xz::open(file, watch).map(|xz| Box::new(xz) as Box<dyn Read>);
    }
    let counted = Counted {
        file,
        watch: Arc::clone(watch),
    };
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(counted)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(counted)?),
        [b'B', b'Z', b'h', ..] => {
            return Err(Problem::Broken(
                "bzip2 is not understood; compress it with gzip, zstd or xz".into(),
            ));
        }
        _ => Box::new(counted),
    })
}

/// A file that tells how far it is read.
struct Counted {
    file: File,
    watch: Arc<Watch>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.watch.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// An archive decompressed by the machine's `xz`, which every Debian and Ubuntu has.
struct Xz {
    child: Child,
    output: std::process::ChildStdout,
    /// Its position is the child's too: both have the same open file.
    input: File,
    watch: Arc<Watch>,
}

impl Xz {
    fn open(file: File, watch: &Arc<Watch>) -> Result<Self, Problem> {
        let mut child = Command::new("xz")
            .args(["--decompress", "--stdout", "--quiet"])
            .stdin(file.try_clone()?)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound => {
                    Problem::Missing("xz is missing; install it: apt-get install xz-utils".into())
                }
                _ => cause.into(),
            })?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no pipe"))?;
        Ok(Self {
            child,
            output,
            input: file,
            watch: Arc::clone(watch),
        })
    }
}

impl Read for Xz {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        self.watch
            .read
            .store(self.input.stream_position()?, Ordering::Relaxed);
        if count == 0 && !self.child.wait()?.success() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "xz finds it damaged",
            ));
        }
        Ok(count)
    }
}

impl Drop for Xz {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        if self.child.kill().is_ok()
            && let Err(cause) = self.child.wait()
        {
            tracing::warn!(%cause, "xz was not waited for");
        }
    }
}
