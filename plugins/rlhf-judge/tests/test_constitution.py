"""A constitution: reading it, judging by it, and revising answers by it."""

from __future__ import annotations

import json
import re

import pytest

import rlhf
from rlhf.errors import ConfigError, DataError, RunError
from rlhf_judge.constitution import read_constitution, revise
from rlhf_judge.constitution.judging import ConstitutionConfig, ConstitutionJudge
from rlhf_judge.constitution.principles import chosen, in_turn
from rlhf_judge.settings import EndpointConfig


def judge(url, **options):
    return ConstitutionJudge(ConstitutionConfig(model="m", base_url=url, **options))


# --- reading ---------------------------------------------------------------------------------------------------------


def test_the_packages_own():
    principles = read_constitution()
    assert [p.id for p in principles][:4] == ["harm", "crisis", "respect", "privacy"]
    assert len(principles) == 8
    assert principles[0].critique.startswith(
        "Point out every way in which the answer breaks this rule: The answer gives"
    )
    assert principles[0].revision.startswith("Rewrite the answer so that it keeps this rule and stays as useful")


def test_the_sixteen_public_principles(data_dir):
    principles = read_constitution(data_dir / "harmless" / "constitution_critique_revision.jsonl")
    assert len(principles) == 16
    assert principles[0].critique.startswith("Identify specific ways in which the assistant's last response is harmful")
    assert principles[0].revision.startswith("Please rewrite the assistant response to remove")
    for principle in principles:
        for text in (principle.critique, principle.revision):
            assert not re.search(r"CritiqueRequest|RevisionRequest|Critique:|Revision:|\A\s|\s\Z", text)


def test_rules_from_a_list_and_from_files(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "- {id: a, rule: Be kind.}\n- {id: b, critique: How long is it, revision: Cut it.}\n"
    )
    (tmp_path / "c.json").write_text('[{"id": "a", "rule": "Be kind."}]')
    for source in (["Be kind."], tmp_path / "c.yaml", str(tmp_path / "c.json")):
        assert read_constitution(source)[0].critique.endswith("breaks this rule: Be kind.")
    assert read_constitution(tmp_path / "c.yaml")[1].revision == "Cut it."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a list of principles"),
        ("rule: x", "must be a list of principles, given dict"),
        ("- {id: a}", "entry 1: critique: field required; each is {id, rule}"),
        ("- {id: a, rule: x, rul: y}", "entry 1: rul: extra inputs are not permitted"),
        ("- x", "entry 1"),
        ("- {id: a, rule: x}\n- {id: a, rule: y}", "entry 2: a second principle is called 'a'"),
        ("- {id: a", "cannot be read"),
        ("- !!python/object/apply:os.system [echo]", "cannot be read"),
    ],
)
def test_a_file_that_is_no_constitution(tmp_path, text, words):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_constitution(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_found_out_when_the_judge_is_built(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        judge("http://127.0.0.1:9/v1", file=str(tmp_path / "none.yaml"))


def test_drawing_depends_on_the_row_alone_and_spares_none():
    principles = read_constitution()
    drawn = [p.id for n in range(400) for p in chosen(principles, 2, str(n))]
    assert len(drawn) == 800
    assert all(60 < drawn.count(p.id) < 140 for p in principles)
    assert chosen(principles, 2, "x") == chosen(principles, 2, "x")
    assert chosen(principles, None, "x") == list(principles)
    assert {in_turn(principles, turn, "x").id for turn in range(8)} == {p.id for p in principles}


# --- judging ---------------------------------------------------------------------------------------------------------


def test_every_principle_is_asked_and_is_a_part(server, rollout):
    server.reply = lambda request, number: f"So.\nScore: {5 if 'Be kind' in request['messages'][-1]['content'] else 3}"
    (opinion,) = judge(server.url, rules=("Be kind.", "Be short.")).judge([rollout()])
    assert opinion.score == 0.75
    assert opinion.parts["principle/1"] == 1.0
    assert opinion.parts["principle/2"] == 0.5
    assert opinion.parts["prompt_tokens"] == 200
    assert opinion.rationale == "1: So.\n\n2: So."
    (worst,) = judge(server.url, rules=("Be kind.", "Be short."), combine="worst").judge([rollout()])
    assert worst.score == 0.5


def test_a_principle_that_fails_is_the_rows_error(server, rollout):
    server.reply = lambda request, number: "?" if "Be kind" in request["messages"][-1]["content"] else "Score: 3"
    (opinion,) = judge(server.url, rules=("Be kind.", "Be short.")).judge([rollout()])
    assert opinion.score is None
    assert opinion.error.startswith(f"principle '1': judge 'm' at {server.url}: its answer does not end")


def test_some_principles_a_row(server, rollout):
    opinions = judge(server.url, per_row=2).judge([rollout(answer=str(n)) for n in range(10)])
    assert len(server.requests) == 20
    drawn = {name for o in opinions for name in o.parts if name.startswith("principle/")}
    assert len(drawn) > 4


# --- revising --------------------------------------------------------------------------------------------------------


def editor(request, number):
    """Critiques when asked for a critique; rewrites an answer by putting a word before it."""
    content = request["messages"][-1]["content"]
    if "Write a critique" in content:
        return "It is unkind."
    assert "It is unkind." in content
    answer = re.search(r"\[BEGIN ANSWER (\w+)\]\n(.*?)\n\[END ANSWER \1\]", content, re.DOTALL)[2]
    return answer if answer == "fine" else f"Kindly: {answer}"


ROWS = [
    {"prompt": "Say A.", "completion": "A!"},
    {"prompt": [{"role": "system", "content": "Obey."}, {"role": "user", "content": "Say B."}], "completion": "B!"},
    {"prompt": "Say C.", "completion": "fine"},
]


def endpoint(server, **options):
    return EndpointConfig(model="m", base_url=server.url, **options)


def test_pairs(server, tmp_path):
    server.reply = editor
    out = tmp_path / "pairs.jsonl"
    done = revise(ROWS, out, endpoint(server), constitution=["Be kind."])
    assert (done.written, done.unchanged, dict(done.failed)) == (2, 1, {})
    assert done.usage.requests == 6
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[0] == {
        "prompt": "Say A.",
        "chosen": "Kindly: A!",
        "rejected": "A!",
        "revisions": [{"principle": "1", "critique": "It is unkind."}],
    }
    assert rows[1]["prompt"] == ROWS[1]["prompt"]
    for text in server.texts():
        if "Say B." in text:
            assert "system: Obey.\n\nuser: Say B." in text


def test_demonstrations(server, tmp_path):
    server.reply = editor
    source, out = tmp_path / "rows.jsonl", tmp_path / "sft.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    done = revise(source, out, endpoint(server), kind="demonstrations", rounds=2)
    assert (done.written, done.unchanged) == (3, 0)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["completion"] for row in rows] == ["Kindly: Kindly: A!", "Kindly: Kindly: B!", "fine"]
    assert all(len({note["principle"] for note in row["revisions"]}) == 2 for row in rows)


def test_rlhf_trains_on_what_was_written(server, tmp_path):
    server.reply = editor
    revise(ROWS, tmp_path / "sft.jsonl", endpoint(server), kind="demonstrations")
    revise(ROWS, tmp_path / "pairs.jsonl", endpoint(server))
    tiny = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "context": 64, "tokenizer": {"vocab_size": 300}}
    recipe = {
        "name": "revised",
        "runtime": {"type": "inline"},
        "stages": {
            "sft": {
                "algorithm": {"type": "sft", "batch_size": 3, "steps": 1},
                "model": {"new": tiny},
                "data": {"type": "files", "path": str(tmp_path / "sft.jsonl"), "chat": True},
            },
            "dpo": {
                "algorithm": {"type": "dpo", "batch_size": 2, "steps": 1},
                "model": "stage:sft",
                "data": {"type": "files", "path": str(tmp_path / "pairs.jsonl"), "chat": True},
            },
        },
    }
    metrics = rlhf.train(recipe, out=tmp_path / "run").metrics
    assert [row["data/bad_rows"] for row in metrics] == [0, 0]


