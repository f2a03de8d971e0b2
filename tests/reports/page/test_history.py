"""Nights on the page: a planted step is drawn and named, flat noise is not."""

from __future__ import annotations

import numpy as np
import pytest

from harness.reports.history.analysis import history_of
from harness.reports.page.page import render_page
from harness.reports.verdict.reading import read_report

NIGHTS = 24


@pytest.fixture
def page_of_nights(write_report, record, tmp_path):
    """Return a function that saves a report a night and makes the page of the last."""

    def make(scales, **about):
        for night, scale in enumerate(scales):
            records = [
                record("test_a", median_s=0.002 * scale, seed=night, **about),
                record("test_flat", median_s=0.002, seed=100 + night),
            ]
            path = write_report(records)
        return render_page(read_report(path), history=history_of(tmp_path / "reports"))

    return make


def test_step_of_the_nights_is_drawn_with_its_size_and_its_night(page_of_nights):
    page = page_of_nights(np.where(np.arange(NIGHTS) < NIGHTS // 2, 1.0, 1.5))
    section = page[page.index('id="history"') : page.index('id="doubts"')]

    assert "REGRESSED" in section
    assert "between 2026-01-12 and 2026-01-13" in section
    assert 'class="line dashed worse"' in section
    figure = section[section.index("<h4>a: p50</h4>") :]
    assert 'note strong worse">+' in figure[: figure.index("</figure>")]


def test_nights_without_a_change_have_no_mark(page_of_nights):
    page = page_of_nights(np.ones(NIGHTS))
    section = page[page.index('id="history"') : page.index('id="doubts"')]

    assert "No change of level" in section
    assert "dashed worse" not in section
    assert "<h4>flat: p50</h4>" in section


def test_two_nights_are_no_history(page_of_nights):
    assert 'id="history"' not in page_of_nights([1.0, 1.5])
