"""Honest programs and honest tests: what passes, what fails, and what cannot be judged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf.types import Rollout, Score
from rlhf_code.config import CodeTestsConfig
from rlhf_code.reward import CodeTests

STACK = """
class Stack:
    def __init__(self, *items): self.items = [*items]
    def push(self, item): self.items.append(item)
    def pop(self):
        if not self.items: raise IndexError('empty')
        return self.items.pop()
    def __len__(self): return len(self.items)
    def __iter__(self): return iter(self.items)
    def __getitem__(self, i): return self.items[i]
    @property
    def top(self): return self.items[-1]
def twice(function, value): return function(function(value))
def add(a): return lambda b, *, c=0: a + b + c
def naturals():
    n = 0
    while True:
        yield n
        n += 1
def same(value): return value
def sort(values): values.sort()
def top_of(stack): return stack.top
"""

PASSING = {
    "plain data": """
import decimal, fractions, datetime, collections
for value in (None, True, 1, -(2 ** 200), 0.1, float('inf'), 1j, 'x\\u00e9\\U0001f600\\ud800', b'\\x00',
              bytearray(b'1'), [1, [2]], (1, (2,)), {1, 2}, frozenset({1}), {'a': (1,), 2: [3]}, range(3),
              decimal.Decimal('1.10'), fractions.Fraction(1, 3), collections.deque([1], 3), datetime.date(2026, 1, 2),
              datetime.timedelta(1, 2)):
    assert same(value) == value and type(same(value)) is type(value), value
""",
    "objects": """
s = Stack(1)
s.push(2)
assert len(s) == 2 and s.top == 2 and list(s) == [1, 2] and s[0] == 1
assert s.pop() == 2
""",
    "objects as arguments": """
s = Stack(1, 5)
assert top_of(s) == 5
assert same(s) is s
assert isinstance(s, Stack) and not isinstance(1, Stack)
""",
    "exceptions": """
try:
    Stack().pop()
    assert False
except IndexError as error:
    assert str(error) == 'empty'
""",
    "functions as arguments": "assert twice(lambda x: x * 3, 2) == 18",
    "functions as results": "assert add(1)(2) == 3 and add(1)(2, c=4) == 7",
    "generators": "import itertools\nassert list(itertools.islice(naturals(), 3)) == [0, 1, 2]\nassert 5 in naturals()",
    "in place": "xs = [3, 1, 2]\nassert sort(xs) is None\nassert xs == [1, 2, 3]",
    "test functions": """
def test_one():
    assert same(1) == 1
def test_two():
    for n in range(3):
        assert same(n) == n
