"""The untrusted side: a program as a script, or as functions that tests call from another process.

Nothing here defends itself: whatever the program does to this process, all it can change is what it prints and returns.
"""

from __future__ import annotations

import operator
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from rlhf_code.inside.wire import CannotCross, Closed, Codec, receive, send

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda function, *args, **kwargs: function(*args, **kwargs),
    "getattr": getattr,
    "setattr": setattr,
    "getitem": operator.getitem,
    "setitem": operator.setitem,
    "delitem": operator.delitem,
    "isinstance": isinstance,
    **{function.__name__: function for function in (iter, next, len, bool, str, repr)},
}
_MUTABLE = (list, dict, set, bytearray)


def load(source: str, name: str) -> dict[str, Any]:
    """Run the program as the module `name`; its names."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, "program.py", "exec"), module.__dict__)  # noqa: S102 - it is what the sandbox is for
    return module.__dict__


def run_script(source: str) -> None:
    """Run it as `python program.py` would: an exception ends it with a traceback, threads are waited for."""
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    load(source, "__main__")


def serve_functions(source: str, calls_in: int, calls_out: int) -> None:
    """Load the program, then answer what the tests ask of it until they are gone."""
    program = _Served(calls_in, calls_out)
    try:
        names = load(source, "program")
    except SystemExit:  # `sys.exit()` at the end of a script leaves its functions defined
        names = sys.modules["program"].__dict__
    program.objects.append(names)
    while True:
        try:
            message = receive(calls_in)
        except Closed:
            return
        program.answer(message)


class _Served:
    """The program's objects by number, and calls back into the tests for functions they passed as arguments."""

    def __init__(self, calls_in: int, calls_out: int) -> None:
        self.calls_in, self.calls_out = calls_in, calls_out
        self.objects: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.codec = Codec(self._give, self._take)

    def _give(self, value: Any) -> dict[str, int]:
        if isinstance(value, _Callback):
            return {"yours": value.number}
        number = self.numbers.setdefault(id(value), len(self.objects))
        if number == len(self.objects):
            self.objects.append(value)  # kept, so that no other object gets its id
        return {"mine": number}

    def _take(self, tag: str, number: int) -> Any:
        return self.objects[number] if tag == "yours" else _Callback(self, number)

    def answer(self, message: dict[str, Any]) -> None:
        """Do what was asked and send its result, or what it raised."""
        try:
            args = [self.codec.decode(item) for item in message["args"]]
            kwargs = {key: self.codec.decode(item) for key, item in message["kwargs"].items()}
            value = _OPERATIONS[message["op"]](*args, **kwargs)
            reply = {"value": self.codec.encode(value)}
            if value is None:
                reply["changed"] = self._changed(message["args"], args)
            send(self.calls_out, reply)
        except (Closed, CannotCross):
            os._exit(1)
        except BaseException as error:  # noqa: BLE001 - whatever the program raises is its answer
            names = [kind.__name__ for kind in type(error).__mro__]
            send(self.calls_out, {"raised": names, "text": str(error)[:1000]})

    def _changed(self, sent: list[Any], args: list[Any]) -> dict[int, Any]:
        """Arguments a function that returned None has changed in place, as they are now."""
        now = {index: self.codec.encode(arg) for index, arg in enumerate(args) if isinstance(arg, _MUTABLE)}
        return {index: item for index, item in now.items() if item != sent[index]}


class _Callback:
    """A function of the tests', seen from the program."""

    def __init__(self, served: _Served, number: int) -> None:
        self.served, self.number = served, number

    def __call__(self, *args: Any) -> Any:
        served = self.served
        send(served.calls_out, {"call": self.number, "args": [served.codec.encode(arg) for arg in args]})
        while True:
            message = receive(served.calls_in)
            if "op" not in message:
                break
            served.answer(message)
        if "raised" in message:
            raise RuntimeError(message["raised"])
        return served.codec.decode(message["value"])
