"""SFT, best-of-n and PPO side by side: several seeds of the quickstart, one table and one plot.

    python -m benchmarks.compare [--seeds N] [--out DIR] [--short] [--json FILE] [--runtime ray|inline]

For each seed the shipped recipe `quickstart` is run by `rlhf.train` (SFT, reward model, PPO). Then four methods answer
the same held-out prompts of the 3H suite, graded by the exact graders of the embedded world:

- SFT: one sample of the SFT model;
- best of 4, best of 16: that many samples of the SFT model, of which the run's *learned* reward model picks one;
- PPO: one sample of the model that PPO trained against that reward model.

So all methods of a seed share one SFT model, one reward model, one set of prompts and one sampling seed: what differs
is how the reward model is used, at training or at inference. A seed changes weights, order of the data and samples; the
data itself is the same for all. Printed and written to DIR (runs/compare):

- comparison.json: every row (a seed and a method), and each method's means and intervals over seeds;
- comparison.md: the table; comparison.svg: the plot;
- seed-N/: the run of each seed, with its report.html, and comparison/ with every graded answer.

What the columns say. KL to SFT: for PPO measured on held-out prompts, in nats an answer; for best-of-n
log n - (n - 1) / n, which is exact where no two samples are equal and too high where some are. Training seconds: of all
stages a method needs. Tokens per answer: generated at inference, those of discarded samples included.

A seed that is done is not run again, and one that was interrupted goes on where it stopped: give the same command.
`--short` trains for a few steps in one process, to see that everything works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rlhf
from benchmarks.comparison import as_table, draw, summarised
from benchmarks.methods import METHODS, Method, graded
from rlhf.errors import Interrupted, RunError, UserError
from rlhf.functional.selection import best_of_n_kl
from rlhf.plugins import load_plugins
from rlhf.recipe import Recipe, load_recipe
from rlhf.tracking.summary import SUMMARY_NAME, read_summary

RECIPE = "quickstart"
ROWS_NAME = "comparison.json"
SHORT: dict[str, Any] = {
    "defaults.data": {"type": "pocket", "num_demonstrations": 400, "num_rankings": 200, "num_held_out": 30},
    "sft.model.new.hidden_size": 48,
    "sft.model.new.num_layers": 1,
    "sft.algorithm.steps": 10,
    "reward.algorithm.steps": 5,
    "ppo.algorithm.steps": 2,
    "ppo.algorithm.prompts_per_step": 8,
    "ppo.algorithm.minibatch_size": 8,
    "evaluation.num_prompts": 30,
    "trackers": [],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print the table, and return the exit code: those of `rlhf`."""
    arguments = _arguments(argv)
    try:
        comparison = compare(arguments.seeds, arguments.out, arguments.runtime, short=arguments.short)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print("interrupted, after saving: the same command goes on", file=sys.stderr)
        return error.exit_code
    text = json.dumps(comparison, indent=2) + "\n"
    for path in filter(None, (arguments.out / "comparison.json", arguments.json)):
        path.write_text(text, encoding="utf-8")
    table = as_table(comparison)
    (arguments.out / "comparison.md").write_text(table, encoding="utf-8")
    (arguments.out / "comparison.svg").write_text(draw(comparison), encoding="utf-8")
    print(table, end="")
    return 0


def compare(num_seeds: int, out: Path, runtime: str, *, short: bool = False) -> dict[str, Any]:
    """What `comparison.json` holds."""
    rows = [row for seed in range(num_seeds) for row in rows_of_seed(seed, out / f"seed-{seed}", runtime, short=short)]
    return {
        "recipe": RECIPE,
        "short": short,
        "runtime": runtime,
        "seeds": num_seeds,
        "rows": rows,
        "methods": summarised(rows),
    }


def rows_of_seed(seed: int, folder: Path, runtime: str, *, short: bool) -> list[dict[str, Any]]:
    """A row for each method; the run of the seed is made, continued, or taken as it is.

    Raises `ConfigError` where `folder` holds a run of another recipe.
    """
    overrides = {**(SHORT if short else {}), "seed": seed, "runtime.type": runtime}
    recipe = load_recipe(RECIPE, overrides)
    finished = folder / ROWS_NAME
    if finished.is_file():
        saved = json.loads(finished.read_text(encoding="utf-8"))
        if saved["recipe_hash"] == recipe.digest:
            rows: list[dict[str, Any]] = saved["rows"]
            return rows
    stages = {stage["name"]: stage for stage in _run(recipe, overrides, folder)["stages"]}
    rows = [_row(method, recipe, folder, stages) for method in METHODS]
    finished.write_text(json.dumps({"recipe_hash": recipe.digest, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    return rows


def _run(recipe: Recipe, overrides: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The summary of the seed's run, which is there where only the grading was cut short."""
    if (folder / SUMMARY_NAME).is_file():
        summary = read_summary(folder)
        if summary["recipe_hash"] == recipe.digest:
            return summary
    return rlhf.train(RECIPE, overrides, out=folder, resume=(folder / "recipe.yaml").is_file()).summary


def _row(method: Method, recipe: Recipe, folder: Path, stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
    print(f"seed {recipe.seed}: grading {method.name}", file=sys.stderr)
    trained_by_rl = method.stage == "ppo"
    kl = stages["ppo"]["held_out"]["after"]["kl_to_reference"]["mean"] if trained_by_rl else best_of_n_kl(method.n)
    return {
        "seed": recipe.seed,
        "method": method.name,
        **graded(method, recipe, folder, load_plugins(recipe.plugins)),
        "kl": kl,
        "train_seconds": sum(stages[name]["seconds"] for name in method.pays_for),
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=_count, default=3, metavar="N", help="how many, from 0 on (3)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to (runs/compare, runs/compare-short)")
    parser.add_argument("--short", action="store_true", help="a few steps in one process, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write comparison.json here too")
    parser.add_argument("--runtime", choices=("ray", "inline"), help="ray, or inline with --short")
    arguments = parser.parse_args(argv)
    arguments.out = arguments.out or Path("runs") / ("compare-short" if arguments.short else "compare")
    arguments.runtime = arguments.runtime or ("inline" if arguments.short else "ray")
    for name, folder in (("--out", arguments.out), ("--json", arguments.json and arguments.json.parent)):
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"{name}: {folder} cannot be a folder: {error.strerror}")
    return arguments


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seeds; give 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
