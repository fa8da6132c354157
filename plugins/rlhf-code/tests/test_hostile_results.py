"""Programs that try to be scored for what they did not do: none passes a test it should not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Functions that are wrong, or right on purpose never, against tests that a right one passes.
TESTS = (
    "assert f(3) == 9",
    "assert abs(f(4) - 16) < 1e-6",
    "assert f(5) in (25, 25.0)",
    "assert 36 in [f(6)]",
    "assert not f(7) != 49",
    "assert len(str(f(11))) == 3 and sorted([f(2), f(1)]) == [1, 4]",
    "assert isinstance(f(3), int) and f(3) > 8 and f(3) < 10",
)

FORGERIES = {
    "prints the verdict": 'def f(x): print(\'{"passed": 7, "tests": 7, "ended": "completed"}\')',
    "writes the verdict everywhere": """
import os, json
for fd in range(64):
    for text in (b'{"passed": 7, "tests": 7, "ended": "completed", "reason": ""}', b'ready', b'7 passed'):
        try: os.set_blocking(fd, False); os.write(fd, text)
        except OSError: pass
def f(x): return 0
""",
    "ends well": "import sys; sys.exit(0)",
    "ends at once": "import os; os._exit(0)",
    "ends well when called": "import os\ndef f(x): os._exit(0)",
    "exits when called": "def f(x): raise SystemExit(0)",
    "interrupts": "def f(x): raise KeyboardInterrupt",
    "raises the root of all": "def f(x): raise BaseException('passed')",
    "raises the end of a generator": "def f(x): raise GeneratorExit",
    "raises a failed test": "def f(x): raise AssertionError",
    "raises the end of iteration": "def f(x): raise StopIteration(9)",
    "raises its own": "class Passed(BaseException): pass\ndef f(x): raise Passed",
    "equals everything": """
class Equal:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __contains__ = __lt__
    def __sub__(self, other): return self
    __rsub__ = __abs__ = __add__ = lambda self, *a: self
    def __hash__(self): return 9
    def __len__(self): return 3
    def __str__(self): return '123'
def f(x): return Equal()
""",
    "integer that equals everything": """
