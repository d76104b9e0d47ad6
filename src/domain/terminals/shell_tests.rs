//! A shell whose terminal is a pipe of ours.

use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::oneshot;

use super::*;
use crate::app::SystemClock;
use crate::auth::actor::{AuthMethod, Credential};
use crate::domain::ids::{TokenId, UserId};
use crate::domain::users::Role;
use crate::runtime::{RuntimeError, TerminalWindow};

struct NoWindow;

#[async_trait::async_trait]
impl TerminalWindow for NoWindow {
    async fn resize(&self, _: TerminalSize) -> Result<(), RuntimeError> {
        Ok(())
    }
}

/// The far end: what the program in the container has.
struct Far {
    printing: DuplexStream,
    _typed: DuplexStream,
    end: oneshot::Sender<()>,
}

fn shell(session: Option<&str>) -> (Arc<Shell>, Lines, Far) {
    let (printing, output) = duplex(4096);
    let (input, typed) = duplex(4096);
    let (end, ended) = oneshot::channel();
    let terminal = Terminal {
        output: Box::pin(output),
        input: Box::pin(input),
        window: Box::new(NoWindow),
        ended,
    };
    let now = chrono::Utc::now();
    let caller = Caller {
        user_id: UserId::new(now),
        email: String::new(),
        display_name: String::new(),
        role: Role::User,
        auth_method: AuthMethod::PersonalToken,
        credential: Credential::PersonalToken {
            id: TokenId::new(now),
        },
        scopes: None,
    };
    let session = session.map(|name| SessionName::parse(name).unwrap());
    let (shell, lines) = Shell::new(
        "a".into(),
        ContainerId::new(now),
        caller,
        session,
        Arc::new(SystemClock),
        terminal,
        TerminalSize { cols: 80, rows: 24 },
    );
    let far = Far {
        printing,
        _typed: typed,
        end,
    };
    (shell, lines, far)
}

fn here(shell: &Arc<Shell>, since: Option<u64>) -> Viewer {
    match shell.attach(since) {
        Attached::Here(viewer) => viewer,
        Attached::Over | Attached::Full => panic!("no viewer"),
    }
}

fn spawn(shell: &Arc<Shell>, lines: Lines, idle: Duration) -> tokio::task::JoinHandle<Ending> {
    let shell = Arc::clone(shell);
    tokio::spawn(async move {
        let why = shell.run(lines, idle).await;
        shell.close(why);
        why
    })
}

const LONG: Duration = Duration::from_secs(600);

/// Everything until the end.
async fn all(viewer: &mut Viewer) -> (Vec<u8>, Ending) {
    let mut seen = Vec::new();
    loop {
        match viewer.next().await {
            Shown::Output(bytes) => {
                seen.extend_from_slice(&bytes);
                viewer.shell().seen(viewer.key(), viewer.at());
            }
            Shown::Resized(_) => {}
            Shown::Ended(why) => return (seen, why),
            Shown::TooSlow => panic!("let go"),
        }
    }
}

#[tokio::test]
async fn every_viewer_sees_all_of_a_flood() {
    let (shell, lines, mut far) = shell(None);
    let (mut one, mut two) = (here(&shell, None), here(&shell, None));
    let running = spawn(&shell, lines, LONG);
    let text: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let printed = text.clone();
    tokio::spawn(async move {
        far.printing.write_all(&printed).await.unwrap();
        far.end.send(()).unwrap();
    });
    let slow = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        all(&mut two).await
    };
    let (first, second) = tokio::join!(all(&mut one), slow);
    assert!(first.0 == text && second.0 == text, "a byte is missing");
    assert_eq!((first.1, second.1), (Ending::Exited, Ending::Exited));
    assert_eq!(running.await.unwrap(), Ending::Exited);
}

#[tokio::test]
async fn who_comes_in_a_flood_misses_nothing_from_where_it_begins() {
    let (shell, _lines, _far) = shell(Some("a"));
    let line = b"123456789\n";
    let lines = |count: usize| line.repeat(count);
    shell.print(&lines(2 * REPLAY / line.len()));
    // A piece was read before, and is printed only after someone came.
    let mut viewer = here(&shell, None);
    assert!(viewer.replay > (REPLAY - 2 * line.len()) as u64);
    shell.print(&lines(CHUNK / line.len()));
    let Shown::Output(bytes) = viewer.next().await else {
        panic!("no output");
    };
    assert!(bytes.starts_with(line), "from the middle of a line");
    assert_eq!(viewer.at(), viewer.begin + bytes.len() as u64);
}

#[tokio::test]
async fn without_viewers_it_goes_on_and_the_last_is_kept() {
    let (shell, lines, mut far) = shell(Some("a"));
    let running = spawn(&shell, lines, LONG);
    far.printing.write_all(&vec![b'x'; REPLAY]).await.unwrap();
    far.printing.write_all(b"\nthe end").await.unwrap();
    far.end.send(()).unwrap();
    // Whoever came before its end sees it, however late.
    let mut viewer = here(&shell, Some(REPLAY as u64 - 5));
    drop(far.printing);
    assert_eq!(running.await.unwrap(), Ending::Exited);
    let (seen, _) = all(&mut viewer).await;
    let text = String::from_utf8(seen).unwrap();
    assert!(text.ends_with("the end"), "{}", text.len());
}

#[tokio::test]
async fn one_without_a_name_ends_with_its_viewer() {
    let (shell, lines, _far) = shell(None);
    let viewer = here(&shell, None);
    let running = spawn(&shell, lines, LONG);
    drop(viewer);
    assert_eq!(running.await.unwrap(), Ending::Left);
    assert!(matches!(shell.attach(None), Attached::Over));
}

#[tokio::test]
async fn one_that_nobody_looks_at_ends() {
    let (shell, lines, _far) = shell(Some("a"));
    let running = spawn(&shell, lines, Duration::from_millis(20));
    assert_eq!(running.await.unwrap(), Ending::Idle);
}

#[tokio::test]
async fn characters_arrive_whole_and_sizes_are_told() {
    let (shell, lines, mut far) = shell(Some("a"));
    let mut viewer = here(&shell, None);
    let running = spawn(&shell, lines, LONG);
    far.printing.write_all(b"a\xf0\x9f").await.unwrap();
    let Shown::Output(first) = viewer.next().await else {
        panic!("no output");
    };
    assert_eq!(first, "a");
    far.printing.write_all(b"\x98\x80").await.unwrap();
    let Shown::Output(second) = viewer.next().await else {
        panic!("no output");
    };
    assert_eq!(second, "😀");
    // What never becomes one is not kept back for ever.
    far.printing.write_all(b"\xf0\x9f").await.unwrap();
    assert_eq!(
        viewer.next().await,
        Shown::Output(Bytes::from_static(b"\xf0\x9f"))
    );
    let size = TerminalSize { cols: 7, rows: 3 };
    shell.resize(size);
    assert_eq!(viewer.next().await, Shown::Resized(size));
    shell.end(Ending::Asked);
    assert_eq!(viewer.next().await, Shown::Ended(Ending::Asked));
    assert_eq!(running.await.unwrap(), Ending::Asked);
}
