"""Programs that reach for files, devices and the network. Each prints what it got hold of; `contained` if nothing."""

from __future__ import annotations

from typing import Any

import pytest

PRELUDE = """
import os, sys, ctypes, socket, stat
libc = ctypes.CDLL(None, use_errno=True)
def attempt(function, *args, **kwargs):
    try:
        got = function(*args, **kwargs)
    except BaseException as error:
        return None
    print("ESCAPED", got)
def denied(result):
    if result == -1: raise OSError(ctypes.get_errno())
    return result
"""

FILES = {
    "read": "attempt(open, '@CANARY@')",
    "list": "attempt(os.listdir, '@FOLDER@')",
    "read upwards": "attempt(open, '../' * 30 + '@CANARY@')",
    "proc self root": "attempt(open, '/proc/self/root@CANARY@')",
    "proc 1 root": "attempt(open, '/proc/1/root@CANARY@')",
    "proc cwd of another": "attempt(os.listdir, '/proc/@PID@/cwd/')",
    "symbolic link": "attempt(lambda: (os.symlink('@CANARY@', '/tmp/hostile-mark'), open('/tmp/hostile-mark').read()))",
    "link in the working folder": "attempt(lambda: (os.symlink('@FOLDER@', 'd'), os.listdir('d')))",
    "hard link": "attempt(os.link, '@CANARY@', '/tmp/hostile-mark')",
    "append": "attempt(open, '@CANARY@', 'a')",
    "truncate": "attempt(os.truncate, '@CANARY@', 0)",
    "delete": "attempt(os.unlink, '@CANARY@')",
    "rename": "attempt(os.rename, '@CANARY@', '@FOLDER@/hostile-mark')",
    "create": "attempt(open, '@FOLDER@/hostile-mark', 'w')",
    "create folder": "attempt(os.mkdir, '@FOLDER@/hostile-mark')",
    "permissions": "attempt(os.chmod, '@CANARY@', 0o600)",
    "times": "attempt(os.utime, '@CANARY@', (1, 1))",
    "owner": "attempt(os.chown, '@CANARY@', 65534, 65534)",
    "attributes": "attempt(os.setxattr, '@CANARY@', 'user.hostile', b'1')",
    "passwords": "attempt(open, '/etc/passwd'); attempt(open, '/etc/shadow')",
    "home": "home = os.path.expanduser('~'); attempt(os.listdir, home + '/.ssh'); attempt(open, home + '/.bashrc')",
    "search": """
for folder, folders, names in os.walk('/'):
    folders[:] = [name for name in folders if not name.startswith('lib')]
    if 'canary.txt' in names: print('ESCAPED', folder)
""",
    "environment": """
if os.environ: print('ESCAPED')
attempt(open, '/proc/self/environ'); attempt(open, '/proc/@TESTS_PID@/environ')
""",
    "environment in memory": """
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ')
i = 0
while environ and environ[i]:
    if b'SECRET' in environ[i]: print('ESCAPED', environ[i])
    i += 1
""",
    "all environments": """
import glob
for path in glob.glob('/proc/*/environ') + glob.glob('/proc/*/cmdline'): attempt(open, path, 'rb')
""",
    "memory of another": "attempt(open, '/proc/@PID@/mem', 'r+b'); attempt(open, '/proc/self/mem', 'r+b')",
    "inherited folders": """
for fd in range(1024):
    attempt(os.open, '..', os.O_RDONLY, dir_fd=fd)
    attempt(os.listdir, fd)
""",
    "change root": """
attempt(os.chroot, '/tmp')
attempt(lambda: (os.mkdir('/tmp/j'), os.chroot('/tmp/j'), [os.chdir('..') for _ in range(50)], os.chroot('.')))
""",
    "mount": "attempt(lambda: denied(libc.mount(b'/dev/vda', b'/tmp', b'ext4', 0, None)))",
    "mount the machine's processes": "attempt(lambda: denied(libc.mount(b'proc', b'/tmp', b'proc', 0, None)))",
    "uncover": "for path in (b'/tmp', b'/run', b'/usr/lib', b'/'): attempt(lambda: denied(libc.umount2(path, 2)))",
    "make writable": "attempt(lambda: denied(libc.mount(None, b'/', None, 32 | 4096, None)))",
    "new mount interface": """
attempt(lambda: denied(libc.syscall(428, -100, b'/', 1)))
attempt(lambda: denied(libc.syscall(430, b'tmpfs', 0)))
attempt(lambda: denied(libc.syscall(442, -100, b'/', 0, None, 0)))
""",
    "pivot": "attempt(lambda: denied(libc.pivot_root(b'/tmp', b'/tmp')))",
    "file handles": "attempt(lambda: denied(libc.open_by_handle_at(-100, ctypes.create_string_buffer(136), 0)))",
    "make a disk": "attempt(os.mknod, '/tmp/d', stat.S_IFBLK | 0o666, os.makedev(254, 0))",
    "devices": """
for name in ('vda', 'sda', 'nvme0n1', 'mem', 'kmsg', 'port', 'kvm', 'fuse', 'loop-control', 'tty', 'ptmx'):
    attempt(open, '/dev/' + name, 'rb')
""",
    "kernel settings": "attempt(open, '/proc/sys/kernel/core_pattern', 'w'); attempt(os.listdir, '/sys/fs')",
    "change the library": """
import json
attempt(open, json.__file__, 'a')
attempt(open, os.path.dirname(json.__file__) + '/hostile-mark.py', 'w')
attempt(os.unlink, json.__file__)
""",
    "write elsewhere": """
for folder in ('', '/usr', '/etc', '/run', '/dev', '/var/tmp'): attempt(open, folder + '/hostile-mark', 'w')
""",
    "become root": """
other = 0 if os.getuid() else 4711  # `process` keeps the user, who may be root by name, with none of its rights
for change in (os.setuid, os.setgid, os.seteuid): attempt(change, other)
attempt(os.setgroups, [0])
attempt(os.setresuid, other, other, other)
""",
    "capabilities": """
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
attempt(lambda: denied(libc.capset(header, (ctypes.c_uint32 * 6)(*[2**32 - 1] * 6))))
""",
    "new namespaces": """
for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000): attempt(lambda: denied(libc.unshare(flag)))
attempt(lambda: denied(libc.setns(0, 0)))
""",
}

