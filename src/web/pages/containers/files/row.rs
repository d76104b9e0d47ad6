//! A file as a row of the list, and the order of the rows.
//!
//! To show more of a file, add a field to [`Row`]; to sort by more, a case to [`compare`].

use std::cmp::Ordering;

use super::place::{Place, Sort, join};
use crate::domain::files::{FileInfo, FileKind};
use crate::web::pages::say::{self, When};
use crate::web::pages::shell::Frame;

/// A row of the list.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: String,
    pub path: String,
    pub href: String,
    pub kind: FileKind,
    pub size: String,
    pub mode: String,
    /// As `ls` has it.
    pub mode_words: String,
    pub owner: String,
    pub modified: When,
    pub target: Option<String>,
    /// Whether its menu is open, because what was asked there was refused.
    pub open: bool,
}

impl Row {
    pub(super) fn of(frame: &Frame, page: &Place, info: FileInfo, open: Option<&str>) -> Self {
        let path = join(&page.path, &info.name);
        Self {
            href: page.href_at(&path),
            kind: info.kind,
            size: match info.kind {
                FileKind::File => say::bytes(info.size),
                _ => String::new(),
            },
            mode: format!("{:04o}", info.mode),
            mode_words: mode_words(info.mode),
            owner: owner(&info),
            modified: When {
                at: info.modified,
                now: frame.ctx.now().utc(),
            },
            target: info.target,
            open: open == Some(path.as_str()),
            name: info.name,
            path,
        }
    }

    #[must_use]
    pub fn icon(&self) -> &'static str {
        match self.kind {
            FileKind::Directory => "folder",
            FileKind::File => "file",
            FileKind::Symlink => "link",
            FileKind::Device | FileKind::Fifo | FileKind::Socket => "plug",
        }
    }

    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }
}

/// `rwxr-xr-x`, with the letters of `ls` for the other three bits.
fn mode_words(mode: u32) -> String {
    let bits = [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ];
    let mut words = String::with_capacity(9);
    for (shift, special, with, without) in bits {
        let three = mode >> shift;
        words.push(if three & 4 == 0 { '-' } else { 'r' });
        words.push(if three & 2 == 0 { '-' } else { 'w' });
        words.push(match (mode & special != 0, three & 1 != 0) {
            (true, true) => with,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    words
}

/// By number: names are the container's own affair, but root is root everywhere.
fn owner(info: &FileInfo) -> String {
    let name = |id: u32| match id {
        0 => "root".to_owned(),
        other => other.to_string(),
    };
    if info.uid == info.gid {
        name(info.uid)
    } else {
        format!("{}:{}", name(info.uid), name(info.gid))
    }
}

pub(super) fn compare(a: &FileInfo, b: &FileInfo, sort: Sort) -> Ordering {
    let by_name = || {
        let folded = a.name.to_lowercase().cmp(&b.name.to_lowercase());
        folded.then_with(|| a.name.cmp(&b.name))
    };
    match sort {
        Sort::Name => by_name(),
        Sort::Size => a.size.cmp(&b.size).then_with(by_name),
        Sort::Time => a.modified.cmp(&b.modified).then_with(by_name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_in_ls() {
        assert_eq!(mode_words(0o644), "rw-r--r--");
        assert_eq!(mode_words(0o4755), "rwsr-xr-x");
        assert_eq!(mode_words(0o1777), "rwxrwxrwt");
        assert_eq!(mode_words(0o2640), "rw-r-S---");
    }
}
