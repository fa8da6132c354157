"""`rlhf generate`: completions for the prompts of a file of any size, as rows that training and grading read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rlhf.config import ModelConfig, RolloutConfig
from rlhf.data.curation.blocks import Block, Line, read_block
from rlhf.data.curation.row_view import LineReader
from rlhf.data.dataset import as_chat
from rlhf.data.encode import Encoder
from rlhf.data.formats import find_format
from rlhf.data.turns import Fault
from rlhf.errors import ConfigError, DataError
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.runtime.data_jobs.block_runs import Place, at_work, run_blocks
from rlhf.runtime.data_jobs.job_folder import JobFolder, block_file, join_files
from rlhf.runtime.data_jobs.judging import Judge, build_judge, judged
from rlhf.runtime.data_jobs.lines_source import LinesSource, RowFormat, open_source, require_file
from rlhf.runtime.engine_choice import built_rollout
from rlhf.runtime.models import encoder_for
from rlhf.runtime.plan import derived_seed
from rlhf.types import Completion, Prompt, Rollout

BLOCK_PROMPTS = 64
"""Prompts generated for at once, and lost at most when the work is killed. Part of what decides the last bits."""

Write = Literal["all", "best", "pairs"]
_OF_TRAINING = ("max_staleness", "in_flight_updates", "stream", "timeout")
_TAKEN = (
    "completion",
    "label",
    "chosen",
    "rejected",
    "completions",
    "output",
    "conversations",
    "instruction",
    "messages",
)


@dataclass(frozen=True)
class GenerateOptions:
    """How completions are drawn, and what is written of them."""

    model: str
    num_samples: int = 1
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    seed: int = 0
    chat: bool = False
    """Put a plain text prompt through the chat template, as one turn of the user."""
    judge: str | None = None
    """A grader or reward, by name, that scores every completion."""
    judge_options: Mapping[str, Any] | None = None
    write: Write = "all"
    """Every completion; of each prompt the `best` one; or the best and the worst as a preference (`pairs`)."""
    plugin_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class GenerateWork:
    """Writes the completions of a block of prompts."""

    source: LinesSource
    folder: Path
    options: GenerateOptions
    stage: str = "generate"

    def open(self) -> Callable[[Block], dict[str, Any]]:
        options = self.options
        plugins = load_plugins(PluginSettings(paths=options.plugin_files))
        model = ModelConfig(path=options.model)
        encoder = encoder_for(model, max_new_tokens=options.rollout.max_tokens)
        engine, choice = built_rollout(options.rollout.engine, model, plugins.registry)
        judge = build_judge(options.judge, options.judge_options or {}, options.plugin_files) if options.judge else None
        # As in training: a sample is a function of the seed, the prompt's id and its number among the samples.
        sampling = options.rollout.sampling(
            options.num_samples, derived_seed(options.seed, "generate"), encoder.stop_ids
        )
        reader = self.source.reader()

        def process(block: Block) -> dict[str, Any]:
            lines = read_block(self.source.path, block)
            prompts = [encoded for p in _prompts(reader, lines, options.chat) if (encoded := _encoded(encoder, p))]
            answers = engine.generate(prompts, sampling) if prompts else []
            rows = list(_rows(prompts, answers, judge, options))
            with block_file(self.folder, "generated", block.number, ".jsonl").open("wb") as file:
                for row in rows:
                    file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
            tokens = sum(len(completion.token_ids) for group in answers for completion in group)
            return {
                "prompts": len(prompts),
                "too_long": len(lines) - len(prompts),
                "written": len(rows),
                "tokens": tokens,
                "engine": choice or "",
            }

        return process


@dataclass(frozen=True)
class Generated:
    """What came of it."""

    out: Path
    prompts: int
    too_long: int
    """Prompts left out, since the model's context has no room for them and an answer."""
    written: int
    tokens: int
    engine: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"out": str(self.out)}


def generate(
    file: Path, out: Path, options: GenerateOptions, row_format: RowFormat, place: Place, *, resume: bool = False
) -> Generated:
    """Write completions of a file's prompts to `out`. Raises `UserError` for what cannot be, before a model is loaded
    where that is known.
    """
    path = require_file(file)
    _require_sense(options, out)
    encoder_for(ModelConfig(path=options.model), max_new_tokens=options.rollout.max_tokens)
    settings = asdict(replace(options, rollout=RolloutConfig())) | {"rollout": options.rollout.model_dump(mode="json")}
    settings |= {"row_format": asdict(row_format)}
    folder = JobFolder(out.absolute(), settings, [path], resume=resume)
    source, blocks = open_source(path, row_format, folder, max_lines=BLOCK_PROMPTS)
    if "prompts" not in find_format(source.row_format).serves:
        raise DataError(f"{file}: rows of format {source.row_format} have no prompts to answer")
    with at_work(place):
        summaries = list(run_blocks(GenerateWork(source, folder.path, options), blocks, folder, place))
    totals = {name: sum(s[name] for s in summaries) for name in ("prompts", "too_long", "written", "tokens")}
    if not totals["written"]:
        raise DataError(
            f"{file}: nothing to write: {totals['prompts']} prompts were answered, {totals['too_long']} do not fit the "
            "model's context"
        )
    join_files((block_file(folder.path, "generated", block.number, ".jsonl") for block in blocks), folder.out)
    folder.remove()
    return Generated(out=out, engine=next((s["engine"] for s in summaries if s["engine"]), ""), **totals)


