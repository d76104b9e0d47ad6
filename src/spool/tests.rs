use std::fs;
use std::time::{Duration, SystemTime};

use super::*;
use crate::runtime::Stream;
use bytes::Bytes;

fn id() -> CommandId {
    numbered(1)
}

fn numbered(n: u32) -> CommandId {
    format!("0190b5a0-0000-7000-8000-{n:012}").parse().unwrap()
}

/// With room on the disk, whatever this machine has.
fn limited(dir: &Path, command: u64, total: u64) -> Spools {
    let mut spools = Spools::new(dir, Limits { command, total });
    spools.tight = |_| false;
    spools
}

fn spools(dir: &Path, command: u64) -> Spools {
    limited(dir, command, 1 << 30)
}

/// Bytes on the disk.
fn size_of(spools: &Spools, id: &CommandId) -> u64 {
    let files = fs::read_dir(spools.path(id)).into_iter().flatten();
    files.flatten().map(|f| f.metadata().unwrap().len()).sum()
}

/// So many pieces of 10 000 bytes.
async fn fill(writer: &mut Writer, pieces: usize) {
    for _ in 0..pieces {
        let piece = Bytes::from(vec![b'x'; 10_000]);
        writer.append(vec![(Stream::Stdout, piece)]).await;
    }
}

/// All that a reader gives until there is nothing more.
fn all(reader: &mut Reader) -> (Vec<u8>, u64) {
    let (mut bytes, mut dropped) = (Vec::new(), 0);
    loop {
        match reader.read().unwrap() {
            Piece::Output(output) => {
                for (_, piece) in output {
                    bytes.extend_from_slice(&piece);
                }
            }
            Piece::Dropped(count) => dropped += count,
            Piece::Nothing => return (bytes, dropped),
        }
    }
}

#[tokio::test]
async fn what_is_written_is_read_in_order_and_by_several() {
    let dir = tempfile::tempdir().unwrap();
    let spools = spools(dir.path(), 1 << 30);
    let mut writer = spools.writer(&id());
    let mut early = spools.reader(&id());
    assert_eq!(early.read().unwrap(), Piece::Nothing);
    let line = (Stream::Stdout, Bytes::from_static(b"out"));
    let fault = (Stream::Stderr, Bytes::from_static(b"err"));
    writer.append(vec![line.clone(), fault.clone()]).await;
    let wanted = Piece::Output(vec![line.clone(), fault.clone()]);
    assert_eq!(early.read().unwrap(), wanted);
    assert_eq!(early.read().unwrap(), Piece::Nothing);
    writer.append(vec![line.clone()]).await;
    assert_eq!(early.read().unwrap(), Piece::Output(vec![line.clone()]));
    let mut late = spools.reader(&id());
    let wanted = Piece::Output(vec![line.clone(), fault, line]);
    assert_eq!(late.read().unwrap(), wanted);
}

#[tokio::test]
async fn many_segments_read_as_one() {
    let dir = tempfile::tempdir().unwrap();
    // Segments of 64 KiB.
    let spools = spools(dir.path(), 2 << 20);
    let mut writer = spools.writer(&id());
    let mut wanted = Vec::new();
    for round in 0..200_u32 {
        let piece = vec![u8::try_from(round % 251).unwrap(); 5_000];
        wanted.extend_from_slice(&piece);
        writer.append(vec![(Stream::Stdout, piece.into())]).await;
    }
    assert!(
        fs::read_dir(dir.path().join("spool/commands").join(id().as_str()))
            .unwrap()
            .count()
            > 5
    );
    assert_eq!(all(&mut spools.reader(&id())), (wanted, 0));
}

#[tokio::test]
async fn past_the_limit_the_oldest_go_and_a_reader_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let spools = spools(dir.path(), 256 * 1024);
    let mut writer = spools.writer(&id());
    let mut slow = spools.reader(&id());
    writer
        .append(vec![(Stream::Stdout, vec![b'a'; 1000].into())])
        .await;
    assert!(matches!(slow.read().unwrap(), Piece::Output(_)));
    for _ in 0..100 {
        writer
            .append(vec![(Stream::Stdout, vec![b'b'; 10_000].into())])
            .await;
    }
    let (bytes, dropped) = all(&mut slow);
    assert!(dropped > 0);
    // Nothing is counted twice, nothing is lost untold.
    assert_eq!(bytes.len() as u64 + dropped, 1_000_000);
    let kept = size_of(&spools, &id());
    assert!(kept <= 256 * 1024 + 64 * 1024, "{kept}");
}

#[tokio::test]
async fn half_a_record_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let spools = spools(dir.path(), 1 << 30);
    let mut writer = spools.writer(&id());
    writer
        .append(vec![(Stream::Stdout, Bytes::from_static(b"whole"))])
        .await;
    let path = spools.path(&id()).join(write::segment_name(0));
    let whole = fs::read(&path).unwrap();
    let mut torn = whole.clone();
    torn.extend_from_slice(&whole[..7]);
    fs::write(&path, torn).unwrap();
    assert_eq!(all(&mut spools.reader(&id())), (b"whole".to_vec(), 0));
}

