from __future__ import annotations

import pytest

from harness.agents.footnotes import remove_footnotes

FENCED = "Use:\n```python\nre.compile('[^1]')  # [^a]\n```\n"


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("A pool[^1] holds.\n\n[^1]: guide.pdf", "A pool holds."),
        ("Ids[^UCVq-1] and[^a_b.c].\n\n[^a_b.c]: x\n", "Ids and."),
        ("Two[^1][^2].\n\n[^1]: x\n[^2]: y", "Two."),
        ("Before a stop [^1].\n\n[^1]: x", "Before a stop."),
        ("A [^1] b\n\n[^1]: x", "A b"),
        ("A[^1]\n\n[^1]: x\n    goes on\n\n    and on\n\nB", "A\n\nB"),
        ("A[^1]\n\n[^1]: x\nB[^1]", "A\n\nB"),
        ("nothing here\n", "nothing here\n"),
        ("", ""),
    ],
)
def test_marks_and_definitions_go_whole(text, without):
    assert remove_footnotes(text) == without


@pytest.mark.parametrize(
    "code",
    [
        FENCED,
        "~~~\n[^1]: not a definition\n~~~\n",
        "````\n```\n[^1]\n```\n````\n",
        "- step:\n  ```\n  [^1]\n  ```\n",
        "Run:\n\n    grep '[^1]' file\n    [^1]: x\n",
        "Write `[^1]` and ``a ` [^1]``.\n",
        "open fence\n```\n[^1]\n",
    ],
    ids=["fenced", "tildes", "nested", "in-list", "indented", "inline", "unclosed"],
)
def test_code_is_untouched(code):
    """The original took `[^...]` out of regular expressions in code blocks."""
    assert remove_footnotes(code) == code
    assert remove_footnotes("A[^1].\n\n[^1]: x\n\n" + code).endswith(code.rstrip())


def test_character_class_in_prose_is_no_footnote():
    assert remove_footnotes("the class [^a-z] matches") == "the class [^a-z] matches"


def test_text_in_a_list_under_an_item_is_prose():
    text = "- item\n\n    more[^1]\n\n[^1]: x"
    assert remove_footnotes(text) == "- item\n\n    more"
