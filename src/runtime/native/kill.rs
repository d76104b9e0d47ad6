//! Ending a run with all it started. Its processes carry a tag (see [`super::confine::limits`]) and
//! a mark in their environment. Those that fork faster than they are killed are killed while the
//! container stands still.

use std::collections::{BTreeSet, HashMap};
use std::io::Read as _;

use super::cgroup::{Cgroups, Frozen, kill_each, stats};
use super::confine::{parse_tag, tag_of};
use super::exec::MARK;
use super::process::Stat;

/// Longest environment that is searched.
const ENVIRONMENT: u64 = 4 << 20;
/// Rounds after which the container is made to stand still: nothing else can start in it then, so
/// only a run that outruns its killing is worth it.
const PATIENT: u32 = 25;
/// Looks in a row that must find nothing.
const QUIET: u32 = 3;
/// How often to look for more before giving up.
const ROUNDS: u32 = 500;

/// Kills every process of a run in a control group, and waits until they are gone and the run is no
/// longer `under_way`: it may only just be starting. Blocks. Says whether none is left.
pub(super) fn kill_run(
    cgroups: &Cgroups,
    group: &str,
    exec_id: &str,
    under_way: impl Fn() -> bool,
) -> bool {
    let mut quiet = 0;
    for round in 0..ROUNDS {
        let found = {
            let _frozen = (round >= PATIENT).then(|| Frozen::new(cgroups, group));
            let found = find(&cgroups.processes(group), exec_id);
            kill_each(&found);
            found
        };
        // One may have forked and ended between being listed and being looked at: its child is
        // found by the next look.
        quiet = if found.is_empty() && !under_way() {
            quiet + 1
        } else {
            0
        };
        if quiet == QUIET {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    false
}

fn find(pids: &[i32], exec_id: &str) -> Vec<i32> {
    let (mark, tag) = (format!("{MARK}={exec_id}"), tag_of(exec_id));
    let marked = pids.iter().copied();
    let marked = marked.filter(|&pid| has_tag(pid, tag) || carries(pid, mark.as_bytes()));
    relatives(marked.collect(), &stats(pids))
        .into_iter()
        .collect()
}

/// Whether a process belongs to that run, by its limits or its environment.
pub(super) fn is_of(pid: i32, exec_id: &str) -> bool {
    has_tag(pid, tag_of(exec_id)) || carries(pid, format!("{MARK}={exec_id}").as_bytes())
}

fn has_tag(pid: i32, tag: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/limits"))
        .is_ok_and(|limits| parse_tag(&limits) == Some(tag))
}

fn carries(pid: i32, mark: &[u8]) -> bool {
    let mut environment = Vec::new();
    std::fs::File::open(format!("/proc/{pid}/environ"))
        .and_then(|file| file.take(ENVIRONMENT).read_to_end(&mut environment))
        .is_ok_and(|_| {
            environment
                .split(|&byte| byte == 0)
                .any(|entry| entry == mark)
        })
}

/// Adds to the marked processes those they started: children, however deep, and members of their
/// sessions and groups. A program may overwrite or drop its environment.
fn relatives(mut found: BTreeSet<i32>, all: &HashMap<i32, Stat>) -> BTreeSet<i32> {
    loop {
        let more: Vec<i32> = all
            .iter()
            .filter(|(pid, stat)| {
                !found.contains(pid)
                    && [stat.parent, stat.session, stat.group]
                        .iter()
                        .any(|id| found.contains(id))
            })
            .map(|(&pid, _)| pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(parent: i32, group: i32, session: i32) -> Stat {
        Stat {
            parent,
            group,
            session,
            start_time: 0,
        }
    }

    #[test]
    fn descendants_and_session_members_belong_to_it() {
        let all = HashMap::from([
            (1, stat(0, 1, 1)),
            (10, stat(0, 10, 10)),
            (11, stat(10, 11, 11)),
            (12, stat(11, 11, 11)),
            // Reparented to the init, but still of the session.
            (13, stat(1, 10, 10)),
            (20, stat(1, 20, 20)),
        ]);
        let found = relatives(BTreeSet::from([10]), &all);
        assert_eq!(found, BTreeSet::from([10, 11, 12, 13]));
    }

    #[test]
    fn a_mark_is_matched_whole() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .env(MARK, "abc")
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        // The mark is there once the program is.
        while !carries(pid, format!("{MARK}=abc").as_bytes()) {
            std::thread::yield_now();
        }
        assert!(!carries(pid, format!("{MARK}=ab").as_bytes()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