""",
    "either of two": "try:\n    assert same(1) == 2\nexcept AssertionError:\n    assert same(1) == 1",
    "branches": "if same(1) == 1:\n    assert same(2) == 2\nelse:\n    assert same(2) == 3",
    "no asserts": "same(1)",
    "library nobody imported": "assert math.floor(same(1.5)) == 1",
    "attributes": "s = Stack(1)\ns.items = [7]\nassert s.top == 7",
}

SHARES = {
    "by assert": ("assert same(1) == 1\nassert same(1) == 2\nassert same(1) == 1\nassert same(1) == same", 0.5),
    "in a loop": ("for n in range(9):\n    assert same(n) < 8\nassert same(1) == 1", 0.5),
    "raises on the way": ("assert same(1) == 1\nsame()\nassert same(1) == 1", 0.5),
    "none was reached": ("for n in same([]):\n    assert n", 0.0),
    "no such function": ("assert other(1) == 1\nassert same(1) == 1", 0.5),
}

UNUSABLE = {
    "tests that do not compile": ["assert ("],
    "setup that raises": ["assert same(1) == 1"],
    "modules that are not there": ["import numpy as np\nassert np.all(same(1))"],
    "fixtures": ["def test_one(tmp_path):\n    assert same(1) == 1"],
    "a class of the tests": ["class A: pass\nassert same(A())"],
    "no tests": [],
    "other things": [1, 2],
    "half a pair": [{"input": "1"}],
    "mixed": ["assert 1", {"input": "1", "output": "1"}],
    "a number": 3,
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_in_one_process_passes_across_two(trial: Any, name: str) -> None:
    exec(compile(STACK + "\nimport math\n" + PASSING[name], "", "exec"), {})
    score = trial.functions(STACK, PASSING[name])
    assert score == Score(value=1.0, parts={"timed_out": 0.0, "no_program": 0.0})


@pytest.mark.parametrize("name", SHARES)
def test_share(trial: Any, name: str) -> None:
    tests, share = SHARES[name]
    assert trial.functions(STACK, tests).value == share


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_tests_are_an_error_and_not_a_zero(trial: Any, rollout: Callable[..., Rollout], name: str) -> None:
    columns = {"setup": "1 / 0"} if name == "setup that raises" else {}
    (score,) = trial.reward([rollout(f"```python\n{STACK}\n```", tests=UNUSABLE[name], **columns)])
    assert score.value is None
    assert score.error
    assert "\n" not in score.error


SCRIPTS = {
    "input": ("a, b = map(int, input().split())\nprint(a + b)", "1 2\n", "3"),
    "blanks at ends": ("print('1 ')\nprint('2\\n\\n')", "", "1\n2\n"),
    "no newline": ("print('x', end='')", "", "x\n"),
    "all of it": ("import sys\nprint(len(sys.stdin.read()))", "x" * 3_000_000, "3000000"),
    "by its number": ("import os\nprint(os.read(0, 10).decode())", "abc", "abc"),
    "main": ("def main(): print('m')\nif __name__ == '__main__': main()", "", "m"),
    "text": ("print(input()[::-1])", "h\u00e9\U0001f600", "\U0001f600\u00e9h"),
    "many modules": (
        "import json, re, collections, dataclasses, enum, bisect, typing, asyncio, decimal\nprint(1)",
        "",
        "1",
    ),
    "event loop": ("import asyncio\nasync def f(): await asyncio.sleep(0); print(1)\nasyncio.run(f())", "", "1"),
    "last words": ("import atexit\natexit.register(print, 'b')\nprint('a')", "", "a\nb"),
    "luck": ("import random\nprint(random.random())", "", "0.8444218515250481"),
}
WITH_NAMESPACES = {
    "thread": (
        """
