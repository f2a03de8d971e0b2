"""What does measuring a stream cost it? CPU per million rows, with and without."""

from __future__ import annotations

import math
import statistics

import pytest

from harness.reports.statistics.ratios import paired_evidence
from harness.spark.overhead import overhead_elsewhere

OVERHEAD_SHARE_MAX = 0.05
A_A_SHARE_MAX = 0.10
CONFIDENCE = 0.95

pytestmark = [pytest.mark.usefixtures("spark"), pytest.mark.needs("cpu")]


@pytest.mark.benchmark(group="stream-overhead")
def test_measuring_costs_next_to_nothing(sized, record_durations):
    """At most 5 % CPU per million rows; two runs of the same are within 10 %.

    The values are those of the bare runs. Where an interval holds the limit, the
    machine was too noisy to tell: that is no result, neither pass nor fail.
    """
    run = overhead_elsewhere(
        rows_count=sized(full=1_000_000, smoke=20_000),
        quads_count=sized(full=14, smoke=1),
        warmup_count=sized(full=10, smoke=1),
    )

    bares = [value for first, _, _, last in run.quads for value in (first, last)]
    details = {
        "rows_count": run.rows_count,
        "warmup_cpu_s_per_million_rows": [round(value, 3) for value in run.warmup],
        "cpu_s_per_million_rows": [[round(v, 3) for v in quad] for quad in run.quads],
        "bare_spread_share": round(
            statistics.pstdev(bares) / statistics.fmean(bares), 4
        ),
    }
    doubts, failures = [], []
    if len(run.quads) > 1:
        overhead = share_between(
            [(first + last) / 2 for first, _, _, last in run.quads],
            [(first + last) / 2 for _, first, last, _ in run.quads],
        )
        a_a = share_between(
            [first for first, _, _, _ in run.quads], [last for *_, last in run.quads]
        )
        details |= {
            "overhead_share": rounded(overhead),
            "a_a_difference_share": rounded(a_a),
        }
        low, _, high = overhead
        judge("overhead", low, high, OVERHEAD_SHARE_MAX, doubts, failures)
        # How far apart two runs of the same are, whichever is the larger.
        low, _, high = a_a
        nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        farthest = max(abs(low), abs(high))
        judge("A/A spread", nearest, farthest, A_A_SHARE_MAX, doubts, failures)
    record_durations(
        bares,
        measure="cpu_per_million_rows",
        wall_s=run.wall_s,
        completed=run.rows_count * len(bares),
        details=details,
        invalid="; ".join([*doubts, str(details)]) if doubts else None,
    )
    assert not failures, f"{'; '.join(failures)}: {details}"


def share_between(baseline, contender):
    """Return how much more the contender is: low, estimate, high, each a share."""
    evidence = paired_evidence(baseline, contender)
    low, high = evidence.interval(CONFIDENCE)
    return tuple(math.expm1(v) for v in (low, evidence.estimate, high))


def judge(what, low, high, limit, doubts, failures):
    said = f"{what} is {low:.1%} to {high:.1%}, the limit {limit:.0%}"
    if low > limit:
        failures.append(said)
    elif high > limit:
        doubts.append(f"inconclusive: {said}")


def rounded(shares):
    names = ("low", "estimate", "high")
    return {name: round(v, 4) for name, v in zip(names, shares, strict=True)}
