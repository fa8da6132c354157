"""The language of a text is the same each time and whatever else the process does with langdetect."""

from __future__ import annotations

import random
import subprocess
import sys

import langdetect

from rlhf_ifeval.language import detected, known_languages

# Short and mixed: unseeded, langdetect answers now this and now that.
DOUBTFUL = "A L L I V I N AND T H E C H I P M U N K S"


def test_one_text_has_one_language() -> None:
    assert len({langdetect.detect(DOUBTFUL) for _ in range(50)}) > 1, "the text is no longer doubtful"
    assert len({detected(DOUBTFUL) for _ in range(50)}) == 1


def test_neither_seeds_nor_another_user_of_langdetect_change_it() -> None:
    before = detected(DOUBTFUL)
    kept = langdetect.DetectorFactory.seed
    try:
        for seed in range(10):
            random.seed(seed)
            langdetect.DetectorFactory.seed = seed
            assert detected(DOUBTFUL) == before
    finally:
        langdetect.DetectorFactory.seed = kept


def test_no_random_numbers_of_the_process_are_drawn() -> None:
    random.seed(3)
    expected = random.random()
    random.seed(3)
    detected("some words of English for the detector to look at")
    assert random.random() == expected


def test_what_tells_no_language_has_none() -> None:
    for text in ("", "123", "😀", "... !!!", "https://example.org"):
        assert detected(text) is None


def test_codes_that_may_be_asked_for() -> None:
    assert {"en", "de", "zh", "zh-cn", "zh-tw", "kn", "pa", "sw"} <= set(known_languages())


def test_loading_the_plugin_is_light() -> None:
    """Neither langdetect nor torch: `rlhf --help` loads every installed plugin."""
    check = (
        "import sys, rlhf_ifeval.registration; print([m for m in ('langdetect', 'torch', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
