"""Files out of reach without namespaces: Landlock, since Linux 5.13 (docs.kernel.org/userspace-api/landlock.html)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from rlhf_code.inside import linux

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_RIGHTS_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}


class _Ruleset(ctypes.Structure):
    _fields_ = [("handled_access_fs", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def version() -> int:
    """The kernel's version of Landlock; `OSError` where it has none or it is switched off."""
    return linux.syscall("landlock_create_ruleset", _CREATE_RULESET, None, 0, _VERSION_FLAG)


def allow_reading(folders: Iterable[int]) -> None:
    """From here on this process may read beneath these open folders, and touch no other file."""
    rights = _RIGHTS_BY_VERSION[min(version(), max(_RIGHTS_BY_VERSION))]
    ruleset = _Ruleset(rights)
    size = ctypes.sizeof(ruleset)
    fd = linux.syscall("landlock_create_ruleset", _CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    for folder in folders:
        rule = _PathBeneath(_READ_FILE | _READ_DIR, folder)
        linux.syscall("landlock_add_rule", _ADD_RULE, fd, _PATH_BENEATH, ctypes.byref(rule), 0)
    linux.syscall("landlock_restrict_self", _RESTRICT_SELF, fd, 0)
