"""Do the graders of `plugins/rlhf-3h` agree with people? One table, on labelled data they were not trained on.

    python -m benchmarks.graders --data DIR [--only NAME ...] [--out FILE]

DIR holds the data files by their folders (harmless/xstest_completions_labelled.jsonl, ...). Printed as a table in
Markdown, and written to FILE (runs/graders.md). Beside each grader stand its rivals on the very same rows and splits:
the majority ("always the commoner label", or a coin for pairs), a regular expression or bags of words where they are
known to do well. What the columns say:

- split: ten folds where no question (and no copy of an answer) is on both sides, unless it says otherwise; every row is
  judged once, by a model that has not seen its question. "Another file": trained on one data set, tested on another.
- figure: accuracy; AUPRC (average precision) of moderation categories; share of pairs whose better answer has the
  higher score (a tie counts half).
- interval: 95 %, bootstrapped over questions: all rows of a question are drawn together, as they are not independent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from benchmarks.grading.measures import Line, as_markdown
from rlhf.errors import DataError, UserError

OUT = Path("runs/graders.md")


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
    if find_spec("rlhf_3h") is None:
        raise DataError("the package rlhf-3h is not installed: pip install -e plugins/rlhf-3h")
    measures = _measures()
    for name in only or measures:
        if name not in measures:
            raise DataError(f"--only: no measure is called {name!r}. Known: {', '.join(measures)}.")
        print(f"measuring {name} ...", file=sys.stderr)
        yield from measures[name](data)


def _measures() -> dict[str, Callable[[Path], list[Line]]]:
    from benchmarks.grading import classifiers, preferences

    return {
        "refusal": classifiers.refusal,
        "jailbroken": classifiers.jailbroken,
        "moderation": classifiers.moderation,
        "truthful": classifiers.truthful,
        "abstains": classifiers.abstains,
        "relevant": preferences.relevant,
        "pairs": preferences.pairs,
    }


if __name__ == "__main__":
    sys.exit(main())
