"""The system calls Python 3.11 has no name for, each raising `OSError` that says which one failed."""

from __future__ import annotations

import ctypes
import os
import platform

_libc = ctypes.CDLL(None, use_errno=True)

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_ALL = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
"""Every kind of namespace but that of clocks."""
NOBODY = 65534

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SYS_MOUNT_SETATTR = 442
_AT_RECURSIVE = 0x8000
_CAPABILITY_VERSION_3 = 0x20080522


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def machine() -> str:
    """The processor's family as the tables here spell it."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())


def checked(result: int, what: str) -> int:
    """The result of a C call, or its error."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(what: str, number: int, *arguments: object) -> int:
    """A raw system call; integers are passed as longs."""
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return checked(int(_libc.syscall(ctypes.c_long(number), *given)), what)


def prctl(what: str, option: int, *arguments: object) -> None:
    """Up to four arguments; those not given are zero."""
    given = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in (*arguments, 0, 0, 0, 0)[:4]]
    checked(_libc.prctl(option, *given), what)


def die_with_parent(signal: int) -> None:
    """Be sent this signal when the process that forked this one ends."""
    prctl("prctl(PR_SET_PDEATHSIG)", _PR_SET_PDEATHSIG, signal)


def forbid_new_privileges() -> None:
    """From here on no program that is executed gains rights; seccomp and Landlock ask for it."""
    prctl("prctl(PR_SET_NO_NEW_PRIVS)", _PR_SET_NO_NEW_PRIVS, 1)


def unshare(flags: int) -> None:
    """Move into new namespaces of the kinds `flags` names."""
    checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """The arguments are those of the manual page."""
    texts = (source.encode(), target.encode(), kind.encode())
    checked(_libc.mount(*texts, ctypes.c_ulong(flags), data.encode() or None), f"mount {kind or source} on {target}")


def make_read_only(path: str) -> None:
    """This mount and all beneath it: no writes, no set-user-id programs, no devices; flags they have stay."""
    attributes = _MountAttributes(MS_RDONLY | MS_NOSUID | MS_NODEV, 0, 0, 0)
    size = ctypes.sizeof(attributes)
    at = ctypes.c_char_p(path.encode())
    syscall("mount_setattr", _SYS_MOUNT_SETATTR, -100, at, _AT_RECURSIVE, ctypes.byref(attributes), size)


def pivot_root(new: str) -> None:
    """Make `new` the root and let go of the old one."""
    os.chdir(new)
    checked(_libc.pivot_root(b".", b"."), "pivot_root")
    checked(_libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def set_hostname(name: str) -> None:
    """Of the UTS namespace, so that programs do not see the machine's."""
    checked(_libc.sethostname(name.encode(), len(name)), "sethostname")


def drop_capabilities() -> None:
    """All of them; without new privileges they cannot come back."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    checked(_libc.capset(header, none), "capset")


def stop_being_root() -> None:
    """Become `nobody` where this process is root; nothing otherwise."""
    if os.geteuid() != 0:
        return
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # A change of user hides /proc/self from the process itself, which has yet to write its user map there.
    prctl("prctl(PR_SET_DUMPABLE)", _PR_SET_DUMPABLE, 1)


def die_first(proc: int) -> None:
    """Where memory runs out on the machine, the kernel ends this process before any other."""
    _write_own(proc, "oom_score_adj", "1000")


def map_one_user(outer_user: int, outer_group: int, proc: int) -> None:
    """In a new user namespace: one user and one group, both plain ones. `proc` is `/proc`, opened."""
    rows = {"setgroups": "deny", "uid_map": f"1000 {outer_user} 1", "gid_map": f"1000 {outer_group} 1"}
    for name, row in rows.items():
        _write_own(proc, name, row)


def _write_own(proc: int, name: str, text: str) -> None:
    fd = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
