"""Does `rlhf data curate` find what was planted, and what does a large file cost?

    python -m benchmarks.curation --data DIR [--gigabytes G] [--runtime ray|inline] [--workers N] [--scratch DIR]

DIR holds the public data (pref/hh_helpful_base_test.jsonl, ...). First, near copies of real comparisons (HH-RLHF) and
items of evaluation sets are planted, and the share of them that is found, and of what is taken out that was planted, is
printed. With --gigabytes, a file of that size is made of real sentences with copies planted, curated by the command in
a process of its own, and the minutes and the most memory of all its processes together are printed, both as the sum of
what each has resident (which counts what they share several times) and as the sum of their proportional shares.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.errors import DataError, UserError
from rlhf.runtime.data_jobs.block_runs import Place
from rlhf.runtime.data_jobs.curating import CurateOptions, curate
from rlhf.runtime.data_jobs.lines_source import RowFormat

REAL = ("pref/hh_helpful_base_test.jsonl", "pref/hh_harmless_base_test.jsonl")
EVALUATION = ("judge/mt_bench.jsonl", "judge/arena_hard_v01.jsonl", "honest/truthfulqa_v1.jsonl")
SENTENCES = (*REAL, "sft/gpteacher_roleplay.jsonl", "sft/synthetic_persona_chat.jsonl", "text/wikitext2.txt")
THRESHOLD = 0.7

Row = dict[str, Any]


@dataclass(frozen=True)
class Share:
    """`hits` of `count`."""

    hits: int
    count: int

    def __str__(self) -> str:
        return f"{self.hits / self.count:.4f} ({self.hits} of {self.count})" if self.count else "none"


@dataclass(frozen=True)
class Found:
    """What curation made of planted rows."""

    recall: Share
    precision: Share


# --- planting --------------------------------------------------------------------------------------------------------


def real_rows(data: Path, limit: int | None = None) -> list[Row]:
    """Real comparisons no two of which share `THRESHOLD` of their three-word sequences: by plain sets, no hashes."""
    rows: list[Row] = []
    sizes: list[int] = []
    holders: dict[tuple[str, ...], list[int]] = {}
    for name in REAL:
        for line in (data / name).read_text("utf-8").split("\n"):
            if not line.strip() or (limit is not None and len(rows) >= limit):
                continue
            row = json.loads(line)
            mine = _sequences(row)
            shared = Counter(other for sequence in mine for other in holders.get(sequence, ()))
            if mine and all(n < THRESHOLD * (len(mine) + sizes[other] - n) for other, n in shared.items()):
                for sequence in mine:
                    holders.setdefault(sequence, []).append(len(rows))
                rows.append(row)
                sizes.append(len(mine))
    return rows


def _sequences(row: Row) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", f"{row['chosen']} {row['rejected']}".lower())
    return {tuple(words[n : n + 3]) for n in range(len(words) - 2)}


def near_copy(row: Row, chance: random.Random) -> Row:
    """The row with a few words changed, or its spacing and case, or some words more: as copies on the web differ."""
    kind = chance.choice(("words", "typos", "layout", "ending"))
    seed = chance.random()
    return {side: _changed(text, kind, random.Random(seed)) for side, text in row.items()}


def _changed(text: str, kind: str, chance: random.Random) -> str:
    head, separator, last = text.rpartition("\n\nAssistant:")
    if kind == "layout":
        return head + separator + " " + last.strip().upper()
    if kind == "ending":
        return head + separator + last + " Hope this helps!"
    words = last.split(" ")
    places = [n for n, word in enumerate(words) if len(word) > 3]
    for place in chance.sample(places, min(len(places), max(1, len(words) // 60))):
        word = words[place]
        words[place] = "something" if kind == "words" else word[:-2] + word[-1] + word[-2]
    return head + separator + " ".join(words)


def near_duplicates_found(data: Path, folder: Path, limit: int | None = None, share: float = 0.25) -> Found:
    """Plant near copies among real rows, curate, and compare. Of a row and its copy, one should go and no other row."""
    chance = random.Random(7)
    real = real_rows(data, limit)
    copied = chance.sample(range(len(real)), int(share * len(real)))
    rows = [(row, number) for number, row in enumerate(real)]
    rows += [(near_copy(real[number], chance), number) for number in copied]
    chance.shuffle(rows)
    family = {_name(row): number for row, number in rows}
    removed = _curated(_write(folder / "near.jsonl", [row for row, _ in rows]), folder, CurateOptions())
    out = [family[_name(told["row"])] for told in removed if "duplicate" in told["filter"]]
    right = len(set(out) & set(copied))
    return Found(recall=Share(right, len(copied)), precision=Share(right, len(out)))


def _name(row: Row) -> str:
    return json.dumps(row, sort_keys=True)


def contamination_found(data: Path, folder: Path, limit: int | None = None) -> Found:
    """Plant questions of evaluations in real rows, curate, and compare."""
    chance = random.Random(11)
    rows = real_rows(data, limit)
    questions = [text for name in EVALUATION for text in _questions(data / name)]
    hosts = chance.sample(range(len(rows)), min(len(rows) // 5, len(questions)))
    planted: set[str] = set()
    for host, question in zip(hosts, chance.sample(questions, len(hosts)), strict=True):
        long = len(re.findall(r"\w+", question)) >= 8
        asked = f"Here is my question. {question} Please be brief." if long else question
        rows[host] = {side: f"\n\nHuman: {asked}{_answer(text)}" for side, text in rows[host].items()}
        planted.add(_name(rows[host]))
    file = _write(folder / "contaminated.jsonl", rows)
    evaluation = tuple(str(data / name) for name in EVALUATION)
    removed = _curated(file, folder, CurateOptions(near_duplicates=None, evaluation=evaluation))
    out = [_name(told["row"]) for told in removed if told["filter"] == "contamination"]
    right = len(planted.intersection(out))
    return Found(recall=Share(right, len(planted)), precision=Share(right, len(out)))


def _questions(file: Path) -> Iterator[str]:
    for line in file.read_text("utf-8").split("\n"):
        if line.strip():
            row = json.loads(line)
            turns = row.get("turns") or [row.get("Question")]
            yield turns[0]["content"] if isinstance(turns[0], dict) else turns[0]


def _answer(transcript: str) -> str:
    return "\n\nAssistant:" + transcript.rpartition("\n\nAssistant:")[2]


def _write(file: Path, rows: Sequence[Row]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def _curated(file: Path, folder: Path, options: CurateOptions) -> list[Row]:
    """What was taken out."""
    out = folder / f"{file.stem}.kept.jsonl"
    found = curate(file, out, options, RowFormat(), Place())
    return [json.loads(line) for line in found.removed_file.read_text("utf-8").split("\n") if line]


# --- a large file ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Of curating a large file."""

    file_bytes: int
    seconds: float
    most_resident: int
    """Bytes: the highest sum of the resident sets of all processes of the command."""
    most_shares: int
    """Bytes: the same of proportional shares, where what several processes share counts once."""
    report: dict[str, Any]