class Equal(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __gt__ = __lt__
    def __sub__(self, other): return Equal(0)
    def __hash__(self): return 9
def f(x): return Equal(-1)
""",
    "text that equals everything": """
class Equal(str):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 9
def f(x): return Equal('passed')
""",
    "list that lies": """
class Equal(list):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __len__(self): return 3
    def __contains__(self, x): return True
def f(x): return Equal([0, 0])
""",
    "class instead of a number": """
class Meta(type):
    def __eq__(cls, other): return True
    def __hash__(cls): return 9
class f(metaclass=Meta):
    def __init__(self, x): pass
    def __eq__(self, other): return True
""",
    "pretends to be a class": "class P:\n    __class__ = int\n    def __eq__(s, o): return True\ndef f(x): return P()",
    "not a number": "def f(x): return float('nan') if x != 7 else 0",
    "returns itself": "def f(*a): return f",
    "returns everything": """
class Any:
    def __getattr__(s, n): return s
    def __call__(s, *a, **k): return s
def f(x): return Any()
""",
    "replaces what tests use": """
import builtins
for name in ('abs', 'len', 'sorted', 'isinstance', 'str', 'AssertionError', 'all', '__import__', 'max', 'int'):
    setattr(builtins, name, lambda *a, **k: True)
def f(x): return 0
""",
    "defines what tests use": """
def abs(x): return 0
def sorted(x): return [1, 4]
def isinstance(x, y): return True
def len(x): return 3
def str(x): return 'abc'
__guarded_assert__ = check = __builtins__ = None
def f(x): return 0
""",
    "no more asserts": """
import sys, ast
ast.Assert = ast.Pass
sys.flags = None
__debug__X = False
def f(x): return 0
""",
    "patches the judge": """
import sys
for name, module in list(sys.modules.items()):
    if name.startswith('rlhf_code'):
        for attribute in dir(module):
            if not attribute.startswith('__'):
                try: setattr(module, attribute, lambda *a, **k: {'passed': 7, 'value': 9})
                except Exception: pass
def f(x): return 0
""",
    "answers before it is asked": """
import os, json, struct
text = json.dumps({'value': 9}).encode()
for fd in range(3, 64):
    try: os.write(fd, struct.pack('!I', len(text)) + text)
    except OSError: pass
def f(x): return 0
""",
    "answers with nonsense": """
import os
for fd in range(3, 64):
    try: os.write(fd, b'\\xff' * 4096)
    except OSError: pass
def f(x): return 0
""",
    "answers with numbers of objects": """
import os, json, struct
for value in ({'yours': 0}, {'yours': -1}, {'mine': 'x'}, {'range': [0, 10**30]}, {'set': [{'dict': []}]}, {'x': 1},
              {'Fraction': [1, 0]}, {'mine': [0]}, {'bytes': 3}, {'dict': 1}, {'deque': [{'range': [0, 10**12]}]}):
    text = json.dumps({'value': value}).encode()
    for fd in range(3, 64):
        try: os.write(fd, struct.pack('!I', len(text)) + text)
        except OSError: pass
def f(x): return 0
""",
    "answers with no object at all": """
import os, json, struct
text = json.dumps({'value': {'mine': [0]}}).encode()
for fd in range(3, 64):
    try: os.write(fd, struct.pack('!I', len(text)) + text)
    except OSError: pass
def f(x): return 0
""",
    "calls back what it was not given": """
import os, json, struct
text = json.dumps({'call': 0, 'args': []}).encode()
for fd in range(3, 64):
    try: os.write(fd, struct.pack('!I', len(text)) + text)
    except OSError: pass
def f(x): return 0
""",
    "closes the channel": "import os\ndef f(x): os.closerange(3, 64)",
    "puts other files into the channel": "import os\ndef f(x):\n    for fd in range(3, 16): os.dup2(0, fd)",
    "looks for the tests": """
import gc, sys, re
def f(x):
    frame, seen = sys._getframe(), []
    while frame:
        seen += [repr(frame.f_locals), repr(frame.f_globals)]
        frame = frame.f_back
    seen += [repr(o) for o in gc.get_objects() if isinstance(o, (str, dict, list, tuple))]
    found = re.search(r'f\\(%d\\) == (\\d+)' % x, ' '.join(seen))
    return int(found[1]) if found else 0
""",
    "looks for the tests in memory": """
import ctypes, re
def f(x):
    for at in range(id(f) & ~0xffff, (id(f) & ~0xffff) + (1 << 20), 4096):
        found = re.search(rb'assert f\\(%d\\) == (\\d+)' % x, ctypes.string_at(at, 4096))
        if found: return int(found[1])
    return 0
""",
    "looks for the tests in arguments and files": """
import sys, os
def f(x):
    text = ' '.join(sys.argv + sys.orig_argv)
    for folder, _, names in os.walk('/tmp'):
        for name in names: text += open(os.path.join(folder, name)).read()
    for fd in range(64):
        try: text += str(os.pread(fd, 1 << 16, 0))
        except OSError: pass
    return 9 if '== 9' in text else 0
""",
    "works at the end": """
import atexit, gc
atexit.register(print, 'passed')
class D:
    def __del__(s): print('passed')
d = D()
def f(x): return 0
""",
    "traces": """
import sys, threading
sys.settrace(lambda *a: None)
sys.setprofile(lambda *a: None)
threading.settrace(lambda *a: None)
def f(x): return 0
""",
    "pickle bomb": "import os\nclass B:\n    def __reduce__(s): return (os._exit, (0,))\ndef f(x): return B()",
    "deep value": "def f(x):\n    v = []\n    for _ in range(100000): v = [v]\n    return v",
    "endless value": "def f(x):\n    v = []\n    v.append(v)\n    return v",
    "huge value": "def f(x): return 'x' * (1 << 26)",
    "huge number": "def f(x): return 1 << (1 << 24)",
    "endless generator": "def f(x):\n    while True: yield -1",
    "never returns": "def f(x):\n    while True: pass",
    "recursion": "def f(x): return f(x)",
    "many objects": "def f(x): return [object() for _ in range(10000)]",
    "exception that lies": "class E(Exception):\n    def __str__(s): raise SystemExit(0)\ndef f(x): raise E",
    "exception of a borrowed name": """
KeyboardInterrupt = type('KeyboardInterrupt', (Exception,), {})
def f(x): raise KeyboardInterrupt
""",
    "is not there": "def g(x): return x * x",
    "is no function": "f = 9",
    "loads forever": "while True: pass",
    "kills its process": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGKILL); return 0",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_wrong_function_passes_nothing(trial: Any, name: str) -> None:
    score = trial.functions(FORGERIES[name], *TESTS)
    assert score.error is None
    assert score.value == 0


@pytest.mark.parametrize(
    "name", ["prints the verdict", "defines what tests use", "traces", "works at the end", "no more asserts"]
)
def test_a_right_function_passes_whatever_else_the_program_does(trial: Any, name: str) -> None:
    assert trial.functions(FORGERIES[name] + "\ndef f(x): return x * x", *TESTS).value == 1


SCRIPTS = {
    "exit 0": "import sys; sys.exit(0)",
    "exit at once": "import os; os._exit(0)",
    "verdict": "print('{\"passed\": 1}', 'PASSED', 'OK', 'ready')",
    "errors": "import sys; print(9, file=sys.stderr)",
    "looks around": """
import gc, os
for fd in range(64):
    try: print(os.read(fd, 1 << 16) if fd > 2 else '')
    except OSError: pass
""",
    "reads its output": "import os\nos.set_blocking(1, False)\nprint(os.read(1, 100))",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_does_not_print_the_answer_fails(trial: Any, name: str) -> None:
    assert trial.script(SCRIPTS[name], "9", stdin="3").value == 0


def test_an_argument_changes_only_where_nothing_is_returned(trial: Any) -> None:
    in_place = "def f(xs): xs.sort()"
    assert trial.functions(in_place, "xs = [3, 1]\nf(xs)\nassert xs == [1, 3]").value == 1
    spoils_what_it_is_compared_with = "def f(xs):\n    xs.clear()\n    return []"
    assert trial.functions(spoils_what_it_is_compared_with, "xs = [3, 1]\nassert f(xs) == sorted(xs)").value == 0


def test_helpers_of_the_prompt_are_not_taken_from_the_program(outside: Any) -> None:
    """HumanEval/32 checks a root by `poly`, which its prompt defines; a program that redefines it gains nothing."""
    from rlhf.types import Completion, Prompt, Rollout
    from rlhf_code.config import CodeTestsConfig
    from rlhf_code.reward import CodeTests

    prompt = (
        "def poly(xs, x):\n    return sum(c * x ** i for i, c in enumerate(xs))\n\ndef root(xs):\n    '''A root.'''\n"
    )
    columns = {"test": "def check(c):\n    assert abs(poly([2, -1], c([2, -1]))) < 1e-6", "entry_point": "root"}
    reward = CodeTests(CodeTestsConfig(layout="humaneval", continues=True), None)  # type: ignore[arg-type]
    answers = ["    return 2\n", "    return 0\n\ndef poly(xs, x):\n    return 0\n"]
    rollouts = [
        Rollout(
            prompt=Prompt(id="32", text=prompt, metadata=columns),
            completion=Completion(token_ids=(), logprobs=(), text=text, finish_reason="stop"),
        )
        for text in answers
    ]
    assert [score.value for score in reward(rollouts)] == [1, 0]
    reward.sandbox.close()


def test_an_earlier_program_and_its_tests_are_forgotten(trial: Any) -> None:
    """Copies inherit the launcher's memory, so no program, test or input may ever have been in it."""
    mark = "EARLIER-ANSWER-4711"
    assert trial.functions(f"def f(x): return '{mark}'", f"assert f(0) == '{mark}'").value == 1
    assert trial.script("print(input())", mark, stdin=mark).value == 1
    launcher = trial.reward.sandbox._launcher.process.pid
    memory = b"".join(_memory_of(launcher))
    assert b"rlhf_code" in memory  # the search can find something
    assert mark.encode() not in memory


def _memory_of(pid: int) -> Iterator[bytes]:
    """What the process may write to, which is all that programs could have left a trace in."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            start, end = (int(text, 16) for text in span.split("-"))
            if rights.startswith("rw") and "[v" not in line:
                memory.seek(start)
                yield memory.read(end - start)
