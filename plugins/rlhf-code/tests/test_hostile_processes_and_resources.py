"""Programs that start, kill or look into processes, and programs that use up what there is."""

from __future__ import annotations

import time
from typing import Any

import pytest

PRELUDE = """
import os, sys, ctypes, signal, resource, threading, time
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

PROCESSES = {
    "fork": "attempt(os.fork)",
    "fork without the library": """
number, flags = (57, 0) if os.uname().machine == 'x86_64' else (220, 17)
attempt(lambda: denied(libc.syscall(number, flags, 0, 0, 0, 0)))
""",
    "fork by clone3": "attempt(lambda: denied(libc.syscall(435, ctypes.create_string_buffer(88), 88)))",
    "fork bomb": "while True:\n    try: os.fork()\n    except OSError: break",
    "daemon": """
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(60)
        os._exit(0)
attempt(daemon)
""",
    "outlives in a session": "attempt(os.setsid)\nattempt(os.forkpty)",
    "subprocess": "import subprocess\nattempt(subprocess.run, ['/bin/sh', '-c', 'touch @FOLDER@/hostile-mark'])",
    "shell": "os.system('touch @FOLDER@/hostile-mark; touch /tmp/hostile-mark')",
    "spawn": "attempt(os.posix_spawn, sys.executable, ['python'], {})",
    "become another program": "attempt(os.execv, sys.executable, ['python', '-c', 'print(1)'])",
    "program in memory": """
def run():
    fd = os.memfd_create('x')
    os.write(fd, open(sys.executable, 'rb').read())
    os.execve(fd, ['x'], {})
attempt(run)
""",
    "multiprocessing": """
import multiprocessing as m
attempt(lambda: m.get_context('fork').Process(target=print).start())
""",
    "kill the parent": "attempt(lambda: os.kill(os.getppid() or 1 << 30, 9))",
    "kill by number": "for pid in (@PID@, @TESTS_PID@): attempt(os.kill, pid, 9)",
    "kill everyone": "attempt(os.kill, -1, 9)",
    "kill the group": "attempt(os.killpg, 0, 9)\nattempt(os.kill, 0, 9)",
    "kill the first process": "attempt(os.kill, 1 if os.getpid() != 1 else 2, 9)",
    "kill a thread": "for n in (200, 130): attempt(lambda: denied(libc.syscall(n, @PID@, 9)))",
    "kill by handle": "attempt(lambda: signal.pidfd_send_signal(os.pidfd_open(@PID@), 9))",
    "queue a signal": "attempt(lambda: denied(libc.sigqueue(@PID@, 9, 0)))",
    "signal by pipe": """
import fcntl
r, w = os.pipe()
attempt(fcntl.fcntl, r, 8, @PID@)
attempt(fcntl.fcntl, r, 10, 9)
attempt(fcntl.ioctl, r, 0x8901, b'\\\\0' * 4)
""",
    "trace": "attempt(lambda: denied(libc.ptrace(16, @PID@, 0, 0)))\nattempt(lambda: denied(libc.ptrace(0, 0, 0, 0)))",
    "read its memory": "attempt(lambda: denied(libc.process_vm_readv(@PID@, None, 0, None, 0, 0)))",
    "limits of another": "attempt(resource.prlimit, @PID@, resource.RLIMIT_CPU, (1, 1))",
    "pace of another": """
attempt(os.setpriority, os.PRIO_PROCESS, @PID@, 19)
attempt(os.setpriority, os.PRIO_USER, 0, 19)
""",
    "processors of another": "attempt(os.sched_setaffinity, @PID@, {0})",
    "descriptors of another": "attempt(lambda: denied(libc.syscall(438, 0, 0, 0)))",
    "stay when the parent dies": "attempt(lambda: denied(libc.prctl(1, 0, 0, 0, 0)))",
    "raise the limits": """
for name in ('AS', 'CPU', 'NOFILE', 'FSIZE', 'CORE'):
    which = getattr(resource, 'RLIMIT_' + name)
    attempt(resource.setrlimit, which, (resource.RLIM_INFINITY,) * 2)
    attempt(resource.prlimit, 0, which, (resource.getrlimit(which)[1] + 1,) * 2)
""",
    "kernel interfaces": """
for number in (321, 280, 298, 241, 323, 282, 425, 248, 217, 250, 219, 172, 246, 104, 175, 169, 142):
    if os.uname().machine == 'x86_64' and number in (321, 298, 323, 425, 248, 250, 172, 246, 175, 169):
        attempt(lambda: denied(libc.syscall(number, 0, 0, 0, 0, 0)))
""",
    "calls of the future": "for number in range(463, 600): attempt(lambda: denied(libc.syscall(number, 0, 0, 0, 0)))",
    "shared memory": """