#[tokio::test]
async fn sweeping_removes_the_old_and_the_oldest_but_nothing_that_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let spools = limited(dir.path(), 1 << 30, 0);
    let mut writer = spools.writer(&id());
    writer
        .append(vec![(Stream::Stdout, Bytes::from_static(b"x"))])
        .await;
    spools.sweep(SystemTime::now()).unwrap();
    assert!(spools.reader(&id()).exists());
    drop(writer);
    spools.sweep(SystemTime::now()).unwrap();
    assert!(!spools.reader(&id()).exists());
}

#[tokio::test]
async fn a_sweep_removes_what_is_a_day_old() {
    let dir = tempfile::tempdir().unwrap();
    let spools = spools(dir.path(), 1 << 30);
    fill(&mut spools.writer(&numbered(1)), 1).await;
    let mut writer = spools.writer(&numbered(2));
    fill(&mut writer, 1).await;
    let now = SystemTime::now();
    spools.sweep(now + Duration::from_secs(23 * 3600)).unwrap();
    assert!(spools.reader(&numbered(1)).exists());
    spools.sweep(now + Duration::from_secs(25 * 3600)).unwrap();
    assert!(!spools.reader(&numbered(1)).exists());
    assert!(spools.reader(&numbered(2)).exists());
}

#[tokio::test]
async fn all_together_are_bounded_and_finished_ones_go_before_those_that_are_written() {
    let dir = tempfile::tempdir().unwrap();
    // Segments of 64 KiB.
    let spools = limited(dir.path(), 2 << 20, 1_500_000);
    for n in [1, 2] {
        fill(&mut spools.writer(&numbered(n)), 30).await;
        let before = SystemTime::now() - Duration::from_secs(3600 - u64::from(n));
        for entry in fs::read_dir(spools.path(&numbered(n))).unwrap() {
            let file = fs::File::open(entry.unwrap().path()).unwrap();
            file.set_modified(before).unwrap();
        }
    }
    let (mut small, mut large) = (spools.writer(&numbered(3)), spools.writer(&numbered(4)));
    fill(&mut small, 40).await;
    fill(&mut large, 60).await;
    // A finished one was enough for that.
    let there = |n| spools.reader(&numbered(n)).exists();
    assert!(there(2) && !there(1), "{} {}", there(1), there(2));
    assert_eq!(all(&mut spools.reader(&numbered(4))).1, 0);
    fill(&mut large, 100).await;
    assert!(!there(2));
    // The largest pays, and its reader is told.
    let (bytes, dropped) = all(&mut spools.reader(&numbered(3)));
    assert_eq!((bytes.len(), dropped), (400_000, 0));
    let (bytes, dropped) = all(&mut spools.reader(&numbered(4)));
    assert!(dropped > 0);
    assert_eq!(bytes.len() as u64 + dropped, 1_600_000);
    let total = size_of(&spools, &numbered(3)) + size_of(&spools, &numbered(4));
    assert!(total <= 1_500_000 + 80_000, "{total}");
    // It goes on where it was.
    fill(&mut large, 1).await;
    let (bytes, dropped) = all(&mut spools.reader(&numbered(4)));
    assert_eq!(bytes.len() as u64 + dropped, 1_610_000);
}

#[tokio::test]
async fn while_the_disk_is_nearly_full_only_a_little_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut spools = limited(dir.path(), 1 << 30, 1 << 30);
    spools.tight = |dir| dir.with_file_name("full").exists();
    let mark = dir.path().join("spool/full");
    fill(&mut spools.writer(&numbered(1)), 1).await;
    let mut writer = spools.writer(&numbered(2));
    fill(&mut writer, 500).await;
    assert_eq!(all(&mut spools.reader(&numbered(2))).1, 0);
    fs::write(&mark, "").unwrap();
    fill(&mut writer, 500).await;
    assert!(!spools.reader(&numbered(1)).exists());
    let kept = size_of(&spools, &numbered(2));
    assert!(kept > 0 && kept < 4 << 20, "{kept}");
    let (bytes, dropped) = all(&mut spools.reader(&numbered(2)));
    assert!(!bytes.is_empty() && dropped > 0);
    assert_eq!(bytes.len() as u64 + dropped, 10_000_000);
    // With room again it grows again.
    fs::remove_file(&mark).unwrap();
    fill(&mut writer, 500).await;
    assert!(size_of(&spools, &numbered(2)) >= 5_000_000);
}

#[tokio::test]
async fn a_listener_misses_nothing_and_goes_off_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let spools = spools(dir.path(), 1 << 30);
    let mut writer = spools.writer(&id());
    let (mut one, mut two) = (spools.listen(&id()), spools.listen(&id()));
    writer
        .append(vec![(Stream::Stdout, Bytes::from_static(b"x"))])
        .await;
    one.changed().await;
    assert_eq!(one.seen(), Tail { output: 1, row: 0 });
    spools.row_changed(&id());
    one.changed().await;
    two.changed().await;
    assert_eq!(two.seen(), Tail { output: 1, row: 1 });
    drop(one);
    assert_eq!(lock(&spools.shared.tails).len(), 1);
    drop(two);
    assert!(lock(&spools.shared.tails).is_empty());
}
