//! The store, filled from small tarballs. Unpacking needs root; without, there is nothing to see.

use super::build::Build;
use super::*;
use crate::runtime::{ImageSource, PreparedImage};

/// A store, and a tarball whose `/etc/os-release` says `name`; none without root.
struct Fixture {
    directory: tempfile::TempDir,
    store: ImageStore,
}

impl Fixture {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut store = ImageStore::new(directory.path().join("images"));
        store.settling = Duration::ZERO;
        Some(Self { directory, store })
    }

    fn tarball(&self, name: &str, files: &[&str]) -> ImageSource {
        let path = self.directory.path().join(format!("{name}.tar"));
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        let release = format!("NAME=x\nPRETTY_NAME=\"{name}\"\n");
        for (file, data) in files
            .iter()
            .map(|it| (*it, "#!"))
            .chain([("etc/os-release", release.as_str())])
        {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(data.len() as u64);
            builder
                .append_data(&mut header, file, data.as_bytes())
                .unwrap();
        }
        builder.finish().unwrap();
        ImageSource::Tarball(path)
    }

    async fn prepare(&self, source: &ImageSource) -> Result<PreparedImage, RuntimeError> {
        self.store.prepare("box", source, Arc::new(|_, _| {})).await
    }

    /// What the store's directory has.
    fn entries(&self) -> Vec<String> {
        let mut found: Vec<String> = std::fs::read_dir(&self.store.directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != ".lock")
            .collect();
        found.sort();
        found
    }
}

#[tokio::test]
async fn a_new_one_does_not_take_the_old_ones_files() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let made = fixture
        .prepare(&fixture.tarball("first", &["bin/sh"]))
        .await
        .unwrap();
    assert_eq!(made.description, "first");
    assert!(made.size_bytes > 0);
    let first = fixture.store.open("box").unwrap();
    assert_eq!(first.init, Init::Fallback);
    fixture
        .prepare(&fixture.tarball("second", &["bin/sh", "sbin/init"]))
        .await
        .unwrap();
    let second = fixture.store.open("box").unwrap();
    assert_eq!(second.description, "second");
    assert!(matches!(second.init, Init::Own { .. }));
    assert!(first.rootfs.join("bin/sh").is_file());

    let kept = fixture
        .store
        .collect(std::slice::from_ref(&first.rootfs))
        .await
        .unwrap();
    assert!(kept.is_empty(), "{kept:?}");
    // As when a container is being made from it, which nobody has in a list yet.
    let kept = fixture.store.collect(&[]).await.unwrap();
    assert!(kept.is_empty(), "{kept:?}");
    let old = first.rootfs.clone();
    drop(first);
    let removed = fixture.store.collect(&[]).await.unwrap();
    assert_eq!(removed, ["box/rootfs.1"]);
    assert!(!old.exists() && second.rootfs.exists());
    assert_eq!(fixture.entries(), ["box"]);

    fixture.store.remove("box").await.unwrap();
    fixture.store.remove("box").await.unwrap();
    assert!(matches!(
        fixture.store.open("box"),
        Err(RuntimeError::ImageMissing(_))
    ));
    assert!(fixture.entries().is_empty());
}

#[tokio::test]
async fn one_that_was_made_from_a_moment_ago_is_left_alone() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    fixture.store.settling = Duration::from_secs(60);
    for name in ["first", "second"] {
        let source = fixture.tarball(name, &["bin/sh"]);
        fixture.prepare(&source).await.unwrap();
        drop(fixture.store.open("box").unwrap());
    }
    assert!(fixture.store.collect(&[]).await.unwrap().is_empty());
    fixture.store.settling = Duration::ZERO;
    let removed = fixture.store.collect(&[]).await.unwrap();
    assert_eq!(removed, ["box/rootfs.1"]);
}

#[tokio::test]
async fn a_broken_source_leaves_the_old_one_and_nothing_else() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fixture
        .prepare(&fixture.tarball("good", &["bin/sh"]))
        .await
        .unwrap();
    let missing = ImageSource::Tarball(fixture.directory.path().join("missing.tar"));
    for source in [fixture.tarball("shell-less", &["bin/ls"]), missing] {
        let refused = fixture.prepare(&source).await;
        assert!(
            matches!(refused, Err(RuntimeError::ImageBroken { .. })),
            "{refused:?}"
        );
    }
    let refused = fixture
        .store
        .prepare("../x", &ImageSource::Default, Arc::new(|_, _| {}))
        .await;
    assert!(matches!(refused, Err(RuntimeError::ImageBroken { .. })));
    assert_eq!(fixture.store.open("box").unwrap().description, "good");
    assert_eq!(fixture.entries(), ["box"]);
}

#[tokio::test]
async fn what_a_crash_left_is_swept_and_what_is_at_work_is_not() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let left = fixture.store.directory.join(".new-0123");
    std::fs::create_dir_all(left.join("rootfs/etc")).unwrap();
    std::fs::write(left.join("lock"), "").unwrap();
    let busy = Build::begin(&fixture.store.directory).unwrap();
    fixture
        .prepare(&fixture.tarball("good", &["bin/sh"]))
        .await
        .unwrap();
    assert!(!left.exists());
    assert!(busy.directory.exists());
    busy.remove();
    assert_eq!(fixture.entries(), ["box"]);
}

#[test]
fn what_cannot_be_a_name_is_missing() {
    let store = ImageStore::new("/nonexistent".into());
    for name in ["", "..", "a/b", "box"] {
        assert!(
            matches!(store.open(name), Err(RuntimeError::ImageMissing(_))),
            "{name}"
        );
    }
}