def _require_sense(options: GenerateOptions, out: Path) -> None:
    if out.suffix != ".jsonl":
        raise ConfigError(f"--out {out}: completions are written as JSON lines; give a .jsonl")
    given = options.rollout.model_fields_set.intersection(_OF_TRAINING)
    if given:
        raise ConfigError(f"{min(given)}: is of training, where weights change; leave it out")
    if options.write != "all" and options.judge is None:
        raise ConfigError(f"--write {options.write} needs a grader or reward that says which is best: --judge NAME")
    if options.write == "pairs" and options.num_samples < 2:
        raise ConfigError("--write pairs needs two completions of a prompt or more: --n 2")
    if options.judge is not None:
        build_judge(options.judge, options.judge_options or {}, options.plugin_files)


def _prompts(reader: LineReader, lines: Sequence[Line], chat: bool) -> Iterator[Prompt]:
    for line in lines:
        try:
            record = reader.read(line.number, line.raw).record
        except Fault as fault:
            raise DataError(
                f"{reader.name}, line {line.number}: {fault}. Mend the row; `rlhf data curate` takes such rows out."
            ) from None
        prompt = (as_chat(record) if chat else record).prompt
        assert prompt is not None, reader.format
        yield prompt


def _encoded(encoder: Encoder, prompt: Prompt) -> Prompt | None:
    return encoder.encode_prompt(prompt)


# --- rows ------------------------------------------------------------------------------------------------------------


def _rows(
    prompts: Sequence[Prompt], answers: Sequence[Sequence[Completion]], judge: Judge | None, options: GenerateOptions
) -> Iterator[dict[str, Any]]:
    rollouts = [Rollout(prompt=p, completion=c) for p, group in zip(prompts, answers, strict=True) for c in group]
    scores = judged(judge, options.judge or "", rollouts) if judge is not None else None
    for number, prompt in enumerate(prompts):
        group = slice(number * options.num_samples, (number + 1) * options.num_samples)
        mine = None if scores is None else scores[group]
        yield from _of_prompt(prompt, answers[number], mine, options.write)


def _of_prompt(
    prompt: Prompt,
    completions: Sequence[Completion],
    scores: Sequence[tuple[float | None, str | None]] | None,
    write: Write,
) -> Iterator[dict[str, Any]]:
    asked: Any = prompt.text if prompt.messages is None else [dict(turn) for turn in prompt.messages]
    other = _other_columns(prompt)
    if write == "all":
        for sample, completion in enumerate(completions):
            row = {"prompt": asked, "completion": completion.text, **_about(prompt, sample, completion)}
            yield row | ({} if scores is None else {"reward": scores[sample][0], "error": scores[sample][1]}) | other
        return
    assert scores is not None
    told = [(score, -sample) for sample, (score, _) in enumerate(scores) if score is not None]
    told = [(score, place) for score, place in told if completions[-place].text.strip()]
    if not told:
        return  # none could be judged, or all are silent: nothing is known to be good
    best, worst = max(told), min(told)
    completion = completions[-best[1]]
    if write == "best":
        about = _about(prompt, -best[1], completion)
        yield {"prompt": asked, "completion": completion.text, **about, "reward": best[0], **other}
    elif best[0] > worst[0] and completion.text != completions[-worst[1]].text:
        yield {
            "prompt": asked,
            "chosen": completion.text,
            "rejected": completions[-worst[1]].text,
            "score_chosen": best[0],
            "score_rejected": worst[0],
            "prompt_id": prompt.id,
            **other,
        }


def _about(prompt: Prompt, sample: int, completion: Completion) -> dict[str, Any]:
    return {
        "prompt_id": prompt.id,
        "sample": sample,
        "finish_reason": completion.finish_reason,
        "num_tokens": len(completion.token_ids),
        "logprob": sum(completion.logprobs),
    }


def _other_columns(prompt: Prompt) -> dict[str, Any]:
    """The prompt's own columns; those whose names would make another format of the row get `prompt_` before them."""
    written = (*_TAKEN, "prompt", "prompt_id", "sample", "finish_reason", "num_tokens", "logprob", "reward", "error")
    columns = {f"prompt_{name}" if name in written else name: value for name, value in prompt.metadata.items()}
    return columns | ({} if prompt.reference is None else {"reference": prompt.reference})
