//! Which block of addresses is in use by a server that runs, told by a lock that ends with it.
//!
//! A route says that a block was chosen, not that anybody still has it: installations come and go,
//! in tests by the hundred. So the server holds `<directory>/<block>` locked, which has its
//! installation's name in it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::subnet::Subnet;

/// Where the locks are: gone after a restart of the machine, like all they are about.
pub const DIRECTORY: &str = "/run/hzel-blocks";

/// A block that is ours as long as this lives.
#[derive(Debug)]
pub struct Claim {
    /// None when another process of this installation has it.
    _lock: Option<File>,
}

/// Claims a block for an installation; none when another one's server has it.
///
/// # Errors
/// When the locks' directory cannot be used.
pub fn claim(directory: &Path, subnet: Subnet, instance: &str) -> io::Result<Option<Claim>> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join(subnet.network().to_string()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(instance.as_bytes())?;
            Ok(Some(Claim { _lock: Some(file) }))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            Ok((holder == instance).then_some(Claim { _lock: None }))
        }
        Err(cause) => Err(cause.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_one_installation_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blocks");
        let subnet = Subnet::parse("10.209.0.0/16").unwrap();
        let first = claim(&path, subnet, "aaaa").unwrap();
        assert!(first.is_some());
        assert!(claim(&path, subnet, "bbbb").unwrap().is_none());
        assert!(
            claim(&path, subnet, "aaaa").unwrap().is_some(),
            "a command beside its server"
        );
        drop(first);
        assert!(claim(&path, subnet, "bbbb").unwrap().is_some());
    }
}
