"""pytest's side of the page: `--benchmark-html`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ReportError

if TYPE_CHECKING:
    import pytest

    from harness.reports.state import ReportState
    from harness.reports.store import SavedReport
    from harness.reports.verdict.model import Comparison


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the page."""
    group = parser.getgroup("lakegauge")
    group.addoption(
        "--benchmark-html",
        type=Path,
        metavar="FILE",
        help="write the results, with --benchmark-compare also the verdicts, to one "
        "self-contained HTML page",
    )


def pytest_lakegauge_preflight(config: pytest.Config) -> None:
    """Refuse a page that could not be written, before any work starts.

    Raises:
        HarnessError: If its folder is not there.
    """
    path = config.option.benchmark_html
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        msg = f"--benchmark-html={path}: there is no folder for such a file"
        raise ReportError(msg)


def finish_page(
    config: pytest.Config,
    state: ReportState,
    now: SavedReport | None,
    comparison: Comparison | None,
) -> tuple[list[str], bool]:
    """Write the page, if one was asked for.

    Returns:
        The lines to print, and whether it could not be written.
    """
    path: Path | None = config.option.benchmark_html
    if path is None:
        return [], False
    if now is None or not now.data["benchmarks"]:
        return [f"no page {path}: no benchmark passed"], False
    from harness.reports.page.page import render_page, write_page
    from harness.reports.printable import printable

    baseline = state.baseline.report if state.baseline else None
    try:
        page = render_page(
            replace(now, data=printable(now.data)),
            baseline=replace(baseline, data=printable(baseline.data))
            if baseline
            else None,
            comparison=comparison,
        )
        write_page(path, page)
    except ReportError as error:
        return [str(error)], True
    return [f"page: {path}"], False
