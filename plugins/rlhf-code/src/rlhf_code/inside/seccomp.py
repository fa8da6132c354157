"""The second wall: system calls no test program needs, refused by the kernel (seccomp, filter mode).

Most are doors to parts of the kernel with a history of holes (mounts, io_uring, bpf, keys, ptrace, network); a few
bound what namespaces do not: without fork there is one process, so the limit of its address space bounds its memory.
Numbers are those of the kernel's asm/unistd.h; from 424 on all processors share them.
"""

from __future__ import annotations

import ctypes
import os
import struct

from rlhf_code.inside import linux

# name: (x86_64, aarch64); None where the processor has no such call.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122), "ioprio_set": (251, 30), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # network; socketpair stays, asyncio lives on it, but its sockets speak to each other only
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    # namespaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51), "pivot_root": (155, 41), "mount": (165, 40),
    "umount2": (166, 39), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "mknod": (133, None), "mknodat": (259, 33), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262), "quotactl": (179, 60), "quotactl_fd": (443, 443), "acct": (163, 89),
    "swapon": (167, 224), "swapoff": (168, 225), "inotify_add_watch": (254, 27), "sync": (162, 81),
    "syncfs": (306, 267),
    # memory that no limit of a process bounds, or that outlives it
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196),
    "shmctl": (31, 195), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    # the kernel itself
    "bpf": (321, 280), "perf_event_open": (298, 241), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "personality": (135, 92), "vhangup": (153, 58),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "lookup_dcookie": (212, 18),
}  # fmt: skip

# Landlock does not watch over these, so where it is the only wall around files they are refused as well.
ATTRIBUTES_OF_FILES: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}  # fmt: skip

# Judged by an argument.
LOOKED_AT: dict[str, tuple[int, int]] = {
    "clone": (56, 220), "clone3": (435, 435), "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261),
    "prctl": (157, 167), "fcntl": (72, 25), "ioctl": (16, 29), "sendto": (44, 206),
}  # fmt: skip

LAST_KNOWN = 462  # mseal, Linux 6.10; what came later does not exist in here

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50026
_NUMBER, _ARCH = 0, 4
_ARGUMENT_0, _ARGUMENT_1, _ARGUMENT_4 = 16, 24, 48  # the lower half of each; the upper is 4 further
_CLONE_THREAD = 0x10000
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 22, 2
_SIGNALS_BY_FCNTL = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: any signal to any process of the same user
_SIGNALS_BY_IOCTL = (0x8901, 0x8902)  # FIOSETOWN, SIOCSPGRP
_PUSH_INTO_TERMINAL = 0x5412  # TIOCSTI


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install(*, alone: bool) -> None:
    """Refuse the calls above for the rest of this process's life. `alone`: no namespaces stand behind it."""
    code = assembled(linux.machine(), os.getpid(), alone=alone)
    program = _Program(len(code) // 8, code)
    linux.prctl("prctl(PR_SET_SECCOMP)", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))


def assembled(machine: str, pid: int, *, alone: bool) -> bytes:
    """The filter in the kernel's byte code: classic BPF, eight bytes an instruction."""
    if machine not in _AUDIT_ARCH:
        raise OSError(f"no table of system calls for a processor of type {machine!r}, only x86_64 and aarch64")
    column = 0 if machine == "x86_64" else 1
    refused = [*REFUSED.values(), *(ATTRIBUTES_OF_FILES.values() if alone else ())]
    lines = [
        _line(_LOAD, _ARCH),
        _line(_IF_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _line(_RETURN, _KILL),  # 32-bit calls have other numbers
        _line(_LOAD, _NUMBER),
        _line(_IF_AT_LEAST, LAST_KNOWN + 1, 0, 1),  # and so have those of x32
        _line(_RETURN, _ENOSYS),
    ]
    for numbers in refused:
        number = numbers[column]
        if number is not None:
            lines += [_line(_IF_EQUAL, number, 0, 1), _line(_RETURN, _EPERM)]
    for name, numbers_looked_at in LOOKED_AT.items():
        body = _rule(name, pid, alone=alone)
        lines += [_line(_IF_EQUAL, numbers_looked_at[column], 0, len(body)), *body]
    return b"".join([*lines, _line(_RETURN, _ALLOW)])


def _rule(name: str, pid: int, *, alone: bool) -> list[bytes]:
    """What becomes of a call that is looked at; ends in a return."""
    allow, refuse = _line(_RETURN, _ALLOW), _line(_RETURN, _EPERM)
    if name == "clone":  # threads only, and none where nothing counts them
        threads = [_line(_LOAD, _ARGUMENT_0), _line(_IF_ANY_BIT, _CLONE_THREAD, 0, 1), allow]
        return [refuse] if alone else [*threads, refuse]
    if name == "clone3":  # its flags are out of a filter's sight; the C library falls back to clone
        return [_line(_RETURN, _ENOSYS)]
    if name in ("kill", "tgkill", "prlimit64"):
        own = [pid, 0] if name == "prlimit64" else [pid]
        return [_line(_LOAD, _ARGUMENT_0), *_each(own, allow), refuse]
    if name == "sendto":  # without an address it is send()
        halves = [_line(_LOAD, _ARGUMENT_4), _line(_IF_EQUAL, 0, 1, 0), refuse]
        return [*halves, _line(_LOAD, _ARGUMENT_4 + 4), _line(_IF_EQUAL, 0, 1, 0), refuse, allow]
    if name == "prctl":
        return [_line(_LOAD, _ARGUMENT_0), *_each([_PR_SET_PDEATHSIG], refuse), allow]
    commands = _SIGNALS_BY_FCNTL if name == "fcntl" else (*_SIGNALS_BY_IOCTL, _PUSH_INTO_TERMINAL)
    return [_line(_LOAD, _ARGUMENT_1), *_each(commands, refuse), allow]


def _each(values: tuple[int, ...] | list[int], then: bytes) -> list[bytes]:
    return [line for value in values for line in (_line(_IF_EQUAL, value, 0, 1), then)]


def _line(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)
