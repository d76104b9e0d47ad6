//! Hostile and odd archives. What unpacks needs root, as it changes its root directory; without,
//! there is nothing to see.

use std::os::unix::fs::MetadataExt;

use super::*;

/// Builds an archive of entries.
struct Maker(tar::Builder<Vec<u8>>);

impl Maker {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// With the name as it is: the library itself refuses the ones that are tested here.
    fn entry(mut self, name: &str, kind: EntryType, link: &str, data: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory {
            0o755
        } else {
            0o4644
        });
        header.set_uid(if name == "huge" { 1_000_650_000 } else { 7 });
        header.set_gid(8);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data.as_bytes()).unwrap();
        self
    }

    fn file(self, name: &str) -> Self {
        self.entry(name, EntryType::Regular, "", name)
    }

    fn dir(self, name: &str) -> Self {
        self.entry(name, EntryType::Directory, "", "")
    }

    fn symlink(self, name: &str, to: &str) -> Self {
        self.entry(name, EntryType::Symlink, to, "")
    }

    fn hard_link(self, name: &str, to: &str) -> Self {
        self.entry(name, EntryType::Link, to, "")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Unpacks archives over one another; none without root.
fn unpacked(
    archives: Vec<Vec<u8>>,
    whiteouts: bool,
) -> Option<(tempfile::TempDir, Result<(), Problem>)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let mut list = Vec::new();
    for (number, bytes) in archives.into_iter().enumerate() {
        let file = directory.path().join(format!("{number}.tar"));
        std::fs::write(&file, bytes).unwrap();
        list.push(Archive { file, whiteouts });
    }
    let result = unpack(&root, &list, &Arc::default());
    Some((directory, result))
}

/// What the tree has, but directories, sorted.
fn files(directory: &tempfile::TempDir) -> Vec<String> {
    let root = directory.path().join("root");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.push(
                    entry
                        .path()
                        .strip_prefix(&root)
                        .unwrap()
                        .display()
                        .to_string(),
                );
            }
        }
    }
    found.sort();
    found
}

fn is_broken(result: &Result<(), Problem>) -> bool {
    matches!(result, Err(Problem::Broken(_)))
}

#[test]
fn nothing_leads_outside() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().display().to_string();
    let up = format!("{}{target}", "../".repeat(12));
    let archive = Maker::new()
        .symlink("absolute", &target)
        .symlink("upward", &up)
        .symlink("self", "/proc/self/root")
        .file("absolute/one")
        .file("upward/two")
        .file("self/three")
        .file("/four")
        .bytes();
    let Some((directory, result)) = unpacked(vec![archive], false) else {
        return;
    };
    result.unwrap();
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(directory.path().join("root/four").is_file());
    assert!(!Path::new("/four").exists() && !Path::new("/three").exists());
}

#[test]
fn names_that_mean_to_leave_are_refused() {
    for name in ["../out", "a/../../out", "/../out", ".."] {
        let Some((directory, result)) = unpacked(vec![Maker::new().file(name).bytes()], false)
        else {
            return;
        };
        assert!(is_broken(&result), "{name}: {result:?}");
        assert!(!directory.path().join("out").exists());
    }
    for target in ["/etc/passwd", "../../../../etc/passwd", "missing"] {
        let archive = Maker::new().hard_link("stolen", target).bytes();
        let Some((_directory, result)) = unpacked(vec![archive], false) else {
            return;
        };
        assert!(is_broken(&result), "{target}: {result:?}");
    }
    // A whiteout has no way up either.
    let archive = Maker::new()
        .file("keep")
        .file("a/.wh...")
        .file("a/.wh..")
        .file(".wh.")
        .bytes();
    let Some((directory, result)) = unpacked(vec![archive], true) else {
        return;
    };
    result.unwrap();
    assert_eq!(files(&directory), ["keep"]);
}

