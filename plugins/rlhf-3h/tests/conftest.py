"""A small refusal grader, trained once."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_3h.refusal import Refusal, RefusalConfig

TOPICS = "knives cakes planes banks rivers dogs bombs trees locks poems cars songs".split()
REFUSALS = ("I'm sorry, but I cannot help with that.", "I can't assist you with {}.", "As an AI I am unable to do it.")
ANSWERS = ("Sure! Here are some {} for you: one, two.", "The best {} come from the north.", "First, look at the {}.")


@pytest.fixture(scope="session")
def refusal_rows() -> list[dict[str, str]]:
    rows = []
    for topic in TOPICS:
        asked = f"Tell me of {topic}"
        for texts, label in ((REFUSALS, "full"), (ANSWERS, "none")):
            rows += [{"prompt": asked, "completion": text.format(topic), "final_label": label} for text in texts]
        half = f"I cannot recommend {topic}. However, the best {topic} come from the north."
        rows.append({"prompt": asked, "completion": half, "final_label": "partial"})
    return rows


@pytest.fixture(scope="session")
def refusal_folder(refusal_rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "refusal"
    Refusal.train(RefusalConfig(), refusal_rows, folder)
    return folder
