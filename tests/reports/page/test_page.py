"""The page: one file, nothing loaded, every text escaped, every case on it."""

from __future__ import annotations

import itertools
import re
import time

import pytest

from harness.reports.page.page import render_page
from harness.reports.verdict.judge import compare_runs
from harness.reports.verdict.reading import read_report, run_of

HOSTILE = (
    "test_x[<script>document.title='taken'</script>\"><img src=x onerror=alert(1)>]"
)


@pytest.fixture
def page_of(write_report):
    """Return a function that makes the page of some records."""

    def make(records, *, old=None, **about):
        new = [read_report(write_report(records, folder="new", **about))]
        if old is None:
            return render_page(new[-1])
        before = [read_report(write_report(old, folder="old"))]
        comparison = compare_runs(
            [run_of(report) for report in before], [run_of(report) for report in new]
        )
        return render_page(new[-1], baseline=before[-1], comparison=comparison)

    return make


def test_page_loads_nothing_and_runs_nothing(page_of, record, dom):
    page = dom(page_of([record("test_a")], old=[record("test_a", seed=1)]))

    assert not page.named("script", "iframe", "img", "object", "embed", "form")
    links = [attrs.get("href", "") for attrs in page.named("a", "link")]
    assert links
    assert all(link.startswith("#") or link == "data:," for link in links)
    (policy,) = [
        attrs["content"]
        for attrs in page.named("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    # An attribute of its own style would be refused by that policy.
    assert not [tag for tag, attrs in page.elements if "style" in attrs]


def test_hostile_names_are_text(page_of, record, dom):
    """In the name of a case and of its group, in a doubt, an error and a detail."""
    hostile = record(
        HOSTILE,
        group="<script>g</script>",
        doubts=["<script>d</script>"],
        errors={"<script>e</script>": 3},
        details={"<script>k</script>": "<script>v</script>", "timeline": {"at_s": "x"}},
    )
    page = dom(
        page_of([hostile], old=[hostile], failed={HOSTILE: "<script>f</script>"})
    )

    assert not page.named("script", "img")
    said = "".join(page.text)
    assert HOSTILE.removeprefix("test_") in said
    for letter in "gdekvf":
        assert f"<script>{letter}</script>" in said


@pytest.mark.parametrize(
    "timeline",
    [
        None,
        [],
        {"at_s": [0, 1, 2], "rows_per_s": ["x", None, -1]},
        {"at_s": [0, True, {}], "rows_per_s": [1, 2, 3]},
        {"at_s": [0, 1], "backlog_rows": [5, 1e308]},
        {"at_s": [0, 0], "watermark_lag_s": [0, 0]},
    ],
)
def test_a_damaged_timeline_does_not_stop_the_page(page_of, record, timeline):
    page = page_of([record("test_a", details={"timeline": timeline})])

    assert "test_g" in page or ">a<" in page


def test_every_case_has_a_row_whatever_became_of_it(page_of, record):
    """Compared, new, missing, failed and invalid cases are all in the first table."""
    page = page_of(
        [record("test_same"), record("test_new")],
        old=[record("test_same"), record("test_gone", median_s=0.5)],
        failed={
            "benchmarks/test_g.py::test_broken": "failed in call",
            "benchmarks/test_g.py::test_late": "invalid: the generator was late",
        },
    )
    table = page[page.index('class="verdicts"') : page.index('id="results"')]
    said = re.sub(r"<[^>]+>", " ", table)

    for status in ("new", "missing", "failed", "invalid"):
        assert re.search(rf"\b{status}\b", said), status
    for name in ("same", "new", "gone", "broken", "late"):
        assert re.search(rf"\b{name}\b", said), name


def test_tenfold_regression_is_the_headline_and_names_its_case(page_of, record):
    page = page_of(
        [record("test_a"), record("test_slow", median_s=0.05)],
        old=[record("test_a"), record("test_slow")],
    )

    assert "1 of 2 cases regressed</h1>" in page
    table = page[page.index("<tbody>") :]
    row = table[table.index("is-regressed") :]
    assert ">slow<" in row[: row.index("</tr>")]


def test_a_run_without_a_baseline_makes_no_verdict(page_of, record):
    page = page_of([record("test_a")])

    assert 'id="verdicts"' not in page
    assert "without a baseline" in page
    assert "No regression" not in page


def test_page_can_be_read_by_ear(page_of, record, dom):
    """Headings in order, tables with headers, drawings with words, a skip link."""
    timeline = {"at_s": [0, 1, 2], "rows_per_s": [5, 6, 7], "backlog_rows": [0, 9, 0]}
    records = [
        record(f"test_a[rate={rate:03d}]", rate_per_s=rate) for rate in (100, 200, 400)
    ]
    records.append(record("test_stream", group="s", details={"timeline": timeline}))
    page = dom(page_of(records, old=records))

    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(attrs.get("scope") in {"col", "row"} for attrs in page.named("th"))
    assert len(page.named("table")) == len(page.named("caption"))
    for attrs in page.named("svg"):
        assert attrs.get("aria-hidden") == "true" or (
            attrs["role"] == "img" and len(attrs["aria-label"]) > 20
        )
    anchors = [attrs for attrs in page.named("a") if attrs["href"] == "#report"]
    assert anchors
    assert [attrs for attrs in page.named("main") if attrs["id"] == "report"]
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs in page.named("a"):
        assert attrs["href"].removeprefix("#") in ids


def test_every_chart_of_the_subject_is_drawn(page_of, record):
    timeline = {
        "at_s": [0, 1, 2],
        "rows_per_s": [5, 6, 7],
        "batch_duration_s": [0.1, 0.2, 0.1],
        "watermark_lag_s": [9, 9, 9],
        "backlog_rows": [0, 9, 0],
    }
    records = [
        record(f"test_a[rate={rate:03d}]", rate_per_s=rate) for rate in (100, 200, 400)
    ]
    records.append(record("test_stream", group="s", details={"timeline": timeline}))
    page = page_of(records, old=records)

    for title in (
        "Percentile curve of response time",
        "Response time by part",
        "Throughput against response time",
        "Throughput over time",
        *("rows per second over time", "batch duration over time"),
        *("watermark lag over time", "backlog in rows over time"),
    ):
        assert f'aria-label="{title}. ' in page, title


def test_page_of_two_hundred_cases_is_small_and_its_time_grows_with_the_cases(
    page_of, record
):
    """Under 2 MB; ten times the cases take no more than twenty times as long."""
    few = [record(f"test_{i}", group=f"g{i // 4}") for i in range(20)]
    many = [record(f"test_{i}", group=f"g{i // 4}") for i in range(200)]

    def cpu_s(records):
        started = time.process_time()
        page_of(records, old=records)
        return time.process_time() - started

    # The least of three each: neighbours on the machine only ever add.
    turns = [(cpu_s(few), cpu_s(many)) for _ in range(3)]
    of_few, of_many = (min(times) for times in zip(*turns, strict=True))

    assert len(page_of(many, old=many).encode()) < 2_000_000
    assert of_many < 20 * of_few


def test_charts_that_do_not_fit_are_counted_and_no_row_is_lost(page_of, record):
    records = [record(f"test_{i:04d}", group=f"g{i}") for i in range(400)]
    page = page_of(records)

    assert len(page.encode()) < 2_000_000
    assert re.search(r"\d+ charts were left out", page)
    assert sum(page.count(f">{i:04d}<") > 0 for i in range(400)) == 400
