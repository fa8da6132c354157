"""What may pass between a program and its tests: plain data, rebuilt on arrival, and numbers that stand for objects.

Nothing of a program's own class ever arrives, so an object that is equal to everything, a list that lies about its
length or a float whose `<` is always true stays where it was made. JSON, not pickle: reading it runs nothing.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from typing import Any

LONGEST_MESSAGE = 32 << 20
_SAFE_INTEGER = 1 << 53

# Values of the standard library that tests compare: module, and what its constructor is given.
_VALUES: dict[str, tuple[str, Callable[[Any], list[Any]]]] = {
    "Decimal": ("decimal", lambda v: [str(v)]),
    "Fraction": ("fractions", lambda v: [v.numerator, v.denominator]),
    "deque": ("collections", lambda v: [list(v), v.maxlen]),
    "range": ("builtins", lambda v: [v.start, v.stop, v.step]),
    "date": ("datetime", lambda v: [v.year, v.month, v.day]),
    "timedelta": ("datetime", lambda v: [v.days, v.seconds, v.microseconds]),
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "int": lambda text: int(text, 16),
    "complex": lambda parts: complex(*parts),
}


class CannotCross(Exception):
    """An object that is neither plain data nor has a number here."""


class Closed(Exception):
    """The other side is gone, or sent what is no message."""


class Codec:
    """Writes and reads values for one side. `give` numbers an object of this side; `take` stands in for the other's."""

    def __init__(self, give: Callable[[Any], dict[str, int]], take: Callable[[str, int], Any]) -> None:
        self.give = give
        self.take = take

    def encode(self, value: Any) -> Any:
        """The value as JSON can hold it. Subclasses of plain types become the plain type."""
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            number = int.__int__(value)
            return number if abs(number) < _SAFE_INTEGER else {"int": format(number, "x")}
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, list):
            return [self.encode(item) for item in list.__iter__(value)]
        if isinstance(value, tuple | set | frozenset):
            tag = "tuple" if isinstance(value, tuple) else "set" if isinstance(value, set) else "frozenset"
            return {tag: [self.encode(item) for item in value]}
        if isinstance(value, dict):
            return {"dict": [[self.encode(key), self.encode(item)] for key, item in dict.items(value)]}
        if isinstance(value, bytes | bytearray):
            return {"bytes" if isinstance(value, bytes) else "bytearray": value.hex()}
        if isinstance(value, complex):
            return {"complex": [value.real, value.imag]}
        return self._encode_other(value)

    def _encode_other(self, value: Any) -> Any:
        kind = type(value)
        module, parts = _VALUES.get(kind.__name__, ("", None))
        if parts is not None and kind.__module__ == module:
            return {kind.__name__: [self.encode(part) for part in parts(value)]}
        return self.give(value)

    def decode(self, data: Any) -> Any:
        """The value, of exactly the plain types; `Closed` for what no encoder writes."""
        if data is None or isinstance(data, str | bool | int | float):
            return data
        if isinstance(data, list):
            return [self.decode(item) for item in data]
        if not isinstance(data, dict) or len(data) != 1:
            raise Closed("not a value")
        ((tag, content),) = data.items()
        if tag in ("mine", "yours"):
            return self.take(tag, content)
        if tag == "dict":
            return {self.decode(key): self.decode(item) for key, item in content}
        if tag in _READERS:
            return _READERS[tag](self.decode(content))
        if tag in _VALUES:
            module = __import__(_VALUES[tag][0])
            return getattr(module, tag)(*self.decode(content))
        raise Closed("not a value")


def send(fd: int, message: dict[str, Any]) -> None:
    """One message: its length in four bytes, then JSON."""
    text = json.dumps(message).encode()
    if len(text) > LONGEST_MESSAGE:
        raise CannotCross(f"{len(text)} bytes in one value")
    data = memoryview(struct.pack("!I", len(text)) + text)
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BrokenPipeError:
        raise Closed("the other side is gone") from None


def receive(fd: int) -> dict[str, Any]:
    """The next message; `Closed` at the end and for anything that is none."""
    (length,) = struct.unpack("!I", _read(fd, 4))
    if length > LONGEST_MESSAGE:
        raise Closed(f"a message of {length} bytes")
    try:
        message = json.loads(_read(fd, length))
    except (ValueError, RecursionError):
        raise Closed("a message that is not JSON") from None
    if not isinstance(message, dict):
        raise Closed("a message that is no table")
    return message


def _read(fd: int, length: int) -> bytes:
    chunks = []
    while length:
        chunk = os.read(fd, min(length, 1 << 20))
        if not chunk:
            raise Closed("the other side is gone")
        chunks.append(chunk)
        length -= len(chunk)
    return b"".join(chunks)