def write_large(data: Path, file: Path, num_bytes: int) -> None:
    """Comparisons of real sentences: one in fifty has a near copy after it, one in a hundred an exact one."""
    chance = random.Random(3)
    sentences = sorted(
        {
            found.strip()
            for name in SENTENCES
            for found in re.split(r"(?<=[.!?])\s+|\\n|\n\n", (data / name).read_text("utf-8"))
            if 20 < len(found) < 300 and found.isprintable() and '"' not in found and "\\" not in found
        }
    )
    written = 0
    with file.open("w", encoding="utf-8") as out:
        while written < num_bytes:
            said = [" ".join(chance.choices(sentences, k=chance.randint(3, 8))) for _ in range(3)]
            asked = f"\n\nHuman: {said[0]}\n\nAssistant: "
            row = {"chosen": asked + said[1], "rejected": asked + said[2]}
            copies = [row] + ([near_copy(row, chance)] if chance.random() < 0.02 else [])
            copies += [row] if chance.random() < 0.01 else []
            for copy in copies:
                written += out.write(json.dumps(copy) + "\n")


def measured(command: Sequence[str]) -> tuple[float, int, int]:
    """Seconds, and the most memory of the command with all its processes, looked at twice a second."""
    import psutil

    started = time.monotonic()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    most = [0, 0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            told = [_memory(one) for one in _family(process)]
            for place in (0, 1):
                most[place] = max(most[place], sum(memory[place] for memory in told))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    code = process.wait()
    ended.set()
    watcher.join()
    if code:
        raise DataError(f"{' '.join(command)} ended with {code}")
    return time.monotonic() - started, most[0], most[1]


def _family(process: Any) -> list[Any]:
    import psutil

    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _memory(process: Any) -> tuple[int, int]:
    """Resident set and proportional share, in bytes; nothing of one that has just ended."""
    import psutil

    try:
        full = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0, 0
    return full.rss, full.pss


def cost_of_large(data: Path, folder: Path, gigabytes: float, more: Sequence[str]) -> Cost:
    """Make a file, curate it by the command, and remove both."""
    file, out = folder / "large.jsonl", folder / "large.kept.jsonl"
    write_large(data, file, int(gigabytes * 1e9))
    against = [word for name in EVALUATION for word in ("--against", str(data / name))]
    command = [sys.executable, "-m", "rlhf", "data", "curate", str(file), "--out", str(out), *against, *more]
    seconds, resident, shares = measured(command)
    report = json.loads(out.with_suffix(".report.json").read_text("utf-8"))
    return Cost(file.stat().st_size, seconds, resident, shares, report)


# --- the command -----------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Measure and print; 1 where a figure misses its mark, 2 where the input is at fault."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the public data")
    parser.add_argument("--gigabytes", type=float, metavar="G", help="also curate a made file of this size")
    parser.add_argument("--runtime", choices=("ray", "inline"), default="ray", help="of the large file (ray)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes on Ray")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="folder for the large file, removed afterwards")
    arguments = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
            good = _print_found(arguments.data, Path(scratch))
            if arguments.gigabytes:
                workers = ["--workers", str(arguments.workers)] if arguments.workers else []
                more = ["--runtime", arguments.runtime, *workers]
                _print_cost(cost_of_large(arguments.data, Path(scratch), arguments.gigabytes, more))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if good else 1


def _print_found(data: Path, folder: Path) -> bool:
    good = True
    print("| planted in HH-RLHF | recall | precision |\n|---|---|---|")
    for name, measure in (("near copies", near_duplicates_found), ("items of evaluations", contamination_found)):
        found = measure(data, folder)
        print(f"| {name} | {found.recall} | {found.precision} |", flush=True)
        good &= all(share.count and share.hits >= 0.95 * share.count for share in (found.recall, found.precision))
    return good


def _print_cost(cost: Cost) -> None:
    print(f"\n{cost.file_bytes / 1e9:.2f} GB in {cost.seconds / 60:.1f} min; most memory of all processes together:")
    print(f"{cost.most_resident / 1e9:.2f} GB resident, {cost.most_shares / 1e9:.2f} GB in proportional shares")
    print(f"{cost.report['rows']:,} rows, kept {cost.report['kept']:,}, removed {cost.report['removed']}")


if __name__ == "__main__":
    sys.exit(main())
