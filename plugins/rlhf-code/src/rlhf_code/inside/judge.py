"""The trusted side: tests of the data, in a process that holds nothing of the program they judge.

A test is an `assert` statement: at the top, in `check`, or in a function `test_*`. Each is tried, whatever became of
the others. The answer is written once, at the end, to a pipe that no other process has.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from types import CodeType, TracebackType
from typing import Any, NoReturn

from rlhf_code.inside.remote import Peer

_GUARD = "__guarded_assert__"


@dataclass
class _Block:
    """One piece of test code: which asserts it holds, and what became of them."""

    code: CodeType
    asserts: range
    functions: list[str]
    reached: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    completed: bool = False

    @property
    def counts(self) -> tuple[int, int]:
        """Tests passed, and tests there are."""
        if not self.asserts:  # code without asserts is one test: that it runs
            return int(self.completed), 1
        passed = len(self.reached - self.failed)
        if self.completed and self.reached:  # the others stand in branches that were not taken
            return passed, len(self.reached)
        return passed, max(len(self.asserts), passed + 1)


class Judge:
    """Runs tests against the program on the other side of a `Peer`."""

    def __init__(self, calls_in: int, calls_out: int, report: int) -> None:
        self.report = report
        self.blocks: list[_Block] = []
        self.running: _Block | None = None
        self.in_assert: int | None = None
        self.peer = Peer(calls_in, calls_out, self._stop)
        self.names: dict[str, Any] = {"__name__": "tests", _GUARD: lambda number: _Guard(self, number)}

    def judge(self, setup: str, tests: list[str], entry_point: str | None, seconds: float) -> NoReturn:
        """Try every test and write the report. `entry_point`: tests are functions `check(candidate)` of this name."""
        signal.signal(signal.SIGALRM, lambda *_: self._finish("timeout"))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            prepared = _compiled_setup(setup, required=entry_point is None)
            trees = [ast.parse(test, "tests.py") for test in tests]
            numbers = 0
            for tree in trees:
                self.blocks.append(_block(tree, numbers, called="check" if entry_point else ""))
                numbers = self.blocks[-1].asserts.stop
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self._finish("tests", f"they cannot be run: {error}")
        try:
            self._bind(trees, entry_point, prepared)
        except Exception as error:  # noqa: BLE001 - setup code of the data
            self._finish("tests", f"their setup raised {type(error).__name__}: {error}")
        for block in self.blocks:
            self._run(block, entry_point)
        self._finish("completed")

    def _bind(self, trees: list[ast.Module], entry_point: str | None, setup: CodeType) -> None:
        """Names the tests use: those of the data, else of Python, else of the standard library, else the program's.

        In that order, so that a program cannot put its own `abs` or `math` beneath a test.
        """
        exec(setup, self.names)  # noqa: S102 - code of the data, confined like the program
        wanted, called = _free_names(trees)
        for name in sorted((wanted - called - self.names.keys()) & sys.stdlib_module_names):
            self.names[name] = __import__(name)
        if entry_point:  # the setup may hold the beginning of the function that is to be written
            self.names.pop(entry_point, None)
            wanted.add(entry_point)
        for name in sorted(wanted - self.names.keys()):
            with contextlib.suppress(Exception):  # no such name, or an answer that is none: a test fails with NameError
                self.names[name] = self.peer.name(name)

    def _run(self, block: _Block, entry_point: str | None) -> None:
        self.running = block
        try:
            exec(block.code, self.names)  # noqa: S102
            if entry_point and not callable(self.names.get("check")):
                self._finish("tests", "they define no function check(candidate)")
            for name in block.functions:
                self.names[name](*([self.names[entry_point]] if entry_point else []))
        except Exception:  # noqa: BLE001 - what a test raises outside its asserts ends this piece of tests
            return
        block.completed = True

    def _stop(self, reason: str, fault: str) -> NoReturn:
        self._finish("tests" if fault == "tests" else "stopped", reason)

    def _finish(self, ended: str, reason: str = "") -> NoReturn:
        """Write the report and end; nothing a test does afterwards can change it."""
        if self.running and self.in_assert is not None:
            self.running.failed.add(self.in_assert)
        counts = [block.counts for block in self.blocks]
        passed, total = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
        answer = {"passed": passed, "tests": total, "ended": ended, "reason": reason[:500]}
        os.write(self.report, json.dumps(answer).encode())
        os._exit(0)


class _Guard:
    """Stands around one assert: notes that it was reached, and goes on when it fails."""

    def __init__(self, judge: Judge, number: int) -> None:
        self.judge, self.number = judge, number

    def __enter__(self) -> None:
        block = self.judge.running
        assert block is not None
        block.reached.add(self.number)
        self.judge.in_assert = self.number

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        block = self.judge.running
        assert block is not None
        self.judge.in_assert = None
        if kind is None:
            return False
        block.failed.add(self.number)
        return issubclass(kind, Exception)


class _GuardAsserts(ast.NodeTransformer):
    """Puts a guard around asserts whose failure no code of the tests is waiting for."""

    def __init__(self, first: int, functions: list[str]) -> None:
        self.first = self.next = first
        self.functions = functions

    def visit_Assert(self, node: ast.Assert) -> ast.With:
        call = ast.Call(ast.Name(_GUARD, ast.Load()), [ast.Constant(self.next)], [])
        self.next += 1
        return ast.With([ast.withitem(call)], [node])

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return self.generic_visit(node) if node.name in self.functions else node  # type: ignore[return-value]

    def _leave(self, node: ast.AST) -> ast.AST:
        return node

    visit_Try = visit_TryStar = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _leave


def _compiled_setup(setup: str, *, required: bool) -> CodeType:
    """With an entry point the setup is the prompt, which may be words and no code."""
    try:
        return compile(setup, "setup.py", "exec")
    except (SyntaxError, ValueError):
        if required:
            raise
        return compile("", "setup.py", "exec")


def _block(tree: ast.Module, first: int, *, called: str) -> _Block:
    """Test code, made ready; `called` is the function that is run, those named `test_*` where it is empty."""
    _require_runnable(tree)
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    functions = [called] if called else [node.name for node in defined if node.name.startswith("test_")]
    for node in defined:
        if node.name in functions and len(node.args.args) - len(node.args.defaults) > bool(called):
            raise ValueError(f"{node.name} takes arguments nobody gives it")
    guard = _GuardAsserts(first, functions)
    guarded = ast.fix_missing_locations(guard.visit(tree))
    return _Block(compile(guarded, "tests.py", "exec"), range(first, guard.next), functions)


def _require_runnable(tree: ast.Module) -> None:
    """Tests that import what is not here would fail every program."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.partition(".")[0] not in sys.stdlib_module_names:
                raise ValueError(f"they import {name!r}, and there is only the standard library")


def _free_names(trees: list[ast.Module]) -> tuple[set[str], set[str]]:
    """Names that are read and not Python's own; and which of them are called."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return read - set(dir(builtins)) - {_GUARD}, called
