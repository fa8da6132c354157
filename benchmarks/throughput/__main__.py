"""Ours and the peers on the same work, interleaved, in one run: a table, and the ratios as JSON.

    python -m benchmarks.throughput [--short] [--only NAME ...] [--json FILE] [--threads N] [--rounds N]

One small model everywhere (`workload`), random rows of mixed lengths, the same batch and threads for all. A measure's
contenders are processes that take single steps in turns (`turns`, `race`), so a machine that is slow for a while is
slow for all of them; medians, after a warm-up step. A ratio is above 1 where ours is faster. `--short` is one round,
and of the peers' configurations their default and the one known to be best: ten minutes or so.

The exit code is 1 where one of our own contenders failed; a peer that cannot run here is a row that says why.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.throughput.apart import APART, Outcome
from benchmarks.throughput.machine import description
from benchmarks.throughput.measures import Measure, measures
from benchmarks.throughput.peers import install
from benchmarks.throughput.race import Peaks, Row, Settings, race, say
from benchmarks.throughput.table import as_table, ratio_names, ratios_of
from benchmarks.throughput.workload import Workload

SHORT_S = 550.0
"""Seconds after which the short form begins nothing new."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measures asked for and print what came of them."""
    known: dict[str, Measure | Callable[[Settings], Outcome]] = {**APART, **{m.name: m for m in measures()}}
    arguments = _arguments(argv, list(known))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the contenders are ended and the files removed
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        settings = Settings(
            threads=arguments.threads,
            short=arguments.short,
            rounds=arguments.rounds,
            workload=Workload(Path(folder)),
            peers=arguments.peers.resolve(),
            ends_at=time.monotonic() + SHORT_S if arguments.short else math.inf,
        )
        report = run(
            {name: known[name] for name in arguments.only or known if _belongs(known[name], settings)}, settings
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if any(row["failed"] and row["side"].startswith("ours") for row in report["rows"]) else 0


def run(chosen: Mapping[str, Measure | Callable[[Settings], Outcome]], settings: Settings) -> dict[str, Any]:
    """What the JSON file holds; the table is printed as it grows, and whole at the end."""
    settings.workload.write()
    began = time.monotonic()
    rows: list[Row] = []
    ratios: dict[str, float | None] = {}
    peaks = Peaks()
    for name, measure in chosen.items():
        if time.monotonic() > settings.ends_at:
            say(f"{name}: left out, there is no time for it")
            ratios |= dict.fromkeys(ratio_names(measure)) if isinstance(measure, Measure) else {}
            continue
        found, compared = _measured(measure, settings, peaks)
        rows += found
        ratios |= compared
        say(f"{as_table(found)}\n{name} is done, after {time.monotonic() - began:.0f} s in all\n")
    print(as_table(rows))
    print("\n".join(f"{name}: {'-' if ratio is None else f'{ratio:.2f}'}" for name, ratio in ratios.items()))
    return {
        "ratios": ratios,
        "rows": [row.as_json() for row in rows],
        "machine": description(settings.threads) | {"matrix_flops": peaks.flops, "copy_bytes_per_s": peaks.copies},
        "short": settings.short,
        "seconds": round(time.monotonic() - began, 1),
    }


def _belongs(measure: Measure | Callable[[Settings], Outcome], settings: Settings) -> bool:
    return not (settings.short and isinstance(measure, Measure) and not measure.short)


def _measured(measure: Measure | Callable[[Settings], Outcome], settings: Settings, peaks: Peaks) -> Outcome:
    if not isinstance(measure, Measure):
        return measure(settings)
    if measure.big_model:
        settings.workload.write(big=True)
    if any(entry.peers_folder for entry in measure.entries) and (trouble := install(settings.peers)):
        say(trouble)
    rows = race(measure, settings, peaks)
    return rows, ratios_of(measure, rows)


def _arguments(argv: Sequence[str] | None, names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--short", action="store_true", help="one round, fewer configurations: about ten minutes")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write ratios and rows here")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), metavar="N", help="of each contender (all cores)"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="of every measure, after its warm-up (3 to 7)")
    parser.add_argument(
        "--peers", type=Path, default=Path("build/peers"), metavar="DIR", help="libraries of older peers (build/peers)"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