import sys, threading
sys.setrecursionlimit(10**6)
threading.stack_size(2**26)
def f(n): return n and 1 + f(n - 1)
threading.Thread(target=lambda: print(f(50000))).start()
""",
        "",
        "50000",
    ),
    "file of standard input": ("print(open('/dev/stdin').read())", "abc", "abc"),
    "files": ("open('x', 'w').write('1')\nprint(open('/tmp/x').read())", "", "1"),
}


@pytest.mark.parametrize("name", SCRIPTS | WITH_NAMESPACES)
def test_scripts(trial: Any, name: str) -> None:
    if name in WITH_NAMESPACES and trial.isolation == "process":
        pytest.skip("neither threads nor files in `process`")
    source, given, printed = (SCRIPTS | WITH_NAMESPACES)[name]
    assert trial.script(source, printed, stdin=given).value == 1
    assert trial.script(source, printed + "x", stdin=given).value == 0


@pytest.fixture
def rewards() -> Iterator[Callable[..., CodeTests]]:
    """Builds rewards and ends their sandboxes."""
    built: list[CodeTests] = []

    def build(**options: Any) -> CodeTests:
        built.append(CodeTests(CodeTestsConfig(**options), None))  # type: ignore[arg-type]
        return built[-1]

    yield build
    for reward in built:
        reward.sandbox.close()


def test_rows_in_order_whatever_the_workers(rewards: Any, rollout: Any) -> None:
    rows = [rollout(f"```python\ndef f(): return {n}\n```", tests=[f"assert f() == {n // 2 * 2}"]) for n in range(12)]
    expected = [float(n % 2 == 0) for n in range(12)]
    for workers in (1, 8):
        reward = rewards(workers=workers)
        assert [score.value for score in reward(rows)] == expected
        assert [score.value for row in rows for score in reward([row])] == expected


def test_all_or_share(rewards: Any, rollout: Any) -> None:
    pairs = [{"input": str(n), "output": str(n * n)} for n in range(4)]
    row = rollout("```python\nn = int(input())\nprint(n * n if n != 2 else 0)\n```", tests=pairs)
    assert [score.value for score in rewards(score="share")([row])] == [0.75]
    assert [score.value for score in rewards(score="all")([row])] == [0.0]


def test_a_completion_without_a_program(rewards: Any, rollout: Any) -> None:
    text = "def f(): return 1"
    row = rollout(text, tests="assert f() == 1")
    assert rewards()([row]) == [Score(value=0.0, parts={"timed_out": 0.0, "no_program": 1.0})]
    assert rewards(unfenced=True)([row])[0].value == 1


def test_time_that_ran_out_is_said(rewards: Any, rollout: Any) -> None:
    reward = rewards(seconds=1, score="share")
    tests = ["assert f(0) == 0", "assert f(1) == 1"]
    row = rollout("```python\nimport time\ndef f(x):\n    time.sleep(x * 100)\n    return x\n```", tests=tests)
    assert reward([row]) == [Score(value=0.5, parts={"timed_out": 1.0, "no_program": 0.0})]


def test_columns(rewards: Any, rollout: Any) -> None:
    assert rewards().columns == ("tests",)
    assert rewards(layout="humaneval").columns == ("test", "entry_point")
    (score,) = rewards()([rollout("```python\n1\n```", test="assert 1")])
    assert score.error == "column 'tests' is empty or missing in row 'row'"


def _humaneval() -> list[dict[str, str]]:
    beside = Path(__file__).parents[3].resolve().parent / "shared" / "data"
    path = Path(os.environ.get("RLHF_DATA_DIR", beside)) / "math" / "humaneval.jsonl"
    if not path.exists():
        pytest.skip(f"no {path}: set RLHF_DATA_DIR")
    return [json.loads(line) for line in path.read_text().splitlines()]


def _humaneval_scores(reward: CodeTests, rollout: Any, complete: Callable[[dict[str, str]], str]) -> list[Score]:
    rows = _humaneval()
    columns = ("prompt", "test", "entry_point")
    return reward([rollout(complete(row), **{name: row[name] for name in columns}) for row in rows])


def test_humaneval_solutions_pass(rewards: Any, rollout: Any) -> None:
    scores = _humaneval_scores(
        rewards(layout="humaneval", continues=True), rollout, lambda row: row["canonical_solution"]
    )
    assert len(scores) == 96
    assert [score.value for score in scores] == [1.0] * 96


def test_humaneval_solutions_pass_when_written_whole(rewards: Any, rollout: Any) -> None:
    def answer(row: dict[str, str]) -> str:
        return f"Here it is:\n\n```python\n{row['prompt']}{row['canonical_solution']}\n```\nDone."

    scores = _humaneval_scores(rewards(layout="humaneval"), rollout, answer)
    assert [score.value for score in scores] == [1.0] * 96


@pytest.mark.parametrize(
    "wrong",
    [
        "    return None\n",
        "    pass\n",
        "    raise ValueError\n",
        "    return object()\n",
        "    return (\n",
        "    import os; os._exit(0)\n",
    ],
)
def test_humaneval_programs_that_do_nothing_fail(rewards: Any, rollout: Any, wrong: str) -> None:
    scores = _humaneval_scores(rewards(layout="humaneval", continues=True), rollout, lambda row: wrong)
    assert [score.value for score in scores] == [0.0] * 96


def test_humaneval_solutions_with_a_wrong_result_fail(rewards: Any, rollout: Any) -> None:
    """The right solution, and its result spoilt at the last moment."""

    def mutated(row: dict[str, str]) -> str:
        spoil = "_right = {0}\ndef {0}(*args):\n    return [_right(*args), 'spoilt']\n"
        return row["canonical_solution"] + "\n\n" + spoil.format(row["entry_point"])

    scores = _humaneval_scores(rewards(layout="humaneval", continues=True), rollout, mutated)
    assert [score.value for score in scores] == [0.0] * 96
