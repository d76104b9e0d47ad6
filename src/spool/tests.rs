use super::*;
use crate::runtime::Stream;
use bytes::Bytes;

fn id() -> CommandId {
    "0190b5a0-0000-7000-8000-000000000001".parse().unwrap()
}

fn spools(dir: &Path, command: u64) -> Spools {
    let limits = Limits {
        command,
        total: 1 << 30,
    };
    Spools::new(dir, limits)
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
    let files = fs::read_dir(dir.path().join("spool/commands").join(id().as_str())).unwrap();
    let kept: u64 = files.flatten().map(|f| f.metadata().unwrap().len()).sum();
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
    let limits = Limits {
        command: 1 << 30,
        total: 0,
    };
    let spools = Spools::new(dir.path(), limits);
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
