"""The result table: units people read, the baseline beside the run."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from harness.load import QUANTILES, samples_needed
from harness.reports.columns import Column, Row, styled, terminal_width, text_table
from harness.reports.compare import COMPARED, CaseComparison
from harness.reports.journal import INVALID
from harness.reports.record import case_block_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN_QUANTILES = ("p50", "p95", "p99")
# A correction by less than this factor is within what two runs differ.
CORRECTED_SHOWN = 1.5
# Narrower, and a table of eight columns breaks its words.
_WIDTH_MIN, _WIDTH_MAX = 124, 150
_COLUMNS = (
    Column("case", fold_min=32),
    Column(""),
    *(
        Column(heading, right=True)
        for heading in (*_SHOWN_QUANTILES, "throughput", "errors", "n")
    ),
)


def format_duration(seconds: float) -> str:
    """Return a duration with three significant digits: "2.71 us", "12.4 ms"."""
    for limit, scale, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "us"), (1, 1e3, "ms")):
        if abs(seconds) < limit:
            return f"{_three_digits(seconds * scale)} {unit}"
    return f"{_three_digits(seconds)} s"


def format_rate(per_s: float) -> str:
    """Return a rate with three significant digits: "14.2 k/s"."""
    for limit, scale, unit in ((1e3, 1.0, ""), (1e6, 1e-3, " k"), (1e9, 1e-6, " M")):
        if per_s < limit:
            return f"{_three_digits(per_s * scale)}{unit}/s"
    return f"{_three_digits(per_s * 1e-9)} G/s"


def format_change(ratio: float | None) -> str:
    """Return a relative change in percent: "+2.3 %"."""
    if ratio is None:
        return "-"
    return f"{ratio * 100:+.1f} %"


def _three_digits(value: float) -> str:
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.3g}"  # noqa: PLR2004


def render(
    comparisons: Sequence[CaseComparison], *, baseline_label: str | None, color: bool
) -> str:
    """Return the tables of all groups, then what needs saying about them.

    Args:
        comparisons: Every case of this run, and those missing from it.
        baseline_label: Short name of the baseline, or None without one.
        color: Whether the terminal shows colours.
    """
    width = terminal_width(least=_WIDTH_MIN, most=_WIDTH_MAX)
    groups: defaultdict[str, list[CaseComparison]] = defaultdict(list)
    for comparison in comparisons:
        if comparison.contender is not None:
            groups[comparison.contender.get("group") or "ungrouped"].append(comparison)
    parts = []
    for group in sorted(groups):
        found = sorted(groups[group], key=lambda c: c.fullname)
        parts += [
            styled(_title(group, found[0]), "bold", color=color) + "\n",
            text_table(
                _COLUMNS, _rows(found, baseline_label), width=width, color=color
            ),
            *(styled(line, "dim", color=color) + "\n" for line in _detail_lines(found)),
            "\n",
        ]
    found_notes = notes(comparisons, baseline_label=baseline_label)
    return "".join([*parts, *(f"{line}\n" for line in found_notes)])


def _title(group: str, comparison: CaseComparison) -> str:
    first = comparison.contender
    block = case_block_of(first) if first else None
    measure = (block.measure if block else "round_time").replace("_", " ")
    return f"{group}: {measure}"


def _rows(comparisons: list[CaseComparison], baseline_label: str | None) -> list[Row]:
    rows = []
    for comparison in comparisons:
        assert comparison.contender is not None  # noqa: S101  # grouped by contender
        name = comparison.contender["name"].removeprefix("test_")
        rows.append(Row((name, "now", *_cells(comparison.contender))))
        if comparison.status == "compared" and comparison.baseline is not None:
            label = baseline_label or "baseline"
            rows.append(Row(("", label, *_cells(comparison.baseline))))
            rows.append(Row(("", "change", *_changes(comparison)), style="bold"))
        elif baseline_label is not None:
            rows.append(Row(("", comparison.status), style="italic"))
    return rows


def _cells(record: dict[str, Any]) -> list[str]:
    stats = record["stats"]
    cells = []
    for key in _SHOWN_QUANTILES:
        value = stats.get(key)
        if value is None:
            cells.append(f"n<{samples_needed(QUANTILES[key])}")
        else:
            cells.append(format_duration(value))
    throughput = stats.get("throughput")
    block = case_block_of(record)
    # One caller's throughput is 1 / mean: it says nothing that p50 does not, and a
    # single pause of the machine swings it.
    of_one_caller = block is not None and block.kind == "micro"
    hidden = throughput is None or of_one_caller
    cells.append("-" if hidden else format_rate(throughput))
    cells.append(str(stats.get("errors", "-")))
    cells.append(str(block.values_count if block else stats["rounds"]))
    return cells


def _detail_lines(comparisons: Sequence[CaseComparison]) -> list[str]:
    """Return the further figures of each case, such as rows per second."""
    lines = []
    for comparison in sorted(comparisons, key=lambda c: c.fullname):
        record = comparison.contender
        block = case_block_of(record) if record is not None else None
        if record is not None and block is not None and block.details:
            # What has parts of its own is for the saved report, not for one line.
            shown = ", ".join(
                f"{key}={_plain(value)}"
                for key, value in block.details.items()
                if not isinstance(value, dict | list)
            )
            if shown:
                lines.append(f"{record['name'].removeprefix('test_')}: {shown}")
        if record is not None and block is not None and block.corrected_ms:
            lines += _corrected_lines(record, block.corrected_ms)
    return lines


def _corrected_lines(
    record: dict[str, Any], corrected_ms: dict[str, dict[str, float]]
) -> list[str]:
    """Show the quantile of a closed loop that its correction changes most."""
    key = max(
        corrected_ms,
        key=lambda name: (
            corrected_ms[name]["corrected"]
            / max(corrected_ms[name]["uncorrected"], 1e-6)
        ),
    )
    found = {name: value / 1000 for name, value in corrected_ms[key].items()}
    if found["corrected"] < CORRECTED_SHOWN * found["uncorrected"]:
        return []
    name = record["name"].removeprefix("test_")
    measured, corrected = (format_duration(value) for value in found.values())
    line = (
        f"{name}: {key} {measured} as measured, {corrected} corrected for coordinated "
        "omission (a guess: an open loop would measure it)"
    )
    return [line]


def _plain(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _changes(comparison: CaseComparison) -> list[str]:
    cells = [format_change(comparison.change(key)) for key in COMPARED]
    old, new = comparison.baseline, comparison.contender
    block = case_block_of(new) if new is not None else None
    if block is not None and block.kind == "micro":
        cells[list(COMPARED).index("throughput")] = "-"
    if old is not None and new is not None:
        difference = (new["stats"].get("errors") or 0) - (
            old["stats"].get("errors") or 0
        )
        cells[-1] = f"{difference:+d}" if difference else "0"
    return cells


def notes(
    comparisons: Sequence[CaseComparison], *, baseline_label: str | None
) -> list[str]:
    """Return what the numbers alone would hide, a sentence each."""
    lines = []
    for comparison in sorted(comparisons, key=lambda c: c.fullname):
        name, reasons = comparison.fullname, "; ".join(comparison.reasons)
        if comparison.status == "failed":
            what = "INVALID" if reasons.startswith(INVALID) else "FAILED"
            reasons = reasons.removeprefix(INVALID)
            lines.append(f"{what}, not recorded: {name} ({reasons})")
        elif comparison.status == "missing":
            lines.append(
                f"MISSING: {name} is in baseline {baseline_label}, not in this run"
            )
        elif comparison.status == "not comparable":
            lines.append(f"NOT COMPARABLE with {baseline_label}: {name} ({reasons})")
        elif comparison.status == "new" and baseline_label is not None:
            lines.append(f"NEW: {name} is not in baseline {baseline_label}")
    lines += _doubt_lines(comparisons)
    if baseline_label is not None and any(c.status == "compared" for c in comparisons):
        lines.append(
            "One run a side: changes of a few percent are noise on most machines. "
            "Run again before you believe one."
        )
    return lines


def _doubt_lines(comparisons: Sequence[CaseComparison]) -> list[str]:
    cases: defaultdict[str, list[str]] = defaultdict(list)
    for comparison in sorted(comparisons, key=lambda c: c.fullname):
        record = comparison.contender
        block = case_block_of(record) if record is not None else None
        if record is not None and block is not None:
            for doubt in block.doubts:
                cases[doubt].append(record["name"].removeprefix("test_"))
    return [f"DOUBT: {doubt}: {', '.join(names)}" for doubt, names in cases.items()]
