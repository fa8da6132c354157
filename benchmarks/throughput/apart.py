"""Two measures that are no race: the time to the first step, and the memory of log-probs."""

from __future__ import annotations

import statistics
import time

from benchmarks.throughput.measures import PACKAGE, Entry, starters
from benchmarks.throughput.memory import TOKENS, VOCABULARY
from benchmarks.throughput.race import START_LIMIT_S, WARM_UP_LIMIT_S, Row, Settings, say, start
from benchmarks.throughput.table import ratio_of
from benchmarks.throughput.turns import ContenderFailed

Outcome = tuple[list[Row], dict[str, float | None]]


def first_step(settings: Settings) -> Outcome:
    """Seconds from the start of the process to the end of the first GRPO step, a small one, imports and start of Ray
    included. The contenders are alone on the machine, one after the other.
    """
    rows = []
    for entry in starters(short=settings.short):
        row = Row("first_step", entry.name, entry.side, "steps/s", 1)
        say(f"first_step: {entry.name}")
        for number in range(1 if settings.short else 3):
            _one_start(entry, row, settings, number)
        if row.seconds:
            row.median_s = statistics.median(row.seconds)
            row.rate = 1 / row.median_s
        rows.append(row)
    return rows, {"first_step_vs_trl": ratio_of(rows, ("ours",), ("peer",))}


def _one_start(entry: Entry, row: Row, settings: Settings, number: int) -> None:
    began = time.monotonic()
    contender = start(entry, settings, f"first_step-{number}")
    try:
        contender.wait_ready(START_LIMIT_S)
        turn = contender.step(WARM_UP_LIMIT_S)
        row.seconds.append(time.monotonic() - began)
        row.peak_bytes = max(turn.peak_bytes, row.peak_bytes or 0)
    except ContenderFailed as failure:
        row.failed = str(failure)
    contender.stop()


def logprob_memory(settings: Settings) -> Outcome:
    """How far log-probs of 8 x 512 tokens at vocabulary 150,000 raise a process's peak memory, backward included.

    Above 1, ours needs less: than the whole logits take with their backward pass, and than the logits alone would.
    """
    entries = (
        Entry("ours", "ours", f"{PACKAGE}.memory", {"kind": "chunked"}),
        Entry("whole logits", "peer", f"{PACKAGE}.memory", {"kind": "whole"}),
    )
    rows = []
    for entry in entries:
        row = Row("logprob_memory", entry.name, entry.side, "tokens/s", TOKENS)
        say(f"logprob_memory: {entry.name}")
        contender = start(entry, settings, "logprob_memory")
        try:
            contender.wait_ready(START_LIMIT_S)
            turn = contender.step(WARM_UP_LIMIT_S)
            row.seconds, row.median_s, row.rate = [turn.seconds], turn.seconds, TOKENS / turn.seconds
            row.extra_bytes = int(turn.figures["metrics"]["memory/extra"])
            row.peak_bytes = turn.peak_bytes
        except ContenderFailed as failure:
            row.failed = str(failure)
        contender.stop()
        rows.append(row)
    mine, whole = (row.extra_bytes for row in rows)
    return rows, {
        "logprob_memory_vs_whole_logits": whole / mine if mine and whole else None,
        "logprob_memory_vs_logits_alone": 4 * TOKENS * VOCABULARY / mine if mine else None,
    }


APART = {"first_step": first_step, "logprob_memory": logprob_memory}