NETWORK = {
    "tcp": "attempt(socket.create_connection, ('127.0.0.1', @TCP@), 2)",
    "udp": "attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @UDP@)))",
    "unix": "attempt(lambda: socket.socket(socket.AF_UNIX).connect('@UNIX@'))",
    "abstract": "attempt(lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + '@ABSTRACT@'))",
    "raw": "attempt(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)",
    "packet": "attempt(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 3)",
    "netlink": "attempt(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "vsock": "attempt(socket.socket, 40, socket.SOCK_STREAM)",
    "version 6": "attempt(lambda: socket.socket(socket.AF_INET6).connect(('::1', @TCP@)))",
    "names": "attempt(socket.getaddrinfo, 'example.com', 80)",
    "urllib": "import urllib.request\nattempt(urllib.request.urlopen, 'http://127.0.0.1:@TCP@/', None, 2)",
    "http": """
import http.client
attempt(http.client.HTTPConnection('127.0.0.1', @TCP@, timeout=2).request, 'GET', '/')
""",
    "asyncio": "import asyncio\nattempt(lambda: asyncio.run(asyncio.open_connection('127.0.0.1', @TCP@)))",
    "server": "attempt(socket.create_server, ('0.0.0.0', 0))",
    "system call": """
number = 41 if os.uname().machine == 'x86_64' else 198
attempt(lambda: denied(libc.syscall(number, 2, 1, 0)))
""",
    "pair that connects": "a, b = socket.socketpair()\nattempt(a.connect, '@UNIX@')",
    "pair that sends elsewhere": """
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
attempt(a.connect, '@DATAGRAMS@')
attempt(a.sendto, b'x', '@DATAGRAMS@')
attempt(a.sendmsg, [b'x'], [], 0, '@DATAGRAMS@')
""",
    "io_uring": "attempt(lambda: denied(libc.syscall(425, 8, ctypes.create_string_buffer(120))))",
    "inherited sockets": """
for fd in range(3, 1024):
    try: s = socket.socket(fileno=os.dup(fd))
    except OSError: continue
    print('ESCAPED', fd, s)
""",
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_out_of_reach(trial: Any, name: str) -> None:
    assert trial.script(f"{PRELUDE}\n{FILES[name]}\nprint('contained')", "contained").value == 1


@pytest.mark.parametrize("name", NETWORK)
def test_there_is_no_network(trial: Any, name: str) -> None:
    assert trial.script(f"{PRELUDE}\n{NETWORK[name]}\nprint('contained')", "contained").value == 1


def test_the_attempts_succeed_without_a_sandbox(outside: Any, tmp_path: Any) -> None:
    """A check of the checks: in an ordinary process the same words print ESCAPED."""
    import subprocess
    import sys

    for program in (FILES["read"], FILES["environment"], NETWORK["abstract"]):
        source = outside.tell(f"{PRELUDE}\n{program}\nprint('contained')")
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert "ESCAPED" in done.stdout
    outside.abstract.accept()[0].close()
