"""One run is not "1 runs"."""

from __future__ import annotations

import pytest

from harness.reports.wording import counted


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, "run"), "1 run"),
        ((0, "run"), "0 runs"),
        ((1200, "case"), "1,200 cases"),
        ((1, "run a side", "runs a side"), "1 run a side"),
        ((2, "run a side", "runs a side"), "2 runs a side"),
    ],
)
def test_a_number_agrees_with_its_noun(arguments, text):
    assert counted(*arguments) == text