#[test]
fn entries_come_out_as_they_went_in() {
    let archive = Maker::new()
        .dir("./")
        .dir("d")
        .file("d/plain")
        .hard_link("d/same", "d/plain")
        .symlink("d/link", "plain")
        .entry("device", EntryType::Block, "", "")
        .entry("pipe", EntryType::Fifo, "", "")
        .file("huge")
        .file("deep/er/still")
        .bytes();
    let Some((directory, result)) = unpacked(vec![archive], false) else {
        return;
    };
    result.unwrap();
    let root = directory.path().join("root");
    assert_eq!(
        files(&directory),
        [
            "d/link",
            "d/plain",
            "d/same",
            "deep/er/still",
            "huge",
            "pipe"
        ]
    );
    let plain = std::fs::metadata(root.join("d/plain")).unwrap();
    assert_eq!(
        (
            plain.uid(),
            plain.gid(),
            plain.mode() & 0o7777,
            plain.nlink(),
            plain.mtime()
        ),
        (7, 8, 0o4644, 2, 1_000_000)
    );
    assert_eq!(std::fs::metadata(root.join("huge")).unwrap().uid(), 65_534);
    assert_eq!(
        std::fs::read_link(root.join("d/link")).unwrap(),
        Path::new("plain")
    );
}

#[test]
fn layers_cover_and_remove() {
    let below = Maker::new()
        .file("gone")
        .file("dir/a")
        .file("dir/b")
        .file("opaque/old")
        .file("opaque/sub/old")
        .file("turns/into/file")
        .file("turned")
        .symlink("link", "dir")
        .bytes();
    let above = Maker::new()
        .file(".wh.gone")
        .file("dir/.wh.a")
        // The new ones before the marker: it means the lower ones only.
        .file("opaque/new")
        .file("opaque/sub/new")
        .file("opaque/.wh..wh..opq")
        .file(".wh..wh.plnk")
        .file("turns")
        .file("turned/into/dir")
        .dir("link")
        .file("link/own")
        .file("missing/.wh.never")
        .bytes();
    let Some((directory, result)) = unpacked(vec![below, above], true) else {
        return;
    };
    result.unwrap();
    assert_eq!(
        files(&directory),
        [
            "dir/b",
            "link/own",
            "opaque/new",
            "opaque/sub/new",
            "turned/into/dir",
            "turns"
        ]
    );
}

#[test]
fn damage_is_told_from_a_broken_machine() {
    let whole = Maker::new().file("a").bytes();
    let Some((_directory, result)) = unpacked(vec![b"no archive at all".repeat(100)], false) else {
        return;
    };
    assert!(is_broken(&result), "{result:?}");
    for bytes in [
        Vec::new(),
        vec![0; 1024],
        [b"BZh9".as_slice(), &whole].concat(),
        [[0x1f, 0x8b, 8].as_slice(), &whole].concat(),
        whole[..520].to_vec(),
    ] {
        let (_directory, result) = unpacked(vec![bytes], false).unwrap();
        assert!(is_broken(&result), "{result:?}");
    }
    // As a layer, an archive that changes nothing is sound.
    let (_directory, result) = unpacked(vec![vec![0; 1024]], true).unwrap();
    result.unwrap();
}

#[test]
fn every_compression_is_known() {
    use std::io::Write as _;
    let plain = Maker::new().file("a").bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for bytes in [plain, gzip.finish().unwrap(), zstd] {
        let Some((directory, result)) = unpacked(vec![bytes], false) else {
            return;
        };
        result.unwrap();
        assert_eq!(files(&directory), ["a"]);
    }
}

#[test]
fn an_abandoned_one_stops() {
    let directory = tempfile::tempdir().unwrap();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let file = directory.path().join("a.tar");
    std::fs::write(&file, Maker::new().file("a").bytes()).unwrap();
    let watch = Arc::new(Watch::default());
    watch.abandoned.store(true, Ordering::Relaxed);
    let root = directory.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let result = unpack(
        &root,
        &[Archive {
            file,
            whiteouts: false,
        }],
        &watch,
    );
    assert!(matches!(result, Err(Problem::Abandoned)));
    assert!(!root.join("a").exists());
}
