"""What a process that serves clients never asks of the kernel, by processor.

Numbers from the kernel's tables (arch/x86/entry/syscalls, include/uapi/asm-generic/unistd.h); they
never change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SINCE_424: Final = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "fspick": 433, "pidfd_open": 434, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "quotactl_fd": 443, "process_mrelease": 448, "fchmodat2": 452,
    "statmount": 457, "listmount": 458, "setxattrat": 463, "removexattrat": 466,
    "open_tree_attr": 467,
}  # fmt: skip
"""From here on all processors have the same numbers."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of processor.

    Attributes:
        audit_arch: What seccomp calls it (linux/audit.h).
        has_x32: Whether its table is there twice, with a bit set in the number.
        denied: The calls that are never allowed.
        judged: The calls whose arguments decide.
        seccomp: The number of the call that installs a filter.
    """

    audit_arch: int
    has_x32: bool
    denied: Mapping[str, int]
    judged: Mapping[str, int]
    seccomp: int


X86_64: Final = Machine(
    audit_arch=0xC000_003E,
    has_x32=True,
    denied={
        # Other programs and processes.
        "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "ptrace": 101,
        "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "tkill": 200,
        "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
        # Who it is.
        "setuid": 105, "setgid": 106, "setreuid": 113, "setregid": 114, "setresuid": 117,
        "setresgid": 119, "setgroups": 116, "setfsuid": 122, "setfsgid": 123, "capset": 126,
        "personality": 135, "keyctl": 250, "add_key": 248, "request_key": 249,
        # The machine.
        "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "setns": 308,
        "unshare": 272, "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170,
        "setdomainname": 171, "init_module": 175, "finit_module": 313, "delete_module": 176,
        "kexec_load": 246, "kexec_file_load": 320, "acct": 163, "quotactl": 179, "iopl": 172,
        "ioperm": 173, "syslog": 103, "settimeofday": 164, "clock_settime": 227, "adjtimex": 159,
        "clock_adjtime": 305, "vhangup": 153, "uselib": 134, "sysfs": 139, "_sysctl": 156,
        "create_module": 174, "get_kernel_syms": 177, "query_module": 178, "nfsservctl": 180,
        "lookup_dcookie": 212, "migrate_pages": 256, "move_pages": 279,
        # What kernels have been broken through.
        "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "modify_ldt": 154, "vmsplice": 278,
        # Files by name, beyond reading.
        "open_by_handle_at": 304, "name_to_handle_at": 303, "creat": 85, "mkdir": 83,
        "mkdirat": 258, "rmdir": 84, "unlink": 87, "unlinkat": 263, "rename": 82, "renameat": 264,
        "renameat2": 316, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266, "mknod": 133,
        "mknodat": 259, "chmod": 90, "fchmod": 91, "fchmodat": 268, "chown": 92, "fchown": 93,
        "lchown": 94, "fchownat": 260, "truncate": 76, "utime": 132, "utimes": 235,
        "utimensat": 280, "futimesat": 261, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
        "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "chdir": 80, "fchdir": 81,
        "inotify_init": 253, "inotify_init1": 294, "fanotify_init": 300,
        # Ways to other processes.
        "bind": 49, "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "semop": 65,
        "semctl": 66, "semtimedop": 220, "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71,
        "mq_open": 240, "mq_unlink": 241,
        **_SINCE_424,
    },
    judged={
        "open": 2, "ioctl": 16, "socket": 41, "clone": 56, "kill": 62, "prctl": 157, "tgkill": 234,
        "openat": 257, "clone3": 435, "openat2": 437,
    },
    seccomp=317,
)  # fmt: skip

AARCH64: Final = Machine(
    audit_arch=0xC000_00B7,
    has_x32=False,
    denied={
        "execve": 221, "execveat": 281, "ptrace": 117, "process_vm_readv": 270,
        "process_vm_writev": 271, "kcmp": 272, "tkill": 130, "rt_sigqueueinfo": 138,
        "rt_tgsigqueueinfo": 240,
        "setuid": 146, "setgid": 144, "setreuid": 145, "setregid": 143, "setresuid": 147,
        "setresgid": 149, "setgroups": 159, "setfsuid": 151, "setfsgid": 152, "capset": 91,
        "personality": 92, "keyctl": 219, "add_key": 217, "request_key": 218,
        "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "setns": 268, "unshare": 97,
        "swapon": 224, "swapoff": 225, "reboot": 142, "sethostname": 161, "setdomainname": 162,
        "init_module": 105, "finit_module": 273, "delete_module": 106, "kexec_load": 104,
        "kexec_file_load": 294, "acct": 89, "quotactl": 60, "syslog": 116, "settimeofday": 170,
        "clock_settime": 112, "adjtimex": 171, "clock_adjtime": 266,
        "vhangup": 58, "nfsservctl": 42, "lookup_dcookie": 18, "migrate_pages": 238,
        "move_pages": 239,
        "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "vmsplice": 75,
        "open_by_handle_at": 265, "name_to_handle_at": 264, "mkdirat": 34, "unlinkat": 35,
        "renameat": 38, "renameat2": 276, "linkat": 37, "symlinkat": 36, "mknodat": 33,
        "fchmod": 52, "fchmodat": 53, "fchown": 55, "fchownat": 54, "truncate": 45,
        "utimensat": 88, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14,
        "lremovexattr": 15, "fremovexattr": 16, "chdir": 49, "fchdir": 50, "inotify_init1": 26,
        "fanotify_init": 262,
        "bind": 200, "shmget": 194, "shmat": 196, "shmctl": 195, "semget": 190, "semop": 193,
        "semctl": 191, "semtimedop": 192, "msgget": 186, "msgsnd": 189, "msgrcv": 188,
        "msgctl": 187, "mq_open": 180, "mq_unlink": 181,
        **_SINCE_424,
    },
    judged={
        "ioctl": 29, "openat": 56, "kill": 129, "tgkill": 131, "prctl": 167, "socket": 198,
        "clone": 220, "clone3": 435, "openat2": 437,
    },
    seccomp=277,
)  # fmt: skip

MACHINES: Final[Mapping[str, Machine]] = {"x86_64": X86_64, "aarch64": AARCH64}
"""By what uname(2) calls them."""
