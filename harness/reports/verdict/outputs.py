"""A comparison as a file: JSON, CSV, Markdown for a CI summary, JUnit XML."""

from __future__ import annotations

import csv
import html
import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from harness.errors import ReportError
from harness.reports.verdict.words import (
    case_line,
    change_text,
    interval_text,
    method_line,
    said_cases,
    shown_metrics,
    side_line,
    summary_line,
    threshold_text,
    value_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.reports.verdict.model import Comparison

# History of the JSON document. 1: first.
VERDICT_SCHEMA_VERSION = 1

# In one pass: a second one would escape what the first wrote.
_MARKDOWN = {ord(mark): f"&#{ord(mark)};" for mark in "\\`*_[]|#~!@"}
_MARKDOWN |= {ord(mark): html.escape(mark) for mark in "&<>"}

# A spreadsheet runs a cell that begins like this as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_json(comparison: Comparison) -> str:
    """Return the comparison as a JSON document."""
    document: dict[str, Any] = {
        "schema_version": VERDICT_SCHEMA_VERSION,
        "summary": summary_line(comparison),
        "exit_code": comparison.exit_code(),
        **asdict(comparison),
    }
    return json.dumps(document, indent=1, default=str, allow_nan=False) + "\n"


def as_csv(comparison: Comparison) -> str:
    """Return one row per case and metric, and one per case without a verdict."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        (
            *("case", "group", "case_status", "metric", "status"),
            *("baseline", "contender", "ratio", "ratio_low", "ratio_high"),
            *("threshold", "baseline_runs", "contender_runs", "detectable"),
            *("runs_more", "reason"),
        )
    )
    for case in comparison.cases:
        about = [
            spreadsheet_cell(case.fullname),
            spreadsheet_cell(case.group),
            case.status,
        ]
        for v in case.metrics:
            low, high = v.interval or (None, None)
            writer.writerow(
                (
                    *about,
                    *(v.metric, v.status, v.baseline, v.contender, v.ratio, low, high),
                    *(v.threshold, v.baseline_runs, v.contender_runs, v.detectable),
                    *(v.runs_more, spreadsheet_cell(v.reason)),
                )
            )
        if not case.metrics:
            writer.writerow(
                (*about, *[""] * 12, spreadsheet_cell("; ".join(case.reasons)))
            )
    return text.getvalue()


def spreadsheet_cell(text: str) -> str:
    """Return a text that no spreadsheet runs."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def as_markdown(comparison: Comparison) -> str:
    """Return a summary for a pull request or a CI job."""
    lines = [
        f"### Verdict: {markdown_text(summary_line(comparison))}",
        "",
        f"- baseline: {markdown_text(side_line(comparison.baseline))}",
        f"- contender: {markdown_text(side_line(comparison.contender))}",
        *(f"- {markdown_text(note)}" for note in comparison.notes),
    ]
    if comparison.judged:
        lines += [
            f"- {markdown_text(method_line(comparison))}",
            "",
            (
                "| verdict | case | metric | baseline | contender | change "
                "| 95 % interval | matters |"
            ),
            "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for case in comparison.judged:
            for v in shown_metrics(case):
                strong = "**" if v.status == "regressed" else ""
                cells = (
                    f"{strong}{v.status}{strong}",
                    markdown_text(case.fullname),
                    v.metric,
                    value_text(v, v.baseline),
                    value_text(v, v.contender),
                    change_text(v),
                    interval_text(v),
                    threshold_text(v),
                )
                lines.append(f"| {' | '.join(cells)} |")
    said = said_cases(comparison)
    if said:
        lines += ["", *(f"- {markdown_text(case_line(case))}" for case in said)]
    return "\n".join(lines) + "\n"


def markdown_text(text: str) -> str:
    """Escape what Markdown or HTML would read as more than text."""
    return text.translate(_MARKDOWN)


def as_junit(
    comparison: Comparison, *, allow_missing: bool = False, strict: bool = False
) -> str:
    """Return the cases as tests: what fails the gate is a failure, the rest is not.

    Args:
        comparison: The comparison.
        allow_missing: As in `Comparison.exit_code`.
        strict: As in `Comparison.exit_code`.
    """
    failing = {"regressed", "failed"}
    if not allow_missing and not comparison.cut_short:
        failing |= {"missing", "renamed"}
    unsettled = {"inconclusive", "invalid", "not comparable"}
    failing |= unsettled if strict else set()
    suite = ET.Element("testsuite", name="lakegauge compare")
    failures = skipped = 0
    for case in comparison.cases:
        module, _, name = case.fullname.rpartition("::")
        test = ET.SubElement(suite, "testcase", classname=module, name=name)
        line = case_line(case)
        if case.status in failing:
            failures += 1
            ET.SubElement(test, "failure", message=line, type=case.status)
        elif case.status in {*unsettled, "missing", "renamed", "new"}:
            skipped += 1
            ET.SubElement(test, "skipped", message=line)
        properties = [
            (f"{v.metric}.{key}", value)
            for v in case.metrics
            for key, value in (("verdict", v.status), ("change", change_text(v)))
        ]
        if properties:
            listed = ET.SubElement(test, "properties")
            for key, value in properties:
                ET.SubElement(listed, "property", name=key, value=value)
    counts = {"tests": len(comparison.cases), "failures": failures, "skipped": skipped}
    suite.attrib |= {key: str(value) for key, value in counts.items()}
    suite.set("errors", "0")
    text = ET.tostring(suite, encoding="unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def writers(
    *, allow_missing: bool, strict: bool
) -> Mapping[str, Callable[[Comparison], str]]:
    """Return the form of each file suffix."""
    return {
        ".json": as_json,
        ".csv": as_csv,
        ".md": as_markdown,
        ".xml": lambda c: as_junit(c, allow_missing=allow_missing, strict=strict),
    }


def check_outputs(paths: list[Path]) -> None:
    """Refuse a file whose form its name does not tell, before any work.

    Raises:
        ReportError: If one has another suffix, or its folder is not there.
    """
    known = writers(allow_missing=False, strict=False)
    for path in paths:
        if path.suffix not in known:
            msg = f"--output {path}: the name must end in one of {', '.join(known)}"
            raise ReportError(msg)
        if not path.absolute().parent.is_dir():
            msg = f"--output {path}: there is no folder {path.absolute().parent}"
            raise ReportError(msg)


def write_outputs(
    comparison: Comparison,
    paths: list[Path],
    *,
    allow_missing: bool = False,
    strict: bool = False,
) -> None:
    """Write the comparison to each file, in the form that its suffix names.

    Raises:
        ReportError: If a file cannot be written.
    """
    forms = writers(allow_missing=allow_missing, strict=strict)
    for path in paths:
        try:
            path.write_text(forms[path.suffix](comparison), encoding="utf8")
        except OSError as error:
            msg = f"--output {path} cannot be written: {error.strerror}"
            raise ReportError(msg) from None
