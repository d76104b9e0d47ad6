//! Which system calls a container may make: an allow-list, so that a call the kernel learns
//! tomorrow is refused until somebody has thought about it. To allow one more, add it to the group
//! it belongs to and say there why it is safe in a user namespace.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

/// Files, directories and their attributes.
const FILES: &str = "access chdir chmod chown chown32 close close_range copy_file_range creat dup \
    dup2 dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat \
    fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr \
    file_setattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs \
    fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr \
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown \
    lchown32 lgetxattr link linkat listxattr listxattrat llistxattr _llseek lremovexattr lseek \
    lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat oldfstat \
    oldlstat oldstat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read \
    readahead readdir readlink readlinkat readv removexattr removexattrat rename renameat \
    renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 \
    statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs tee truncate truncate64 \
    umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev \
    fanotify_mark";

/// Memory. `userfaultfd` stays out: it makes kernel races easy to win.
const MEMORY: &str = "brk madvise membarrier memfd_create memfd_secret mincore mlock mlock2 \
    mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc \
    pkey_free pkey_mprotect map_shadow_stack process_madvise process_mrelease remap_file_pages \
    shmat shmctl shmdt shmget cachestat get_mempolicy set_mempolicy mbind \
    set_mempolicy_home_node";

/// Processes, threads, credentials, limits, scheduling. `ptrace` and its kin reach only what is in
/// the same user namespace. `reboot` ends the container: its pid namespace is never the host's.
/// `chroot` needs a capability and only narrows.
const PROCESSES: &str = "alarm arch_prctl capget capset chroot execve execveat exit exit_group \
    fork futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list \
    get_thread_area getcpu getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups \
    getgroups32 getitimer getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 \
    getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get \
    ioprio_set kcmp kill landlock_add_rule landlock_create_ruleset landlock_restrict_self \
    modify_ldt nice pause pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64 \
    process_vm_readv process_vm_writev ptrace reboot restart_syscall rseq rt_sigaction \
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min \
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address \
    setdomainname setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 \
    sethostname setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 \
    setresuid setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sgetmask \
    sigaction sigaltstack signal signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend \
    ssetmask sysinfo tgkill times tkill ugetrlimit uname vfork vhangup wait4 waitid waitpid";

/// Time. The clock can be read, not set: setting needs the host's capability anyway.
const TIME: &str = "adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 \
    clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 gettimeofday nanosleep \
    time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64";

/// Sockets, pipes, queues, waiting. `io_uring` stays out: it goes round this filter and has been
/// the way out of many a sandbox.
const TALKING: &str = "accept accept4 bind connect epoll_create epoll_create1 epoll_ctl \
    epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 \
    getpeername getsockname getsockopt io_cancel io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 io_setup io_submit ipc listen mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl \
    msgget msgrcv msgsnd _newselect pipe pipe2 poll ppoll ppoll_time64 pselect6 pselect6_time64 \
    recv recvfrom recvmmsg recvmmsg_time64 recvmsg select semctl semget semop semtimedop \
    semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair";

/// Flags of `clone` that make namespaces. Everything but a user namespace needs a capability the
/// container does not have; a user namespace would give all of them inside, and with them the parts
/// of the kernel where most holes are found.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;
/// Address families: a container has no use for the host's virtual machine sockets.
const AF_VSOCK: u64 = 40;
/// Personalities that only change what `uname` says or how memory is laid out.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The filter every process of a container runs under.
///
/// # Errors
/// When the description is not a valid one, which the tests rule out.
pub(super) fn filter() -> Result<LinuxSeccomp, OciSpecError> {
    let names = [FILES, MEMORY, PROCESSES, TIME, TALKING]
        .iter()
        .flat_map(|group| group.split_ascii_whitespace())
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let mut rules = vec![
        LinuxSyscallBuilder::default()
            .names(names)
            .action(LinuxSeccompAction::ScmpActAllow)
            .build()?,
    ];
    rules.push(allow_if(
        "clone",
        0,
        CLONE_NAMESPACES,
        LinuxSeccompOperator::ScmpCmpMaskedEq,
    )?);
    rules.push(allow_if(
        "socket",
        0,
        AF_VSOCK,
        LinuxSeccompOperator::ScmpCmpNe,
    )?);
    for personality in PERSONALITIES {
        rules.push(allow_if(
            "personality",
            0,
            personality,
            LinuxSeccompOperator::ScmpCmpEq,
        )?);
    }
    // Its flags lie in memory, where a filter cannot look: as if the kernel did not know the call,
    // upon which every C library falls back to clone.
    rules.push(
        LinuxSyscallBuilder::default()
            .names(vec!["clone3".to_owned()])
            .action(LinuxSeccompAction::ScmpActErrno)
            .errno_ret(libc::ENOSYS.cast_unsigned())
            .build()?,
    );
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(libc::EPERM.cast_unsigned())
        .architectures(architectures())
        .syscalls(rules)
        .build()
}

fn allow_if(
    name: &str,
    index: usize,
    value: u64,
    op: LinuxSeccompOperator,
) -> Result<LinuxSyscall, OciSpecError> {
    let arg = LinuxSeccompArgBuilder::default()
        .index(index)
        .value(value)
        .op(op);
    let arg = if op == LinuxSeccompOperator::ScmpCmpMaskedEq {
        arg.value_two(0_u64)
    } else {
        arg
    };
    LinuxSyscallBuilder::default()
        .names(vec![name.to_owned()])
        .action(LinuxSeccompAction::ScmpActAllow)
        .args(vec![arg.build()?])
        .build()
}

/// The machine's own and its 32-bit brother, for which distributions still ship programs.
fn architectures() -> Vec<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86],
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        "riscv64" => vec![Arch::ScmpArchRiscv64],
        "powerpc64" => vec![Arch::ScmpArchPpc64le],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn allowed() -> BTreeSet<String> {
        filter()
            .unwrap()
            .syscalls()
            .iter()
            .flatten()
            .filter(|rule| rule.action() == LinuxSeccompAction::ScmpActAllow)
            .filter(|rule| rule.args().is_none())
            .flat_map(|rule| rule.names().clone())
            .collect()
    }

    #[test]
    fn what_breaks_out_is_refused() {
        let allowed = allowed();
        for name in "bpf clone clone3 add_key keyctl request_key kexec_load kexec_file_load \
            init_module finit_module delete_module open_by_handle_at perf_event_open \
            userfaultfd io_uring_setup io_uring_enter mount umount2 move_mount open_tree fsopen \
            pivot_root setns unshare swapon settimeofday clock_settime syslog acct quotactl iopl \
            ioperm fanotify_init lookup_dcookie"
            .split_ascii_whitespace()
        {
            assert!(!allowed.contains(name), "{name}");
        }
    }

    #[test]
    fn what_every_program_needs_is_allowed() {
        let allowed = allowed();
        for name in "read write openat close mmap brk execve exit_group wait4 getrandom futex \
            newfstatat rt_sigaction fork vfork pipe2 poll statx rseq prctl fsync chown setuid"
            .split_ascii_whitespace()
        {
            assert!(allowed.contains(name), "{name}");
        }
    }

    #[test]
    fn each_name_stands_once() {
        let names: Vec<_> = [FILES, MEMORY, PROCESSES, TIME, TALKING]
            .iter()
            .flat_map(|group| group.split_ascii_whitespace())
            .collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
