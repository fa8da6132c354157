"""Raw generation by the peers: transformers' `generate`, and vLLM's `LLM.generate` in its own process.

`task` is `{kind, prompts, samples, threads, dtype}`. Both sample at temperature 1 from the whole vocabulary. vLLM is
run as our actor runs it (in-process engine, float32, eager, one GiB of cache) and returns the log-probs of its samples,
which training needs; it is given no seeds, which is its fastest way, while our engine seeds every sample. `generate`
returns tokens alone. A sample of the random model ends early with probability 1/4096 a token, on all sides.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.throughput.turns import Turns
from benchmarks.throughput.workload import MAX_LENGTH, NEW_TOKENS, Workload

VLLM_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


def by_transformers(workload: Workload, prompts: str, samples: int, dtype: str) -> Callable[[], Any]:
    """`generate` as its documentation shows it: a left-padded batch, a growing cache."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(workload.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(workload.model, dtype=getattr(torch, dtype)).eval()
    inputs = tokenizer(texts(workload, prompts), return_tensors="pt", padding=True)
    options: dict[str, Any] = {
        "attention_mask": inputs["attention_mask"],
        "do_sample": True,
        "top_k": 0,
        "max_new_tokens": NEW_TOKENS,
        "num_return_sequences": samples,
        "pad_token_id": tokenizer.pad_token_id,
    }

    def step() -> Any:
        with torch.no_grad():
            return model.generate(inputs["input_ids"], **options)

    return step


def by_vllm(workload: Workload, prompts: str, samples: int, dtype: str) -> Callable[[], Any]:
    """`LLM.generate`."""
    os.environ.update(VLLM_ENVIRONMENT)
    from vllm import LLM, SamplingParams

    llm = LLM(
        model=str(workload.model), dtype=dtype, max_model_len=MAX_LENGTH, enforce_eager=True, generation_config="vllm"
    )
    parameters = SamplingParams(n=samples, temperature=1.0, max_tokens=NEW_TOKENS, logprobs=0)
    asked = texts(workload, prompts)
    return lambda: llm.generate(asked, parameters, use_tqdm=False)


def texts(workload: Workload, name: str) -> list[str]:
    """The prompts of a file."""
    return [json.loads(line)["prompt"] for line in workload.rows(name).read_text(encoding="utf-8").splitlines()]


KINDS = {"transformers": by_transformers, "vllm": by_vllm}


def main(task: str, folder: str) -> None:
    """Generate until the controller has had enough."""
    import torch

    given = json.loads(task)
    torch.set_num_threads(given["threads"])
    turns = Turns.from_environment()
    kind = KINDS[given["kind"]]
    try:
        step = kind(Workload(Path(folder)), given["prompts"], given["samples"], given.get("dtype", "float32"))
    except ImportError as error:
        turns.cannot(f"not installed: {error}")
        return
    going = turns.ready()
    while going:
        step()
        going = turns.done()


if __name__ == "__main__":
    main(*sys.argv[1:])
