"""The page in a real browser: what it refuses, whether it fits, what overlaps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.reports.page.page import render_page
from harness.reports.verdict.judge import compare_runs
from harness.reports.verdict.reading import read_report, run_of

HOSTILE = "test_x[<script>document.title='taken'</script>]"
LONG = "test_" + "a_very_long_name_of_a_case_" * 5 + "[pool=04]"
# Run in a copy of the page without its policy: it writes what it finds into the title.
PROBE = """
<script>
addEventListener("load", () => {
  const found = [];
  const wide = document.documentElement.scrollWidth - innerWidth;
  if (wide > 1) found.push("page is " + wide + " wider than the window");
  for (const svg of document.querySelectorAll("svg[role=img]")) {
    const frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll("text")].map(
      (text) => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([name, a], index) => {
      if (a.left < frame.left - 1 || a.right > frame.right + 1)
        found.push("outside: " + name);
      for (const [other, b] of boxes.slice(index + 1))
        if (a.left < b.right - 1 && b.left < a.right - 1
            && a.top < b.bottom - 3 && b.top < a.bottom - 3)
          found.push("overlap: " + name + " and " + other);
    });
  }
  document.title = "probed: " + found.join("; ");
});
</script></head>
"""


# Two scenarios of a real run with smoke values, on events with a clock of their own.
STREAM_RUN = Path(__file__).parent / "data" / "stream_run.json"


@pytest.fixture
def stream_page(tmp_path):
    path = tmp_path / "stream.html"
    path.write_text(render_page(read_report(STREAM_RUN)))
    return path


@pytest.fixture
def page_path(write_report, record, tmp_path):
    records = [
        record(f"test_a[rate={rate:04d}]", rate_per_s=rate, median_s=0.001 + rate / 1e6)
        for rate in (100, 1000, 2000, 4000)
    ]
    timeline = {"at_s": [0, 1, 2], "rows_per_s": [5, 6e6, 7], "backlog_rows": [0, 9, 0]}
    records += [
        record(HOSTILE, group="hostile"),
        record(LONG, group="long", median_s=12e-9),
        record("test_stream", group="stream", details={"timeline": timeline}),
    ]
    new = read_report(write_report(records, folder="new"))
    old = read_report(write_report(records, folder="old"))
    comparison = compare_runs([run_of(old)], [run_of(new)])
    path = tmp_path / "page.html"
    path.write_text(render_page(new, baseline=old, comparison=comparison))
    return path


def test_browser_shows_the_page_and_refuses_nothing_of_it(browse, page_path):
    seen, log = browse(page_path)

    assert "<title>lakegauge report 0001</title>" in seen
    assert "Refused" not in log
    assert "violates" not in log
    assert "<script" not in seen


def test_browser_refuses_what_was_slipped_into_the_page(browse, page_path):
    """The control: the policy is at work, and the log would have said so."""
    changed = page_path.read_text().replace(
        "</main>", "<script>document.title='taken'</script></main>"
    )
    page_path.write_text(changed.replace("margin: 0;", "margin: 1px;", 1))
    seen, log = browse(page_path)

    assert "<title>lakegauge report 0001</title>" in seen
    assert len(re.findall("violates", log)) == 2


@pytest.mark.parametrize("width", [1280, 520])
def test_page_fits_the_window_and_no_label_covers_another(browse, page_path, width):
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page_path.read_text(), count=1)
    page_path.write_text(text.replace("</head>", PROBE, 1))
    seen, _ = browse(page_path, width=width)

    assert re.search("<title>(.*?)</title>", seen).group(1) == "probed: "


@pytest.mark.parametrize("width", [1280, 520])
def test_the_timeline_of_a_real_stream_fits_and_reads_well(browse, stream_page, width):
    """Its watermark is months behind the clock: once a label ran out of the chart."""
    text = re.sub(r"<meta http-equiv=[^>]*>", "", stream_page.read_text(), count=1)
    stream_page.write_text(text.replace("</head>", PROBE, 1))
    seen, _ = browse(stream_page, width=width)

    assert re.search("<title>(.*?)</title>", seen).group(1) == "probed: "
    assert seen.count('class="stream"') == 2
    for label in ("300 d", "30 k", "2.5 s", "since the first micro-batch began"):
        assert label in seen, label
    assert "CPU per million rows" in seen
