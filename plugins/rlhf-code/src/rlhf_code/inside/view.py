"""The files a program sees: the interpreter's library and the system's, read-only, and an empty `/tmp` of its own."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

from rlhf_code.inside import landlock, linux

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_TEMPORARY = Path("/tmp")  # noqa: S108 - in a mount namespace of our own; nothing is written to the machine's
_GIVEN = Path("/run")
"""Where standard input lies; `/dev/stdin` leads there."""
_TEMPORARY_FILES = 1024


def move_in(proc: int) -> None:
    """Make the view this process's root, in a mount namespace of its own, and let go of the machine's files.

    Done once, by the launcher: the copies it forks begin there. Root does this with its own rights, since an
    interpreter may live where nobody else can walk (`/root`); any other user in a user namespace.
    """
    if os.geteuid() == 0:
        linux.unshare(linux.CLONE_NEWNS)
    else:
        user, group = os.geteuid(), os.getegid()
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        linux.map_one_user(user, group, proc)
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    folders, links = _shown()
    opened = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in (*folders, *_DEVICES)}
    root = str(_TEMPORARY)
    linux.mount("tmpfs", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755")
    for folder in (_TEMPORARY, _GIVEN, Path("/dev")):
        Path(f"{root}{folder}").mkdir()
    for link, target in {**links, "/dev/stdin": f"{_GIVEN}/stdin", "/dev/shm": str(_TEMPORARY)}.items():  # noqa: S108
        Path(root + link).parent.mkdir(parents=True, exist_ok=True)
        Path(root + link).symlink_to(target)
    for path, fd in opened.items():
        _make_place(Path(root + path), fd)
        if path in folders:
            linux.mount(f"/proc/self/fd/{fd}", root + path, "", linux.MS_BIND | linux.MS_REC)
    linux.make_read_only(root)
    for path in _DEVICES:  # after it, because what is read-only there has no working devices
        linux.mount(f"/proc/self/fd/{opened[path]}", root + path, "", linux.MS_BIND)
    linux.pivot_root(root)
    for fd in opened.values():
        os.close(fd)


def look_only() -> None:
    """Without namespaces: read the same files where they are, and no others; write nothing.

    The user stays the same one: who else could read an interpreter in that user's home? Capabilities go later.
    """
    folders, _ = _shown()
    opened = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in folders if Path(path).is_dir()]
    linux.forbid_new_privileges()
    landlock.allow_reading(opened)
    for fd in opened:
        os.close(fd)
    os.chdir("/")


def furnish(stdin: int, temporary_bytes: int) -> int:
    """Give one program its own `/tmp` and, where it is a file, its standard input, which is returned opened anew."""
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    size = f"size={temporary_bytes},nr_inodes={_TEMPORARY_FILES},mode=700"
    linux.mount("tmpfs", str(_TEMPORARY), "tmpfs", flags, size)
    os.chdir(_TEMPORARY)
    found = os.fstat(stdin)
    if not stat.S_ISREG(found.st_mode):
        return stdin
    linux.mount("tmpfs", str(_GIVEN), "tmpfs", flags, f"size={found.st_size + (1 << 16)},mode=755")
    with open(stdin, "rb", closefd=False) as source, (_GIVEN / "stdin").open("wb") as copy:
        shutil.copyfileobj(source, copy)
    linux.make_read_only(str(_GIVEN))
    return os.open(_GIVEN / "stdin", os.O_RDONLY)


def _shown() -> tuple[list[str], dict[str, str]]:
    """Files and folders to show, none of them beneath another, and symbolic links with where they lead."""
    wanted = [f"{sys.base_prefix}/lib", *sys.path, *_LIBRARIES]
    shown: list[str] = []
    links: dict[str, str] = {}
    for path in map(Path, wanted):
        if path.is_symlink() and path.is_dir():  # /lib -> usr/lib
            links[str(path)] = str(path.readlink())
        elif path.exists() and not any(path.is_relative_to(other) for other in shown):
            shown.append(str(path))
    return shown, links


def _make_place(path: Path, fd: int) -> None:
    """Something for a mount to cover: a folder for a folder, a file for anything else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if Path(f"/proc/self/fd/{fd}").is_dir():
        path.mkdir(exist_ok=True)
    else:
        path.touch()
