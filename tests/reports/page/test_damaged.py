"""Reports that were damaged or made up: refused by name, or shown; never a crash."""

from __future__ import annotations

import copy
import json
import random

import pytest

from harness.errors import ReportError
from harness.reports.analysis import load_series
from harness.reports.page.levels import levels_csv, levels_markdown
from harness.reports.page.page import render_page
from harness.reports.page.view import views_of
from harness.reports.verdict.reading import read_report, run_of

HOSTILE = (
    *(None, True, 0, -1, -(10**30), 10**30, 1e308, -1e308, 5e-324),
    *("", "\x00\ud800\u202e", "</svg><script>", "9" * 5000),
    *([], [[]], [10**30, -1], {}, {"a": {"b": [None]}}),
)
TIMELINE = {"at_s": [0, 1, 2], "rows_per_s": [5, 6, 7], "backlog_rows": [0, 9, 0]}


def places(value, path=()):
    """Every place of a document, as the keys that lead there."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def damaged(document, where, value):
    changed = copy.deepcopy(document)
    inner = changed
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    return changed


@pytest.mark.parametrize("seed", range(4))
def test_any_damage_is_refused_or_shown(write_report, record, dom, seed):
    """One value of the report, wherever it stands, replaced by a hostile one."""
    rng = random.Random(seed)
    records = [
        record(f"test_a[threads={n:02d}]", workers=n, count=200, per_second=[9] * 6)
        for n in (1, 2, 4)
    ]
    records.append(record("test_s", count=50, details={"timeline": TIMELINE}))
    path = write_report(records)
    document = json.loads(path.read_text())
    # Places within one list are alike: two of each are enough.
    everywhere = [
        where
        for where in places(document)
        if not (isinstance(where[-1], int) and where[-1] > 1 and len(where) > 2)
    ]
    shown = refused = 0
    for _ in range(50):
        where, value = rng.choice(everywhere), rng.choice(HOSTILE)
        path.write_text(json.dumps(damaged(document, where, value)))
        try:
            report = read_report(path)
            run_of(report)
        except ReportError as error:
            refused += "0001_x.json" in str(error)
            continue
        page = render_page(report)
        series = load_series(views_of(report))
        levels_csv(series, timestamp="")
        levels_markdown(series, timestamp="")
        shown += 1
        assert not dom(page).named("script"), where
        page.encode()
    assert shown
    assert refused
