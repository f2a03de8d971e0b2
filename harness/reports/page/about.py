"""The parts of the page about trust: doubts, failures, where the figures came from."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from harness.reports.journal import INVALID
from harness.reports.page.markup import tag
from harness.reports.page.view import cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from xml.etree.ElementTree import Element

    from harness.reports.page.view import CaseView
    from harness.reports.store import SavedReport

_NAMES_SHOWN = 12
_FACTS_MAX = 60
_TEXT_CHARACTERS = 300


def doubts_section(views: Sequence[CaseView], report: SavedReport) -> Element:
    """Return why a reader should hesitate, and what did not pass."""
    cases: defaultdict[str, list[str]] = defaultdict(list)
    for view in views:
        for doubt in view.block.doubts if view.block else []:
            cases[doubt].append(view.name)
    environment = report.run.environment if report.run else None
    failed = report.run.failed if report.run else {}
    parts: list[Element] = []
    whole = (
        [f"The machine: {text}" for text in environment.doubts] if environment else []
    )
    if report.run is None:
        whole.append("lakegauge did not write this report: its conditions are unknown.")
    elif not report.run.complete:
        whole.append("The run did not end by itself: cases may be missing.")
    if report.run is not None and report.run.smoke:
        whole.append("Smoke values: they prove that a case runs, not how fast.")
    if whole:
        parts.append(tag("h3", "The whole run"))
        parts.append(_list(whole))
    if failed:
        parts.append(tag("h3", "Cases without a result"))
        parts.append(_list(_failure(name, why) for name, why in failed.items()))
    if cases:
        parts.append(tag("h3", "Cases in doubt"))
        parts.append(
            tag("ul", *(_doubt(text, cases[text]) for text in cases), class_="notes")
        )
    if not parts:
        parts.append(tag("p", "None: no case failed and none is in doubt."))
    return tag("section", tag("h2", "Doubts and failures", id="doubts"), *parts)


def _doubt(text: str, names: list[str]) -> Element:
    shown = ", ".join(names[:_NAMES_SHOWN])
    if len(names) > _NAMES_SHOWN:
        shown += f" and {len(names) - _NAMES_SHOWN} more"
    return tag("li", cut(text, _TEXT_CHARACTERS), tag("span", shown, class_="path"))


def _failure(name: str, why: str) -> str:
    what = "invalid" if why.startswith(INVALID) else "failed"
    return f"{cut(name)} {what}: {cut(why.removeprefix(INVALID), _TEXT_CHARACTERS)}"


def _list(lines: Iterable[str]) -> Element:
    return tag("ul", *(tag("li", line) for line in lines), class_="notes")


def provenance_section(reports: Sequence[tuple[str, SavedReport]]) -> Element:
    """Return where the figures came from, run by run."""
    return tag(
        "section",
        tag("h2", "Provenance", id="provenance"),
        *(
            part
            for heading, report in reports
            for part in (
                tag("h3", heading),
                tag(
                    "dl",
                    *(
                        cell
                        for key, value in _facts(report)[:_FACTS_MAX]
                        for cell in (tag("dt", cut(key, 60)), tag("dd", value))
                    ),
                    class_="facts",
                ),
            )
        ),
    )


def _facts(report: SavedReport) -> list[tuple[str, str]]:
    commit = report.data.get("commit_info")
    facts: list[tuple[str, Any]] = [
        ("report", report.path.name),
        ("started", report.data.get("datetime")),
    ]
    if isinstance(commit, dict):
        dirty = " with uncommitted changes" if commit.get("dirty") else ""
        facts.append(("commit", f"{commit.get('id') or 'unknown'}{dirty}"))
        facts.append(("branch", commit.get("branch")))
    facts += [
        (key.replace("_", " "), value)
        for key, value in report.data["machine_info"].items()
    ]
    facts.append(("pytest-benchmark", report.data.get("version")))
    run = report.run
    if run is not None:
        facts.append(("report schema", run.schema_version))
        facts.append(("values", "smoke" if run.smoke else "full"))
        if run.pair is not None:
            about = f"{run.pair.experiment}, pair {run.pair.index}, {run.pair.variant}"
            facts.append(("A/B experiment", about))
        if run.environment is not None:
            watched = run.environment.model_dump(exclude={"doubts"}, exclude_none=True)
            facts += [(key.replace("_", " "), value) for key, value in watched.items()]
    return [
        (key, cut(_plain(value), _TEXT_CHARACTERS))
        for key, value in facts
        if value not in (None, "")
    ]


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " to ".join(_plain(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