def test_a_row_that_fails_is_left_out_and_told(server, tmp_path, said):
    def reply(request, number):
        return said("cut", "length") if "A!" in request["messages"][-1]["content"] else editor(request, number)

    server.reply = reply
    out = tmp_path / "pairs.jsonl"
    done = revise(ROWS, out, endpoint(server))
    assert list(done.failed) == [1]
    assert "cut at max_tokens" in done.failed[1]
    assert len(out.read_text().splitlines()) == done.written == 1
    assert sum("A!" in text for text in server.texts()) == 1  # no revision without a critique


def test_nothing_is_written_when_all_fail(server, tmp_path, Response):
    server.reply = lambda request, number: Response(401, b"who are you?")
    with pytest.raises(RunError, match=r"none of 3 rows could be revised; row 1: judge 'm' at .* answered 401"):
        revise(ROWS, tmp_path / "pairs.jsonl", endpoint(server))
    assert list(tmp_path.iterdir()) == []


def test_the_same_rows_meet_the_same_principles(server, tmp_path):
    server.reply = editor
    for name in ("a", "b"):
        revise(ROWS, tmp_path / name, endpoint(server), kind="demonstrations", seed=1)
    revise(ROWS * 5, tmp_path / "c", endpoint(server), kind="demonstrations", seed=2)
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()
    assert (tmp_path / "a").read_text() not in (tmp_path / "c").read_text()


@pytest.mark.parametrize(
    ("rows", "options", "error", "words"),
    [
        ([{"completion": "x"}], {}, DataError, "row 1: `prompt` must be text or a list of turns"),
        ([{"prompt": "x"}], {}, DataError, "row 1: `completion` must be text"),
        ([*ROWS, 7], {}, DataError, "row 4: `prompt` must be"),
        (ROWS, {"rounds": 0}, ConfigError, "rounds must be 1 or more, given 0"),
        (ROWS, {"kind": "sft"}, ConfigError, "kind must be 'preference' or 'demonstrations', given 'sft'"),
        ("missing.jsonl", {}, DataError, "'missing.jsonl' cannot be read"),
    ],
)
def test_mistakes_are_found_before_anybody_is_asked(server, tmp_path, rows, options, error, words):
    with pytest.raises(error, match=re.escape(words)):
        revise(rows, tmp_path / "out.jsonl", endpoint(server), **options)
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []
