"""The program as its tests see it: functions and objects in another process, asked for by number."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, NoReturn

from rlhf_code.inside.wire import CannotCross, Closed, Codec, receive, send


class Peer:
    """Asks the program, and answers when it calls a function the tests passed to it.

    `stop(reason, fault)` ends the judgement and does not return: a test's own `except` must not hide that the program
    is gone (`program`), or that a test asks for what cannot be done (`tests`).
    """

    def __init__(self, calls_in: int, calls_out: int, stop: Callable[[str, str], NoReturn]) -> None:
        self.calls_in, self.calls_out, self.stop = calls_in, calls_out, stop
        self.lent: list[Callable[..., Any]] = []
        self.known: dict[int, Remote] = {}
        self.codec = Codec(self._give, self._take)

    def name(self, name: str) -> Any:
        """What the program calls `name`; `KeyError` where it has no such name."""
        return self.ask("getitem", self._take("mine", 0), name)

    def ask(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        """The value of an operation on the program's objects, or the built-in exception it raised."""
        try:
            sent = [self.codec.encode(arg) for arg in args]
            named = {key: self.codec.encode(arg) for key, arg in kwargs.items()}
            reply = self._reply_to({"op": operation, "args": sent, "kwargs": named})
        except CannotCross as error:
            self.stop(str(error), "tests")
        except Closed as error:
            self.stop(str(error), "program")
        if "raised" in reply:
            raise _exception(reply["raised"], str(reply.get("text", "")))
        value = self.codec.decode(reply["value"])
        if value is None:
            self._change(args, reply.get("changed", {}))
        return value

    def _reply_to(self, message: dict[str, Any]) -> dict[str, Any]:
        send(self.calls_out, message)
        while True:
            reply = receive(self.calls_in)
            if "call" not in reply:
                return reply
            send(self.calls_out, self._called_back(reply))

    def _called_back(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            function = self.lent[message["call"]]
            value = function(*[self.codec.decode(arg) for arg in message["args"]])
            return {"value": self.codec.encode(value)}
        except Exception as error:  # noqa: BLE001 - it belongs to the program that called
            return {"raised": f"{type(error).__name__}: {error}"}

    def _change(self, args: tuple[Any, ...], changed: dict[str, Any]) -> None:
        """Functions that return None work in place: give the tests' own lists and tables their new contents."""
        for index, encoded in changed.items():
            ours, new = args[int(index)], self.codec.decode(encoded)
            if type(ours) is not type(new):
                raise TypeError(f"an argument became a {type(new).__name__}")
            if isinstance(ours, list | bytearray):
                ours[:] = new
            elif isinstance(ours, dict | set):
                ours.clear()
                ours.update(new)

    def _give(self, value: Any) -> dict[str, int]:
        if isinstance(value, Remote):
            return {"yours": object.__getattribute__(value, "_number")}
        if not callable(value):
            raise CannotCross(f"a test hands the program a {type(value).__name__}, which is not plain data")
        self.lent.append(value)
        return {"mine": len(self.lent) - 1}

    def _take(self, tag: str, number: int) -> Any:
        if tag == "yours":
            return self.lent[number]
        return self.known.setdefault(number, Remote(self, number))


class Remote:
    """An object of the program's. It is equal to itself and to nothing else, and has neither order nor arithmetic.

    `in` is answered by walking over it and comparing here: the program is never asked whether it has what is sought.
    """

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._peer.ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.ask("setattr", self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._peer.ask("call", self, *args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return self._peer.ask("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._peer.ask("setitem", self, key, value)

    def __delitem__(self, key: Any) -> None:
        self._peer.ask("delitem", self, key)

    def __iter__(self) -> Any:
        return self._peer.ask("iter", self)

    def __next__(self) -> Any:
        return self._peer.ask("next", self)

    def __len__(self) -> int:
        length: int = self._peer.ask("len", self)
        return length

    def __bool__(self) -> bool:
        truth: bool = self._peer.ask("bool", self)
        return truth

    def __str__(self) -> str:
        text: str = self._peer.ask("str", self)
        return text

    def __repr__(self) -> str:
        text: str = self._peer.ask("repr", self)
        return text

    def __instancecheck__(self, instance: Any) -> bool:
        """Of the program's objects and the program's classes; plain data is of no class of the program's."""
        return (
            isinstance(type(instance), type)
            and type(instance) is Remote
            and self._peer.ask("isinstance", instance, self)
        )


def _exception(names: Any, text: str) -> Exception:
    """The nearest built-in exception; never one that ends an interpreter."""
    for name in names:
        kind = getattr(builtins, name, None) if isinstance(name, str) else None
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(text)
            except TypeError:  # UnicodeDecodeError takes five arguments
                continue
    return RuntimeError(text)
