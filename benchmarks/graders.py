"""Do the graders of `plugins/` agree with people? One table, on labelled data they were not trained on.

    python -m benchmarks.graders --data DIR [--only NAME ...] [--out FILE]

DIR holds the data files by their folders (harmless/xstest_completions_labelled.jsonl, ...). Printed as a table in
Markdown, and written to FILE (runs/graders.md). The packages `rlhf-3h`, `rlhf-ifeval` and `rlhf-grounded` are to be
installed, or their `src` folders on PYTHONPATH. Beside each grader stand its rivals on the very same rows and splits:
the majority ("always the commoner label", or a coin for pairs), a regular expression or bags of words where they are
known to do well. What the columns say:

- split: ten folds where no question (and no copy of an answer) is on both sides, unless it says otherwise; every row is
  judged once, by a model that has not seen its question. "Another file": trained on one data set, tested on another.
- figure: accuracy; AUPRC (average precision) of moderation categories; share of pairs whose better answer has the
  higher score (a tie counts half).
- interval: 95 %, bootstrapped over questions: all rows of a question are drawn together, as they are not independent.
- made by: what follows `python -m benchmarks.graders --data DIR` for these rows alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from benchmarks.grading.measures import Line, as_markdown
from rlhf.errors import DataError, UserError, nearest

OUT = Path("runs/graders.md")
MEASURES = {
    "refusal": ("rlhf_3h", "classifiers"),
    "jailbroken": ("rlhf_3h", "classifiers"),
    "moderation": ("rlhf_3h", "classifiers"),
    "truthful": ("rlhf_3h", "classifiers"),
    "abstains": ("rlhf_3h", "classifiers"),
    "ifeval": ("rlhf_ifeval", "followed"),
    "grounded": ("rlhf_grounded", "evidence"),
    "relevant": ("rlhf_3h", "preferences"),
    "pairs": ("rlhf_3h", "preferences"),
}
"""Of each the package it measures, and the module that has a function of this name."""


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 2 where the input is at fault."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graders", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the labelled data")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this measure; may be repeated")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help=f"where the table goes ({OUT})")
    arguments = parser.parse_args(argv)
    try:
        lines = list(_measured(arguments.data, arguments.only))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = as_markdown(lines)
    print(table)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(table + "\n", encoding="utf-8")
    print(f"written to {arguments.out}", file=sys.stderr)
    return 0


def _measured(data: Path, only: list[str] | None) -> Iterator[Line]:
    for name in only or MEASURES:
        if name not in MEASURES:
            raise DataError(
                f"--only: no measure is called {name!r}.{nearest(name, MEASURES)} Known: {', '.join(MEASURES)}."
            )
        package, module = MEASURES[name]
        if find_spec(package) is None:
            folder = package.replace("_", "-")
            raise DataError(f"the package {folder} is not installed: pip install -e plugins/{folder}")
        print(f"measuring {name} ...", file=sys.stderr)
        measure: Callable[[Path], list[Line]] = getattr(import_module(f"benchmarks.grading.{module}"), name)
        yield from (replace(line, made_by=f"--only {name}") for line in measure(data))


if __name__ == "__main__":
    sys.exit(main())
