"""A report that is said to need no cleaning needs none, whatever wrote it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reports.printable import is_printable_json, printable

TEXTS = st.text(st.characters(codec=None), max_size=8) | st.text(
    '\\"/bfnrtu09\n\t\x1b\x7f\x85\u202e\ud800ä', max_size=8
)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=6,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_json_said_to_be_printable_holds_nothing_to_replace(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    if is_printable_json(text):
        assert printable(value) == value


@pytest.mark.parametrize("text", ["plain", 'a "quoted" one', "C:\\data", "50 % / 2"])
def test_ordinary_reports_are_not_walked_through(text):
    assert is_printable_json(json.dumps({"name": [text]}, indent=1))


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\x7f", "a\u202eb", "two\nlines", "\ud800"]
)
def test_what_moves_a_cursor_is_never_said_to_be_printable(text):
    assert not is_printable_json(json.dumps({text: 1}))
    assert not is_printable_json(json.dumps([text], ensure_ascii=False))
