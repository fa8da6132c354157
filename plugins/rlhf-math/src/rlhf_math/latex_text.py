"""One spelling for answers that LaTeX lets people write in many, as far as text alone can tell.

The rules are those by which results on MATH are reported (`is_equiv`, Hendrycks et al. 2021, arXiv:2103.03874), and
numbers are compared as numbers besides.
"""

from __future__ import annotations

import re

from rlhf_math.quantities import number

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\[!,;:> ]|~|\s+", " "),  # spaces of any width
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])", ""),
        (r"\\[dt]frac(?![A-Za-z])", r"\\frac"),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)(?![A-Za-z])", ""),  # degrees
        (r"\\?\$|\\\(|\\\)", ""),  # dollars, be they money or mathematics
        (r"\\?%", ""),
        (r"\{,\}", ","),  # a comma without the space LaTeX adds
        (r"(?<=[0-9}])\s*\\(?:text|mbox|mathrm)\s*\{[^{}]*\}(?:\^[0-9])?\s*$", ""),  # a unit
        (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r"\1"),
        (r"^\s*[A-Za-z]{1,2}\s*=", ""),  # x = 5
        (r"\\frac\s*([0-9])\s*([0-9])(?![0-9])", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([0-9])\s*\{", r"\\frac{\1}{"),
        (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
        (r"^\s*([-−]?)\s*([0-9]+)\s*/\s*([0-9]+)\s*$", r"\1\\frac{\2}{\3}"),
        (r"(?<![0-9])\.(?=[0-9])", "0."),
        (r"−", "-"),
        (r"\s+", ""),
        (r"\.$", ""),
    )
)
_FRACTION = re.compile(r"(-?)\\frac\{(-?)([0-9]+)\}\{([0-9]+)\}")
_MAX_LENGTH = 2000
"""A longer answer is compared as it stands: the rules read a text several times."""


def same_answer(first: str, second: str) -> bool:
    r"""Whether two answers are spellings of one: `\dfrac12` and `\frac{1}{2}`, `1,000` and `1000.0`."""
    if max(len(first), len(second)) > _MAX_LENGTH:
        return first.strip() == second.strip()
    first, second = _tidy(first), _tidy(second)
    if not first or first == second:
        return bool(first)
    values = [number(_FRACTION.sub(r"\1\2\3/\4", text)) for text in (first, second)]
    return values[0] is not None and values[0] == values[1]


def _tidy(text: str) -> str:
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
