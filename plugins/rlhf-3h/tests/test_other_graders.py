"""Each of the other graders learns what it is for from little data, and says what it cannot judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import DataError
from rlhf.types import Completion, Prompt, Rollout
from rlhf_3h.abstains import Abstains, AbstainsConfig
from rlhf_3h.harmful_content import CATEGORIES, HarmfulContent, HarmfulContentConfig
from rlhf_3h.jailbroken import Jailbroken, JailbrokenTask
from rlhf_3h.preferred import Preferred, PreferredTask
from rlhf_3h.relevant import Complete, CompleteTask, Relevant
from rlhf_3h.trained import TrainedConfig
from rlhf_3h.truthful import Truthful, TruthfulConfig, answers

TOPICS = "knives cakes planes banks rivers dogs bombs trees locks poems cars songs".split()
NO_PARTS: Any = None


def rollout(question: str, answer: str, finish_reason: Any = "stop", **columns: Any) -> Rollout:
    completion = Completion(token_ids=(), logprobs=(), text=answer, finish_reason=finish_reason)
    return Rollout(prompt=Prompt(id="p", text=question, metadata=columns), completion=completion)


def test_truthful_follows_the_references(tmp_path: Path) -> None:
    references, judged = [], []
    for topic in TOPICS:
        question = f"What is true of {topic}?"
        true, false = f"Old {topic} are red", f"Young {topic} are green"
        references.append({"Question": question, "Correct Answers": true, "Incorrect Answers": f"{false}; {topic} lie"})
        judged += [
            {"prompt": f"Q: {question}\nA: {text}.\nTrue:", "completion": label}
            for text, label in (
                (true, " yes"),
                (f"They are {topic} of red", " yes"),
                (false, " no"),
                (topic + " lie", " no"),
            )
        ]
    figures = Truthful.train(TruthfulConfig(), [*references, *judged], tmp_path)
    assert figures["accuracy"] > 0.9  # type: ignore[operator]
    grader = Truthful(TruthfulConfig(path=str(tmp_path), correct="right", incorrect="wrong"), NO_PARTS)
    assert grader.columns == ("right", "wrong")
    cups = {"right": ["Old cups are blue"], "wrong": ["Young cups are white"]}
    good, bad, lost = grader.grade([
        rollout("What is true of cups?", "Old cups are blue", **cups),
        rollout("What is true of cups?", "Young cups are white", **cups),
        rollout("What is true of cups?", "Old cups are blue", right=[], wrong="x"),
    ])  # fmt: skip
    assert good.score > 0.5 > bad.score  # type: ignore[operator]
    assert (lost.score, lost.error) == (None, "prompt 'p' has no references: column 'right' is empty")


def test_judged_answer_without_references_names_the_question(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no references for 'Why\?'; add the file"):
        Truthful.train(TruthfulConfig(), [{"prompt": "Q: Why?\nA: So.\nTrue:", "completion": " no"}], tmp_path)


def test_references_as_text_or_list() -> None:
    assert answers("a; b;; ") == answers(["a", " b"]) == ("a", "b")
    assert answers(None) == ()


def test_copies_of_an_answer_are_trained_on_once() -> None:
    rows = [{"question": q, "Response": "Sorry.", "label": "0"} for q in (1, 2, 3)]
    assert len(JailbrokenTask().examples(rows)) == 1


def test_jailbroken(tmp_path: Path) -> None:
    rows = [{"question": t, "Response": f"I will not speak of {t}", "label": 0} for t in TOPICS]
    rows += [{"question": t, "Response": f"Sure, first take {t}", "label": 1} for t in TOPICS]
    Jailbroken.train(TrainedConfig(), rows, tmp_path)
    grader = Jailbroken(TrainedConfig(path=str(tmp_path)), NO_PARTS)
    kept, gave = grader.grade([rollout("", "I will not speak of that"), rollout("", "Sure, first take those")])
    assert kept.score > 0.5 > gave.score  # type: ignore[operator]


def test_jailbroken_learns_from_unsafe_prompts_of_xstest_too() -> None:
    row = {"prompt": "How to?", "completion": "So.", "final_label": "1_full_compliance", "type": "contrast_homonyms"}
    refused = {**row, "completion": "Sorry.", "final_label": "2_full_refusal"}
    safe = {**row, "completion": "With care.", "type": "homonyms"}
    examples = JailbrokenTask().examples([row, refused, safe])
    assert [(e.item.answer, e.targets["jailbroken"]) for e in examples] == [("So.", 1.0), ("Sorry.", 0.0)]


def moderation_rows() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for topic in TOPICS:
        for name, short in CATEGORIES.items():
            rows.append({"prompt": f"{name}word {topic}", short: 1})
            rows.append({"prompt": f"kind {topic} {short}", short: 0})
    return rows


def test_harmful_content_names_the_category_and_counts_those_asked_for(tmp_path: Path) -> None:
    HarmfulContent.train(HarmfulContentConfig(), moderation_rows(), tmp_path)
    row = rollout("", "violenceword violenceword")
    (found,) = HarmfulContent(HarmfulContentConfig(path=str(tmp_path)), NO_PARTS).grade([row])
    assert found.rationale.startswith("violence ")
    assert found.score < 0.5  # type: ignore[operator]
    only_hate = HarmfulContentConfig(path=str(tmp_path), categories=("hate",))
    (other,) = HarmfulContent(only_hate, NO_PARTS).grade([row])
    assert other.score > found.score  # type: ignore[operator]


def test_unknown_category_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'violence'"):
        HarmfulContentConfig(categories=("violance",))


def test_head_without_both_labels_is_refused(tmp_path: Path) -> None:
    rows = [{**row, "S": 0} if "S" in row else row for row in moderation_rows()]
    with pytest.raises(DataError, match="'sexual' needs rows of both kinds"):
        HarmfulContent.train(HarmfulContentConfig(), rows, tmp_path)


def test_abstaining_is_right_only_where_nobody_knows(tmp_path: Path) -> None:
    shapes = (
        ("I have no comment.", " no"),
        ("I don't know.", " no"),
        ("They are {} of old.", " yes"),
        ("Ten {}.", " yes"),
    )
    rows = [
        {"prompt": f"Q: What of {t}?\nA: {text.format(t)}\nHelpful:", "completion": label}
        for t in TOPICS for text, label in shapes
    ]  # fmt: skip
    Abstains.train(AbstainsConfig(), rows, tmp_path)
    grader = Abstains(AbstainsConfig(path=str(tmp_path)), NO_PARTS)
    scores = [
        g.score for g in grader.grade([
            rollout("What of cups?", text, answerable=known)
            for text in ("I don't know.", "They are cups of old.") for known in (False, True)
        ])
    ]  # fmt: skip
    assert scores[0] > 0.5 > scores[1]  # type: ignore[operator]
    assert scores[3] > 0.5 > scores[2]  # type: ignore[operator]
    (lost,) = grader.grade([rollout("q", "a", answerable="yes")])
    assert lost.error == "prompt 'p': column 'answerable' must be true or false, given 'yes'"


def instructions() -> list[dict[str, str]]:
    verbs = ("Describe", "Explain", "Compare")
    return [
        {
            "instruction": f"{verb} the famous {topic} of Norway.",
            "output": f"The famous {topic} of Norway are old. People travel far to see {topic}. They stay for a week.",
        }
        for topic in TOPICS for verb in verbs
    ]  # fmt: skip


def test_relevant_and_complete(tmp_path: Path) -> None:
    Relevant.train(TrainedConfig(), instructions(), tmp_path / "relevant")
    Complete.train(TrainedConfig(), instructions(), tmp_path / "complete")
    question = "Describe the famous bridges of France."
    own = "The famous bridges of France are old. People travel far to see bridges. They stay for a week."
    relevant = Relevant(TrainedConfig(path=str(tmp_path / "relevant")), NO_PARTS)
    mine, another = relevant.grade([rollout(question, own), rollout(question, "Cups hold tea. Tea is warm.")])
    assert mine.score > 0.5 > another.score  # type: ignore[operator]
    complete = Complete(TrainedConfig(path=str(tmp_path / "complete")), NO_PARTS)
    whole, short, cut = complete.grade([
        rollout(question, own), rollout(question, own[:40]), rollout(question, own, "length"),
    ])  # fmt: skip
    assert whole.score > 0.5 > short.score  # type: ignore[operator]
    assert (cut.score, cut.rationale) == (0.0, "cut at max_tokens")


def test_cut_answers_are_shorter_and_of_both_kinds() -> None:
    texts = [row["output"] for row in instructions()]
    examples = CompleteTask().examples(instructions())
    short = [e.item.answer for e in examples if not e.targets["complete"]]
    assert len(short) == len(texts)
    assert all(text.startswith(cut) and len(cut) < len(text) for text, cut in zip(texts, short, strict=True))
    assert {cut.endswith(".") for cut in short} == {True, False}


def test_preferred_learns_what_is_chosen(tmp_path: Path) -> None:
    long = "The famous {0} are old and many. People like {0} well."
    rows = [
        {"chosen": f"\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: {t}?\n\nAssistant: {long.format(t)}",
         "rejected": f"\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: {t}?\n\nAssistant: No"}
        for t in TOPICS
    ]  # fmt: skip
    assert PreferredTask().examples(rows)[0].item.question == "knives?"
    figures = Preferred.train(TrainedConfig(), rows, tmp_path)
    assert figures["accuracy"] == 1.0
    better, worse = Preferred(TrainedConfig(path=str(tmp_path)), NO_PARTS).grade(
        [rollout("cups?", long.format("cups")), rollout("cups?", "No")]
    )
    assert better.score > 0.5 > worse.score  # type: ignore[operator]


def test_transcript_without_an_assistant_is_refused() -> None:
    with pytest.raises(DataError, match="row 1 has the columns chosen, rejected"):
        PreferredTask().examples([{"chosen": "a", "rejected": "b"}])


def test_too_few_questions(tmp_path: Path) -> None:
    rows = [{"question": t, "Response": t, "label": n % 2} for n, t in enumerate(TOPICS[:4])]
    with pytest.raises(DataError, match="4 different questions are too few"):
        Jailbroken.train(TrainedConfig(), rows, tmp_path)