attempt(lambda: denied(libc.shmget(0, 4096, 0o1666)))
attempt(lambda: denied(libc.mq_open(b'/x', 66)))
""",
    "close everything": "os.closerange(3, 1 << 16)",
    "lift the filter": "attempt(lambda: denied(libc.prctl(22, 0, 0, 0, 0)))",
}

# What the program must not be able to do, so that it fails; each says within how many seconds.
EXHAUSTION = {
    "endless loop": "while True: pass",
    "endless loop that ignores signals": """
for n in range(1, 65):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
    "endless sleep": "time.sleep(1000)",
    "endless output": "while True: print('x' * 10000)",
    "endless output without a buffer": "while True: os.write(1, b'x' * 65536)",
    "endless errors": "while True: os.write(2, b'x' * 65536)",
    "answer, then endless output": "print('contained', flush=True)\nwhile True: print('x' * 10000)",
    "answer, then endless sleep": "print('contained', flush=True)\ntime.sleep(1000)",
    "closed output, then sleep": "print('contained', flush=True)\nos.close(1)\ntime.sleep(1000)",
    "memory in a list": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "memory at once": "x = bytearray(1 << 40)",
    "memory mapped": "import mmap\nx = [mmap.mmap(-1, 1 << 24) for _ in range(10000)]",
    "memory never touched": """
libc.mmap.restype = ctypes.c_void_p
assert libc.mmap(None, ctypes.c_size_t(1 << 38), 3, 0x4022, -1, 0) not in (None, 2**64 - 1)
""",
    "memory in strings": "x = 'x'\nwhile True: x += x",
    "memory in a number": "x = 1 << (1 << 36)",
    "memory in pipes": "p = [os.pipe() for _ in range(1000)]",
    "memory in files without a name": "[os.write(os.memfd_create(str(n)), bytes(1 << 24)) for n in range(100)]",
    "disk": "for n in range(1000):\n    with open(f'/tmp/hostile-mark{n}', 'wb') as f: f.write(bytes(1 << 20))",
    "disk in one file": "with open('hostile-mark', 'wb') as f:\n    while True: f.write(bytes(1 << 20))",
    "disk by a hole": "f = open('hostile-mark', 'wb')\nf.truncate(1 << 40)",
    "shared disk": """
from multiprocessing.shared_memory import SharedMemory as S
x = [S(create=True, size=1 << 24) for _ in range(99)]
""",
    "many files": "for n in range(10**6): open(f'/tmp/hostile-mark{n}', 'w').close()",
    "many open files": "x = [os.dup(1) for _ in range(10000)]",
    "many threads": "for _ in range(10**5): threading.Thread(target=time.sleep, args=(100,), daemon=True).start()",
    "endless threads": """
threading.stack_size(32768)
while True: threading.Thread(target=time.sleep, args=(100,)).start()
""",
    "deep recursion": "sys.setrecursionlimit(10**9)\nf = lambda: f()\nf()",
    "recursion in C": "sys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr(self)\nrepr(A())",
    "regular expression": "import re\nre.match('(a+)+$', 'a' * 64 + 'b')",
    "slow number": "x = 7 ** (10 ** 9)",
    "crash": "ctypes.string_at(0)",
    "abort": "os.abort()",
    "stop": "os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(1000)",
    "alarm without a handler": "signal.alarm(1)\ntime.sleep(1000)",
    "thread that never ends": "threading.Thread(target=time.sleep, args=(1000,)).start()\nprint('contained')",
    "end that never ends": "import atexit\natexit.register(time.sleep, 1000)\nprint('contained')",
}

SOURCES = {
    "nul": "print('contained')\0",
    "invalid text": "print('contained')\ud800",
    "nested": "(" * 100_000 + ")" * 100_000 + "\nprint('contained')",
    "nested minus": "x = " + "-" * 1_000_000 + "1\nprint('contained')",
    "huge line": "x = [" + "1," * 5_000_000 + "]\nimport nothing_such",
    "no python": "this is not python",
    "nothing": "",
}


@pytest.mark.parametrize("name", PROCESSES)
def test_processes_are_out_of_reach(trial: Any, name: str) -> None:
    assert trial.script(f"{PRELUDE}\n{PROCESSES[name]}\nprint('contained')", "contained").value == 1


@pytest.mark.parametrize("name", EXHAUSTION)
def test_what_a_program_uses_up_is_its_own(trial: Any, name: str) -> None:
    began = time.monotonic()
    score = trial.script(f"{PRELUDE}\n{EXHAUSTION[name]}\nprint('contained')", "contained")
    assert score.value == 0
    assert score.error is None
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("name", SOURCES)
def test_source_that_is_no_program_fails(trial: Any, name: str) -> None:
    assert trial.script(SOURCES[name], "contained").value == 0
    assert trial.functions(SOURCES[name], "assert f(1) == 2").value == 0
