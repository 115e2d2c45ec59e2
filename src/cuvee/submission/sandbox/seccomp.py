"""A filter of system calls for jobs, as the program of classic BPF that bubblewrap takes.

A list of calls that no merge needs and that faults of the kernel were found in, or that reach other processes, keys,
mounts or the clock: they fail with EPERM. Where the list differs by processor, it is that of the running processor.
"""

import errno
import platform
import struct
from collections.abc import Mapping

X86, ARM = 0xC000003E, 0xC00000B7
"""How the kernel names the processors of 64 bits (`AUDIT_ARCH_*` in linux/audit.h)."""

MACHINES = {"x86_64": X86, "aarch64": ARM}
X32_BIT = 0x40000000
QUERY = 0xFFFFFFFF

CALLS: Mapping[str, tuple[int, int]] = {
    "acct": (163, 89), "add_key": (248, 217), "adjtimex": (159, 171), "bpf": (321, 280), "chroot": (161, 51),
    "clock_adjtime": (305, 266), "clock_settime": (227, 112), "delete_module": (176, 106),
    "fanotify_init": (300, 262), "finit_module": (313, 273), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fsopen": (430, 430), "fspick": (433, 433), "init_module": (175, 105), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "io_uring_setup": (425, 425), "kcmp": (312, 272),
    "kexec_file_load": (320, 294), "kexec_load": (246, 104), "keyctl": (250, 219), "memfd_secret": (447, 447),
    "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "open_tree": (428, 428),
    "perf_event_open": (298, 241), "pidfd_getfd": (438, 438), "pivot_root": (155, 41),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "ptrace": (101, 117),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "reboot": (169, 142), "request_key": (249, 218),
    "setns": (308, 268), "settimeofday": (164, 170), "swapoff": (168, 225), "swapon": (167, 224),
    "syslog": (103, 116), "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282),
}  # fmt: skip
"""The number of each call on x86_64 and on aarch64 (asm/unistd_64.h, asm-generic/unistd.h)."""

X86_ONLY = {"iopl": 172, "ioperm": 173, "modify_ldt": 154, "uselib": 134}
PERSONALITY = {X86: 135, ARM: 92}

LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
"""Codes of instructions: load a word, jump if equal, jump if greater or equal, return (linux/bpf_common.h)."""

NUMBER_OFFSET, ARCHITECTURE_OFFSET, ARGUMENT_OFFSET = 0, 4, 16
"""Where `struct seccomp_data` has the call's number, the processor, and the low half of the first argument."""

ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM


def can_filter() -> bool:
    """Say whether there is a list for this machine's processor."""
    return platform.machine() in MACHINES


def filter_program(machine: str | None = None) -> bytes:
    """Return the program for a processor by its name in `uname`; None is this machine's.

    Anything called by another processor's convention is refused.
    """
    architecture = MACHINES[machine or platform.machine()]
    column = 0 if architecture == X86 else 1
    numbers = [call[column] for call in CALLS.values()]
    if architecture == X86:
        numbers += X86_ONLY.values()
    steps = [
        (LOAD, ARCHITECTURE_OFFSET, "", ""),
        (EQUAL, architecture, "", "refuse"),
        (LOAD, NUMBER_OFFSET, "", ""),
    ]
    if architecture == X86:
        steps.append((AT_LEAST, X32_BIT, "refuse", ""))
    steps += [(EQUAL, number, "refuse", "") for number in sorted(numbers)]
    steps += [
        (EQUAL, PERSONALITY[architecture], "", "allow"),
        (LOAD, ARGUMENT_OFFSET, "", ""),
        (EQUAL, 0, "allow", ""),
        (EQUAL, QUERY, "allow", "refuse"),
    ]
    return _assembled(steps)


def _assembled(steps: list[tuple[int, int, str, str]]) -> bytes:
    """Return instructions with their jumps, which lead forward to either of two ends or to the next."""
    ends = {"refuse": len(steps), "allow": len(steps) + 1}
    program = bytearray()
    for position, (code, value, yes, no) in enumerate(steps):
        jumps = [ends[target] - position - 1 if target else 0 for target in (yes, no)]
        program += struct.pack("=HBBI", code, *jumps, value)
    program += struct.pack("=HBBI", RETURN, 0, 0, REFUSE)
    program += struct.pack("=HBBI", RETURN, 0, 0, ALLOW)
    return bytes(program)
