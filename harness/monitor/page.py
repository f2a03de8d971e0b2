"""The dashboard: one run beside its baseline, as a page people can leave open."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING
from urllib.parse import quote

from harness.monitor.cards import group_section
from harness.monitor.folder import Listing, SavedRun, state_of
from harness.monitor.markup import document, tag
from harness.reports.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from xml.etree.ElementTree import Element

    from harness.reports.compare import CaseComparison

_LISTED_MAX = 25
# Without scripts the page reloads itself; the script asks every 2 s instead.
_RELOAD_S = 5


def dashboard_page(
    listing: Listing,
    *,
    label: str | None,
    folder: Path,
    is_live: bool = False,
) -> str:
    """Return the page of one run.

    Args:
        listing: The folder as it is now.
        label: The run to show, which must be listed; None for the newest.
        folder: Its path, for the case that it is empty.
        is_live: Whether what goes on now stands above it.
    """
    if label is None:
        run = listing.runs[0] if listing.runs else None
    else:
        run = listing.find(label)
    body = _empty(folder) if run is None else _run_sections(listing, run)
    title = "lakegauge" if run is None else f"{run.label} - lakegauge"
    head = [
        tag("script", src="/static/dashboard.js", defer=""),
        tag(
            "noscript",
            tag("meta", http_equiv="refresh", content=str(_RELOAD_S)),
        ),
    ]
    main = tag("main", *body, *_reports_section(listing, run))
    return _page(title, head=head, main=main, is_live=is_live)


def live_page(root: str) -> str:
    """Return the page of what goes on now, where there are no reports.

    Args:
        root: Where the monitor is mounted: "/monitor", or nothing.
    """
    main = tag(
        "noscript", tag("p", "This page needs scripts: see /live.", class_="lead")
    )
    return _page("lakegauge", head=[], main=main, is_live=True, root=root)


def _page(
    title: str, *, head: list[Element], main: Element, is_live: bool, root: str = ""
) -> str:
    static = f"{root}/static"
    live_head = [
        tag("link", rel="stylesheet", href=f"{static}/uplot.css"),
        tag("link", rel="stylesheet", href=f"{static}/live.css"),
        tag("script", src=f"{static}/uplot.js", defer=""),
        tag("script", src=f"{static}/live.js", type="module"),
    ]
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("link", rel="icon", href=f"{static}/icon.svg"),
            tag("link", rel="stylesheet", href=f"{static}/dashboard.css"),
            *head,
            *(live_head if is_live else ()),
        ),
        tag(
            "body",
            tag(
                "header",
                tag("img", src=f"{static}/icon.svg", alt="", width="28", height="28"),
                tag("a", "lakegauge", href=f"{root}/dashboard", class_="brand"),
                tag("span", id="link", role="status", class_="link"),
            ),
            # Its script fills it and shows it.
            tag("section", id="live", aria_label="Live", hidden="")
            if is_live
            else None,
            main,
        ),
        lang="en",
    )
    return document(page)


def _empty(folder: Path) -> list[Element]:
    return [
        tag("h1", "Nothing measured yet"),
        tag(
            "p",
            "This page looks at ",
            tag("code", str(folder)),
            " and fills as soon as the first case of ",
            tag("code", "make bench"),
            " is done.",
            class_="lead",
        ),
    ]


def _run_sections(listing: Listing, run: SavedRun) -> list[Element]:
    baseline = listing.baseline_of(run)
    comparisons = run.compared_with(baseline)
    views = {case.fullname: case for case in run.cases}
    old_views = {case.fullname: case for case in baseline.cases} if baseline else {}
    state = state_of(run)
    sections = [_hero(run, baseline, state, comparisons)]
    sections += _attention(comparisons, run, state)
    groups: defaultdict[str, list[CaseComparison]] = defaultdict(list)
    for comparison in comparisons:
        if comparison.contender is not None:
            groups[views[comparison.fullname].group].append(comparison)
    cards = [
        group_section(group, groups[group], views, old_views)
        for group in sorted(groups)
    ]
    sections.append(tag("div", *cards, class_="groups"))
    return sections


def _hero(
    run: SavedRun,
    baseline: SavedRun | None,
    state: str,
    comparisons: Sequence[CaseComparison],
) -> Element:
    words = {
        "running": "running now",
        "interrupted": "interrupted: this is what it had measured",
        "complete": "complete",
    }
    compared_count = sum(c.status == "compared" for c in comparisons)
    errors_count = sum(case.errors_count for case in run.cases)
    doubted_count = sum(bool(case.doubts) for case in run.cases)
    if baseline is None:
        beside: list[Element | str] = ["no earlier report may be compared with it"]
    else:
        beside = [
            "beside baseline ",
            _run_link(baseline),
            ". No verdict: one run a side, so a few percent are noise.",
        ]
    return tag(
        "section",
        tag(
            "h1",
            f"Run {run.label} ",
            tag("span", words[state], class_=f"pill {state}"),
            tag("span", "smoke values", class_="pill smoke") if run.run.smoke else None,
        ),
        tag("p", *_about(run), class_="lead"),
        tag("p", *beside, class_="lead"),
        _progress(run, comparisons, baseline) if state == "running" else None,
        tag(
            "dl",
            *_tile(str(len(run.cases)), "cases measured"),
            *_tile(str(compared_count), "beside the baseline"),
            *_tile(str(len(run.run.failed)), "cases failed", is_bad=True),
            *_tile(f"{errors_count:,}", "operations failed", is_bad=True),
            *_tile(str(doubted_count), "cases in doubt", is_bad=True),
            class_="tiles",
        ),
        class_="hero",
    )


def _tile(value: str, words: str, *, is_bad: bool = False) -> list[Element]:
    marked = "bad" if is_bad and value != "0" else None
    return [tag("div", tag("dt", words), tag("dd", value, class_=marked))]


def _about(run: SavedRun) -> list[Element | str]:
    """Say when, of what commit and on what machine."""
    machine = run.report.data["machine_info"]
    started = run.started_at
    parts: list[Element | str] = [
        tag("time", f"{started:%Y-%m-%d %H:%M:%S} UTC", datetime=started.isoformat())
    ]
    commit = run.report.data.get("commit_info")
    if isinstance(commit, dict) and commit.get("id") not in (None, "unversioned"):
        dirty = " with local changes" if commit.get("dirty") else ""
        parts.append(f", commit {str(commit['id'])[:7]}{dirty}")
    known = [
        f"{machine['cpu_count']} x" if machine.get("cpu_count") else None,
        machine.get("cpu_brand"),
    ]
    cpu = " ".join(str(part) for part in known if part)
    python = machine.get("python_version")
    parts += [f", {cpu}"] if cpu else []
    parts += [f", Python {python}"] if python else []
    return parts


def _progress(
    run: SavedRun,
    comparisons: Sequence[CaseComparison],
    baseline: SavedRun | None,
) -> Element | None:
    if baseline is None:
        return None
    to_come_count = sum(c.status == "missing" for c in comparisons)
    done_count = len(run.cases) + len(run.run.failed)
    total_count = done_count + to_come_count
    return tag(
        "p",
        tag(
            "progress",
            value=str(done_count),
            max=str(total_count),
            aria_label="cases done",
        ),
        f" {done_count} of {counted(total_count, 'case')}, "
        "counting those of the baseline",
        class_="progress",
    )


def _attention(
    comparisons: Sequence[CaseComparison], run: SavedRun, state: str
) -> list[Element]:
    """Name what the numbers alone would hide."""
    items = [
        tag("li", tag("b", "failed "), tag("code", name), f" {outcome}")
        for name, outcome in sorted(run.run.failed.items())
    ]
    doubted: defaultdict[str, list[str]] = defaultdict(list)
    for case in run.cases:
        for doubt in case.doubts:
            doubted[doubt].append(case.name.removeprefix("test_"))
    items += [
        tag("li", tag("b", "doubt "), f"{doubt}: ", tag("code", ", ".join(names)))
        for doubt, names in doubted.items()
    ]
    if state != "running":
        items += [
            tag("li", tag("b", "missing "), tag("code", c.fullname), " in this run")
            for c in comparisons
            if c.status == "missing"
        ]
    if not items:
        return []
    return [
        tag(
            "section",
            tag("h2", "Look here first"),
            tag("ul", *items),
            class_="attention",
        )
    ]


def _reports_section(listing: Listing, shown: SavedRun | None) -> list[Element]:
    sections = []
    if listing.runs:
        rows = [
            tag(
                "tr",
                tag("td", _run_link(run)),
                tag("td", f"{run.started_at:%Y-%m-%d %H:%M}"),
                tag("td", str(len(run.cases))),
                tag("td", state_of(run), ", smoke" if run.run.smoke else None),
                class_="shown" if run is shown else None,
            )
            for run in listing.runs[:_LISTED_MAX]
        ]
        heads = ("report", "started (UTC)", "cases", "state")
        sections.append(
            tag(
                "section",
                tag("h2", "Reports"),
                tag(
                    "table",
                    tag(
                        "thead", tag("tr", *(tag("th", h, scope="col") for h in heads))
                    ),
                    tag("tbody", *rows),
                    class_="reports",
                ),
            )
        )
    if listing.notes:
        sections.append(
            tag(
                "section",
                tag("h2", "Not listed"),
                tag("ul", *(tag("li", note) for note in listing.notes)),
                class_="notes",
            )
        )
    return sections


def _run_link(run: SavedRun) -> Element:
    return tag("a", run.label, href=f"/dashboard?run={quote(run.label, safe='')}")
