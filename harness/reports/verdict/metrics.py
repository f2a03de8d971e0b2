"""What is compared of a case: one number per metric and run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.reports.record import case_block_of

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One compared key of `stats`.

    Attributes:
        threshold: Relative change that matters unless a case or a setting says
            otherwise; for errors a share of operations.
        higher_is_better: Whether more of it is good.
        tail: Whether it hangs on a few operations, so that a single run may be
            off tenfold without any cause in the code.
    """

    threshold: float
    higher_is_better: bool = False
    tail: bool = False


ERRORS = "errors"
# 1,000 %: a threshold beyond is a mistake.
THRESHOLD_MAX = 10.0
_VALUE_MIN, _VALUE_MAX = 1e-15, 1e15

METRICS = MappingProxyType(
    {
        "min": Metric(threshold=0.02),
        "p50": Metric(threshold=0.02),
        "p95": Metric(threshold=0.05, tail=True),
        "p99": Metric(threshold=0.05, tail=True),
        "throughput": Metric(threshold=0.02, higher_is_better=True),
        ERRORS: Metric(threshold=0.0),
    }
)

# The first one decides where none regressed. Other tenants of the machine only ever
# add time to a function that computes, so its fastest round says most; what a service
# does between its operations is part of the service, so there it is the median.
_LOAD = ("p50", "p95", "p99", "throughput", ERRORS)
GATED = MappingProxyType(
    {
        "micro": ("min", "p50", "p99", "throughput", ERRORS),
        "closed_loop": _LOAD,
        "open_loop": _LOAD,
        "series": _LOAD,
        "plain": ("min", "p50", "throughput"),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseRun:
    """One case as one run measured it.

    Attributes:
        fullname: Its node id.
        name: The name of the test.
        group: Its benchmark group.
        kind: See `CaseVerdict.kind`.
        measure: What the values are.
        facts: What was measured.
        values: Metric -> value, each finite and above 0.
        failed: Operations that failed.
        operations: Operations that were asked for.
        thresholds: Metric -> threshold that the case asks for itself.
        problem: Why its values cannot be used; "" if they can.
    """

    fullname: str
    name: str
    group: str
    kind: str
    measure: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    failed: int = 0
    operations: int = 0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""


def case_run_of(record: dict[str, Any]) -> CaseRun:
    """Read one record of a report that `load_report` has checked."""
    block = case_block_of(record)
    stats = record["stats"]
    kind = "plain" if block is None else block.kind
    problem = _problem(stats)
    values = {}
    if not problem:
        wanted = {key: stats.get(key) for key in GATED[kind] if key != ERRORS}
        if block is None:
            wanted |= {"p50": stats["median"], "throughput": stats.get("ops")}
        values = {key: float(v) for key, v in wanted.items() if v is not None}
        problem = next(filter(None, map(_out_of_range, values, values.values())), "")
    thresholds = dict(block.thresholds) if block else {}
    if not problem:
        problem = next(
            (
                f"threshold {k} is {v:g}, not from 0 to {THRESHOLD_MAX:g}"
                for k, v in thresholds.items()
                if not 0 <= v <= THRESHOLD_MAX
            ),
            "",
        )
    failed = 0 if problem else int(stats.get(ERRORS) or 0)
    accounting = block.accounting if block else None
    operations = accounting.scheduled if accounting else int(stats["rounds"]) + failed
    if not problem and not 0 <= failed <= operations:
        problem = f"{failed} of {operations} operations failed"
    return CaseRun(
        fullname=record["fullname"],
        name=record["name"],
        group=record.get("group") or "",
        kind=kind,
        measure=block.measure if block else "round_time",
        facts=dict(block.facts) if block else {},
        values={} if problem else values,
        failed=failed,
        operations=operations,
        thresholds={} if problem else thresholds,
        problem=problem,
    )


def _out_of_range(key: str, value: float) -> str:
    if value <= 0:
        return f"{key} is {value:g}, not above 0"
    if not _VALUE_MIN <= value <= _VALUE_MAX:
        return f"{key} is {value:g}, which no clock and no counter gives"
    return ""


def _problem(stats: dict[str, Any]) -> str:
    """Return which compared figure is no number, or nothing."""
    for key in (*METRICS, "median", "ops"):
        value = stats.get(key)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and math.isfinite(value)):
            return f"{key} is {value!r:.40}, not a number"
    return ""
