"""Baseline beside contender, case by case, with a reason wherever they cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.reports.record import case_block_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Keys of `stats` that are compared, and whether more of it is better.
COMPARED = {
    "p50": False,
    "p95": False,
    "p99": False,
    "throughput": True,
    "errors": False,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseComparison:
    """One case in both runs.

    Attributes:
        fullname: The node id, which cases are matched by.
        status: "compared", "new" (only in the contender), "missing" (only in the
            baseline), "failed" or "not comparable".
        reasons: Why it is not comparable: the facts that differ.
        baseline: The baseline's record, where there is one.
        contender: The contender's record, where there is one.
    """

    fullname: str
    status: str
    reasons: tuple[str, ...] = ()
    baseline: dict[str, Any] | None = None
    contender: dict[str, Any] | None = None

    def change(self, key: str) -> float | None:
        """Return contender / baseline - 1 of a compared key; None if not to be had."""
        if self.status != "compared" or not self.baseline or not self.contender:
            return None
        old, new = self.baseline["stats"].get(key), self.contender["stats"].get(key)
        if old is None or new is None or old <= 0:
            return None
        return float(new / old - 1)


def compare_records(
    baseline: Mapping[str, dict[str, Any]],
    contender: Mapping[str, dict[str, Any]],
    *,
    failed: Mapping[str, str],
    expected: Iterable[str],
    unusable: Mapping[str, str] = MappingProxyType({}),
) -> list[CaseComparison]:
    """Match the records of two runs by node id; nothing is passed over silently.

    Args:
        baseline: Records of the baseline by node id.
        contender: Records of this run by node id.
        failed: Cases of this run that did not pass, with their outcome.
        expected: Cases of the baseline that this run should have had; those it was
            not asked to run are not missing.
        unusable: Cases of the baseline whose figures are none, and why.
    """
    found: list[CaseComparison] = []
    for fullname, record in contender.items():
        old = baseline.get(fullname)
        if old is None:
            found.append(
                CaseComparison(fullname=fullname, status="new", contender=record)
            )
            continue
        reasons = differing_facts(old, record)
        if fullname in unusable:
            reasons += (f"baseline: {unusable[fullname]}",)
        found.append(
            CaseComparison(
                fullname=fullname,
                status="not comparable" if reasons else "compared",
                reasons=reasons,
                baseline=old,
                contender=record,
            )
        )
    found += [
        CaseComparison(fullname=fullname, status="failed", reasons=(outcome,))
        for fullname, outcome in failed.items()
    ]
    done = contender.keys() | failed.keys()
    found += [
        CaseComparison(fullname=name, status="missing", baseline=baseline[name])
        for name in expected
        if name not in done and name in baseline
    ]
    return found


def differing_facts(
    baseline: dict[str, Any], contender: dict[str, Any]
) -> tuple[str, ...]:
    """Name each fact that differs: such records are of different experiments."""
    old, new = case_block_of(baseline), case_block_of(contender)
    if old is None or new is None:
        return ("a side was not written by lakegauge",)
    reasons = []
    if old.measure != new.measure:
        reasons.append(f"measure: saved {old.measure!r}, now {new.measure!r}")
    for key in sorted(old.facts.keys() | new.facts.keys()):
        was, now = old.facts.get(key), new.facts.get(key)
        if was != now:
            reasons.append(f"{key}: saved {was!r}, now {now!r}")
    return tuple(reasons)
