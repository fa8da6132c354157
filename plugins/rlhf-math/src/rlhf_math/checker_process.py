r"""The program that compares answers with math-verify: run by its path, killed without ceremony, so it keeps nothing.

It reads one request a line and writes one reply a line, both JSON. First it says `{"ready": true}`, or what is
`{"missing": ...}`. Requests:

    {"reference": R}               -> {"parsed": whether R is an answer that can be worked out}
    {"reference": R, "answer": A}  -> {"parsed": whether A is one as well, "equal": whether it is R}
    {"reference": R, "text": T}    -> the same of the answer that T gives with words like "the answer is"

A reply with `"retire": true` is its last: it has grown too large. What a request asks for may take `argv[1]` seconds of
processor time; then the kernel ends the process, whatever it is doing. A Python signal handler could not: it waits for
the operation in progress, such as 9**9**9, to end. Processor time, unlike the clock, does not run faster where others
use the machine.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

_MEMORY = 2 * 1024**3
"""Bytes of address space; an answer that needs more is no right answer."""
_RETIRES_AT = 512 * 1024**2
"""Bytes of memory in use at which a process makes room for a fresh one, well before rows feel the limit."""
_TRIAL = "1234567"
"""What a reference is compared with to learn whether it can be worked out at all."""


def main() -> None:
    """Answer requests until there are no more."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # a library that prints does not write replies

    def reply(content: dict[str, Any]) -> None:
        replies.write(json.dumps(content) + "\n")
        replies.flush()

    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    logging.disable(logging.CRITICAL)  # math-verify logs texts it cannot read
    try:
        _checked({"reference": _TRIAL, "text": "The answer is $x^2$."})  # what loads and compiles once is no row's time
    except ImportError as error:
        reply({"missing": str(error)})
        return
    if sys.platform == "linux":  # elsewhere the limit is not kept, or cannot be set
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    reply({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, float(sys.argv[1]))
        content = _checked(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        retire = _resident() > _RETIRES_AT
        reply({**content, "retire": retire})
        if retire:
            return


def _resident() -> int:
    """Bytes of memory in use. Not `ru_maxrss`, which begins with that of the process we were started from."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else 0


def _checked(request: dict[str, str]) -> dict[str, bool]:
    expected = _answer(request["reference"])
    if request.keys() == {"reference"}:
        _equal(expected, _answer(_TRIAL))
        return {"parsed": bool(expected)}
    given = _spoken(request["text"]) if "text" in request else _answer(request["answer"])
    return {"parsed": bool(given), "equal": _equal(expected, given)}


def _answer(latex: str) -> list[Any]:
    """The answer as math-verify reads it: the expression and its text, or nothing."""
    from math_verify import LatexExtractionConfig

    return _parsed(rf"\boxed{{{latex}}}", [LatexExtractionConfig(boxed_match_priority=0)])


def _spoken(text: str) -> list[Any]:
    """The answer that a sentence announces; the last number of a text is none."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig

    latex = LatexExtractionConfig(boxed_match_priority=-1, try_extract_without_anchor=False)
    return _parsed(text, [latex, ExprExtractionConfig(try_extract_without_anchor=False)])


def _parsed(text: str, targets: list[Any]) -> list[Any]:
    from math_verify import parse

    found: list[Any] = parse(text, targets, parsing_timeout=None)
    return found if any(not isinstance(item, str) for item in found) else []  # text alone: it is no mathematics


def _equal(expected: list[Any], given: list[Any]) -> bool:
    from math_verify import verify

    return bool(verify(expected, given, timeout_seconds=None))


if __name__ == "__main__":
    main()
