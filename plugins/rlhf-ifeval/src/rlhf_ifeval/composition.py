"""`combination:*` and `startend:*`: what the response is made of, and how it begins and ends."""

from __future__ import annotations

from typing import ClassVar

from rlhf_ifeval.instruction import Instruction, Phrase

DIVIDER = "******"
QUOTE = '"'


class TwoResponses(Instruction):
    """Two different responses parted by six stars; a divider before the first or after the second is idle."""

    id: ClassVar[str] = "combination:two_responses"

    def followed(self, text: str) -> bool:
        responses = [response.strip() for response in text.split(DIVIDER)]
        given = [response for response in responses if response]
        return all(responses[1:-1]) and len(given) == 2 and given[0] != given[1]


class RepeatPrompt(Instruction):
    """The response begins with the request, word for word but for case."""

    id: ClassVar[str] = "combination:repeat_prompt"
    prompt_to_repeat: Phrase

    def followed(self, text: str) -> bool:
        return text.strip().lower().startswith(self.prompt_to_repeat.lower())


class EndChecker(Instruction):
    """The response ends with the phrase, but for case and quotation marks around."""

    id: ClassVar[str] = "startend:end_checker"
    end_phrase: Phrase

    def followed(self, text: str) -> bool:
        return text.strip().strip(QUOTE).lower().endswith(self.end_phrase.strip(QUOTE).lower())


class Quotation(Instruction):
    """The whole response stands between double quotation marks."""

    id: ClassVar[str] = "startend:quotation"

    def followed(self, text: str) -> bool:
        quoted = text.strip()
        return len(quoted) > 1 and quoted.startswith(QUOTE) and quoted.endswith(QUOTE)
