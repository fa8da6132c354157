"""A reward that prefers short answers: a whole plugin in one file.

Copy it, change `brevity`, and name it in a recipe (a file beside the recipe is found by its name):

    reward: brevity.py:brevity                  # the function alone, no hook needed

or, to weigh it against other rewards and set its options from the recipe, load the file as a plugin:

    plugins: {paths: [brevity.py]}
    reward:
      - {type: reward_model, weight: 1.0}
      - {type: brevity, weight: 0.1}

A reward is given texts and returns one finite number a completion, higher is better. Parameters are filled by name:
`prompts`, `completions`, `messages`, `reference`, `token_ids`, `finish_reason`, and every other column of the data.
`None` says "does not apply here". Whatever is no answer, such as an exception or NaN, stops the run and names the
reward, unless the recipe says otherwise (`on_error`). Nothing becomes a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlhf import hookimpl

ENOUGH_WORDS = 20


def brevity(completions: Sequence[str]) -> list[float]:
    """1 for an empty answer, 0 at `ENOUGH_WORDS` words, falling on below that."""
    return [1 - len(text.split()) / ENOUGH_WORDS for text in completions]


@hookimpl
def register_rewards(register: Callable[..., None]) -> None:
    """Make it known as `brevity`."""
    register("brevity", brevity)
