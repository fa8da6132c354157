"""Words and sentences, counted by hand."""

from __future__ import annotations

import pytest

from rlhf_ifeval.sentences import num_sentences
from rlhf_ifeval.words import num_capital_words, num_words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("One", 1),
        ("One. Two", 2),
        ("One.Two", 1),
        ("One.\n\nTwo.\tThree!", 3),
        ("Title\n\nOne. Two.", 2),
        ('He said "Stop." Then he left.', 2),
        ("(Yes.) [No!] **Well?** “So.” Done.", 5),
        ("What?! Really!!! Yes.", 3),
        ("Wait... what... Well.", 1),
        ("Mr. and Mrs. Smith, e.g. at 5 p.m. in the U.S. of Dr. King.", 1),
        ("We met at 5 p.m. It rained.", 2),
        ("The U.S. Army and Acme Inc. Berlin", 1),
        ('We met at 5 p.m. "It rained," he said.', 2),
        ('"Dr. King" came.', 1),
        ("Yes! !!! No.", 2),
        ("She said no. He left.", 2),
        ("J. S. Bach lived. He wrote.", 2),
        ("Plan A. it is", 2),
        ("It costs $3.50. Cheap!", 2),
        ("In 1999. In 2000.", 2),
        ("no. 5 and vol. 2 of fig. 3", 1),
        ("about 3. of them", 1),
        ("1. Milk.\n2. Bread.", 4),  # as Punkt counts the items of a numbered list
        ("- Milk.\n- Bread.", 2),
        ("End. 🎉🎉", 1),
        ("See a.b.c and file.txt.", 1),
        ("你好。再见！真的吗？", 3),
        ("他说：「你好。」然后走了。", 2),
        ("यह पहला है। यह दूसरा है।", 2),
        ("ما هذا؟ هذا كتاب.", 2),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert num_sentences(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("one two", 2),
        ("don't", 2),
        ("state-of-the-art", 4),
        ("snake_case 3.14", 3),
        ("naïve café", 2),
        ("-- … !", 0),
        ("你好世界", 1),
    ],
)
def test_words(text: str, count: int) -> None:
    assert num_words(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("I am A man", 2),
        ("I'm", 1),
        ("I'M", 2),
        ("I’M", 2),
        ("DON'T STOP", 3),
        ("ALL, OF: THIS; IS! LOUD?", 5),
        ("WORD--WORD...WORD", 3),
        ("U.S.A. and/OR", 1),
        ("MP3 R2-D2 3D 42", 3),
        ("“YES” «OUI» (SI) [JA] {DA} <NAI>", 6),
        ("Mixed cAse", 0),
    ],
)
def test_capital_words(text: str, count: int) -> None:
    assert num_capital_words(text) == count
