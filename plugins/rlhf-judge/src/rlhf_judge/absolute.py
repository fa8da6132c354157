"""Absolute grading: one answer, one rubric, one score. Makes the questions; who is asked is another matter."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from rlhf import PartConfig
from rlhf.types import Axis, Rollout
from rlhf_judge.endpoint import Answer, Question
from rlhf_judge.fences import WARNING, fenced
from rlhf_judge.rubric import DEFAULT_RUBRICS, Rubric, rubric_of
from rlhf_judge.template import PLACES, POINTWISE, check_template, conversation_text, filled
from rlhf_judge.verdict import Scale, VerdictForm, rationale, read_score, verdict_request, verdict_schema

DEFAULT_SCALE: Scale = (1.0, 5.0)
SYSTEM = f"You are a strict and impartial judge of the answers of AI assistants. {WARNING}"


class AbsoluteConfig(PartConfig):
    """How an answer is judged by itself."""

    axis: Axis = "helpful"
    """What a grade counts towards; also chooses the rubric where none is given."""
    rubric: Rubric | None = None
    """What to judge by: a text, or `criteria` and what each score means."""
    rubric_column: str | None = None
    """The column of the data that holds each row's own rubric, instead of `rubric`."""
    scale: tuple[int, int] | None = None
    """Lowest and highest score, where the rubric describes none; 1 to 5 if neither says."""
    template: str | None = None
    """The question itself, with places {conversation}, {answer}, {reference}, {rubric} and {verdict}. Texts are filled
    in with their fences.
    """
    use_reference: bool = False
    """Show the judge the row's `reference` too; every row must then have one."""
    verdict: VerdictForm = "line"
    """`line`: reasons, and a last line `Score: N`. `json`: one JSON object, to which the endpoint is asked to hold its
    model (`response_format: json_schema`).
    """

    @model_validator(mode="after")
    def _fits_together(self) -> AbsoluteConfig:
        if self.rubric is not None and self.rubric_column is not None:
            raise ValueError("give either rubric (the same for all rows) or rubric_column (one a row), not both")
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError(f"scale must rise, given {list(self.scale)}")
        if self.scale is not None and self.rubric is not None and self.rubric.scale not in (None, self.scale):
            raise ValueError("the rubric describes its own scale, which is not `scale`; leave `scale` out")
        if self.template is not None:
            wanted = {"answer", "verdict"} | ({"reference"} if self.use_reference else set())
            check_template(self.template, PLACES, wanted)
        return self


class AbsoluteForm:
    """Turns rollouts into questions for a judge, and its scores into 0..1."""

    def __init__(self, config: AbsoluteConfig) -> None:
        self.config = config
        wanted = [config.rubric_column, "reference" if config.use_reference else None]
        self.columns = tuple(name for name in wanted if name is not None)

    def question(self, rollout: Rollout) -> Question[float] | Answer[float]:
        """What the judge is asked about this rollout; an `Answer` with an error where nothing can be asked."""
        try:
            rubric = self._rubric(rollout)
        except ValueError as error:
            return Answer(error=f"prompt {rollout.prompt.id!r}, column {self.config.rubric_column!r}: {error}")
        if self.config.use_reference and rollout.prompt.reference is None:
            return Answer(error=f"prompt {rollout.prompt.id!r} has no reference to show the judge")
        return self.question_by(rubric, rollout)

    def question_by(self, rubric: Rubric, rollout: Rollout) -> Question[float]:
        """What the judge is asked about this rollout by this rubric."""
        form, scale = self.config.verdict, self._scale(rubric)
        allowed = f"a whole number from {scale[0]:g} to {scale[1]:g}"
        request = verdict_request(form, "Score", allowed)
        texts = {"conversation": conversation_text(rollout), "answer": rollout.completion.text}
        if self.config.use_reference:
            texts["reference"] = rollout.prompt.reference or ""
        places = {"reference": ""} | fenced(texts) | {"rubric": rubric.text(), "verdict": request}
        return Question(
            messages=(
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": filled(self.config.template or POINTWISE, places)},
            ),
            parse=lambda text: unit(read_score(text, form, scale), scale),
            reminder=f"Mind the form of your answer. {request}",
            schema=verdict_schema("score", _whole_numbers(scale)) if form == "json" else None,
        )

    def rationale(self, answer: Answer[Any]) -> str:
        """The judge's reasons."""
        return rationale(answer.text, self.config.verdict) if answer.error is None else ""

    def raw(self, score: float, rollout: Rollout) -> float:
        """The score as the judge gave it, on the rubric's scale."""
        low, high = self._scale(self._rubric(rollout))
        return low + score * (high - low)

    def _rubric(self, rollout: Rollout) -> Rubric:
        column = self.config.rubric_column
        if column is None:
            return self.config.rubric or DEFAULT_RUBRICS[self.config.axis]
        if rollout.prompt.metadata.get(column) is None:
            raise ValueError("it is empty in this row")
        return rubric_of(rollout.prompt.metadata[column])

    def _scale(self, rubric: Rubric) -> Scale:
        given = self.config.scale
        return rubric.scale or ((float(given[0]), float(given[1])) if given else DEFAULT_SCALE)


def _whole_numbers(scale: Scale) -> dict[str, Any]:
    """As an enumeration, which every endpoint that takes schemas knows, while it stays short."""
    numbers = range(int(scale[0]), int(scale[1]) + 1)
    return {"type": "integer", "enum": list(numbers)} if len(numbers) <= 101 else {"type": "integer"}


def unit(score: float, scale: Scale) -> float:
    """A score of the scale as 0..1."""
    return (score - scale[0]) / (scale[1] - scale[0])
