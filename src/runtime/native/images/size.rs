//! What a directory takes on disk.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a tree, blocks counted once however many names a file has.
///
/// # Errors
/// When a directory cannot be read.
pub fn size(root: &Path) -> io::Result<u64> {
    let mut total = 0;
    let mut counted = HashSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let found = entry.metadata()?;
            if found.nlink() > 1 && !found.is_dir() && !counted.insert((found.dev(), found.ino())) {
                continue;
            }
            total += found.blocks() * 512;
            if found.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(total)
}
