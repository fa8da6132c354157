"""`detectable_content:*` and `detectable_format:*`: marks a response must carry."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import ClassVar

from rlhf_ifeval.instruction import Count, Instruction, Phrase

ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
SINGLE_STARS = re.compile(r"\*([^\n*]*)\*")
DOUBLE_STARS = re.compile(r"\*\*([^\n*]*)\*\*")
FENCE = re.compile(r"\A```(?:json)?", re.IGNORECASE)


class NumberPlaceholders(Instruction):
    """At least so many placeholders in square brackets, such as `[address]`."""

    id: ClassVar[str] = "detectable_content:number_placeholders"
    num_placeholders: Count

    def followed(self, text: str) -> bool:
        return sum(1 for _ in _bracketed(text)) >= self.num_placeholders


class Postscript(Instruction):
    """A postscript begins somewhere, with this marker; case does not matter, nor does a space within `P. S.`"""

    id: ClassVar[str] = "detectable_content:postscript"
    postscript_marker: Phrase

    def followed(self, text: str) -> bool:
        *letters, last = re.findall(r"[^.]*\.|[^.]+", self.postscript_marker)
        pattern = "".join(re.escape(part) + r"\s?" for part in letters) + re.escape(last)
        return re.search(pattern, text, re.IGNORECASE) is not None


class NumberBulletLists(Instruction):
    """Exactly so many bullets: lines that begin with `-`, or with one `*`."""

    id: ClassVar[str] = "detectable_format:number_bullet_lists"
    num_bullets: Count

    def followed(self, text: str) -> bool:
        lines = (line.lstrip() for line in text.split("\n"))
        found = sum(line.startswith(("-", "*")) and not line.startswith("**") for line in lines)
        return found == self.num_bullets


class ConstrainedResponse(Instruction):
    """One of the three answers of the paper is given, word for word."""

    id: ClassVar[str] = "detectable_format:constrained_response"

    def followed(self, text: str) -> bool:
        return any(answer in text for answer in ANSWERS)


class NumberHighlightedSections(Instruction):
    """At least so many sections between stars, `*one*` or `**two**`, on one line."""

    id: ClassVar[str] = "detectable_format:number_highlighted_sections"
    num_highlights: Count

    def followed(self, text: str) -> bool:
        spans = [*SINGLE_STARS.findall(text), *DOUBLE_STARS.findall(text)]
        return sum(bool(span.strip()) for span in spans) >= self.num_highlights


class MultipleSections(Instruction):
    """At least so many sections, each begun by the splitter and a number: `Section 1`."""

    id: ClassVar[str] = "detectable_format:multiple_sections"
    section_spliter: Phrase  # spelt so in the data
    num_sections: Count

    def followed(self, text: str) -> bool:
        return len(re.findall(re.escape(self.section_spliter) + r"\s?\d+", text)) >= self.num_sections


class JsonFormat(Instruction):
    """The whole response is JSON, in a code fence or without one."""

    id: ClassVar[str] = "detectable_format:json_format"

    def followed(self, text: str) -> bool:
        try:
            json.loads(FENCE.sub("", text.strip()).removesuffix("```"))
        except (ValueError, RecursionError):  # the second: brackets opened by the thousand
            return False
        return True


class Title(Instruction):
    """A title in double angular brackets, `<<poem of joy>>`, on one line."""

    id: ClassVar[str] = "detectable_format:title"

    def followed(self, text: str) -> bool:
        return any(_titled(line) for line in text.split("\n"))


def _bracketed(text: str) -> Iterator[str]:
    """What stands between `[` and the next `]` of its line."""
    for line in text.split("\n"):  # a regular expression takes quadratic time on `[[[[`
        for opened in line.split("]")[:-1]:
            if "[" in opened:
                yield opened.partition("[")[2]


def _titled(line: str) -> bool:
    begin, end = line.find("<<"), line.rfind(">>")
    return 0 <= begin < end and bool(line[begin:end].strip("<>").strip())
