"""The verdict on sides whose truth is known."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from harness.errors import ReportError
from harness.reports.verdict.judge import compare_runs
from harness.reports.verdict.reading import read_run
from harness.reports.verdict.thresholds import parse_thresholds

NAMES = [f"test_{i:03d}" for i in range(100)]
LATER = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def judged(make_side):
    """Return a function: two sides with something planted in the contender's."""

    def judge(names, *, runs=8, planted=None, rules=(), seed=0, **about):
        sides = []
        for name, plant in (("old", None), ("new", planted)):
            side = make_side(f"{name}{seed}", seed=seed + len(sides) * 1000)
            # Alternating runs: no drift to be told from a change.
            side.now = datetime(2026, 1, 1, 0, len(sides), tzinfo=UTC)
            sides.append(
                [
                    read_run(side.noisy(names, planted=plant, **about))
                    for _ in range(runs)
                ]
            )
        return compare_runs(*sides, rules=rules)

    return judge


def statuses(comparison):
    return {case.name: case.status for case in comparison.cases}


def test_one_slower_case_of_a_hundred_is_found_and_no_other_is_accused(judged):
    comparison = judged(NAMES, planted={"test_042": {"*": 1.15}})
    regressed = [c.name for c in comparison.with_status("regressed")]
    assert regressed == ["test_042"]
    verdict = comparison.cases[0].metrics[0]
    assert verdict.interval[0] <= 1.15 <= verdict.interval[1]
    assert verdict.interval[0] > 1.02
    assert comparison.exit_code() == 1


def test_identical_code_is_not_accused_at_any_noise(judged):
    """300 cases of A against A at 1 %, 5 % and 15 % noise, six runs a side."""
    for seed, noise in enumerate((0.01, 0.05, 0.15)):
        comparison = judged(NAMES, runs=6, noise=noise, seed=seed * 7 + 1)
        assert comparison.with_status("regressed", "improved") == []
        assert comparison.exit_code() == 0


@pytest.mark.parametrize(
    ("planted", "metric"),
    [
        ({"p99": 1.5}, "p99"),
        ({"throughput": 0.8}, "throughput"),
        ({"errors": 40}, "errors"),
    ],
    ids=["tail only", "throughput only", "errors only"],
)
def test_a_change_in_one_metric_alone_is_found_in_that_metric(judged, planted, metric):
    comparison = judged(NAMES[:5], kind="series", planted={"test_003": planted})
    assert statuses(comparison)["test_003"] == "regressed"
    verdicts = {v.metric: v.status for v in comparison.cases[0].metrics}
    changed = [key for key, status in verdicts.items() if status == "regressed"]
    assert changed == [metric]
    others = [s for name, s in statuses(comparison).items() if name != "test_003"]
    assert "regressed" not in others


def test_less_time_is_improved_and_more_throughput_too(judged):
    comparison = judged(NAMES[:3], planted={"test_001": {"*": 0.8}})
    assert statuses(comparison)["test_001"] == "improved"
    assert comparison.exit_code() == 0
    faster = judged(
        NAMES[:3], kind="series", planted={"test_001": {"throughput": 1.3}}, seed=5
    )
    case = next(c for c in faster.cases if c.name == "test_001")
    assert {v.metric: v.status for v in case.metrics}["throughput"] == "improved"


def test_calm_runs_of_the_same_code_are_equivalent(judged):
    comparison = judged(NAMES[:4], runs=10, noise=0.005)
    assert set(statuses(comparison).values()) == {"equivalent"}


def test_a_step_inside_the_noise_is_inconclusive_and_says_what_would_settle_it(judged):
    comparison = judged(NAMES[:2], noise=0.1, planted={"test_000": {"*": 1.05}})
    case = next(c for c in comparison.cases if c.name == "test_000")
    assert case.status == "inconclusive"
    verdict = case.metrics[0]
    assert 0.05 < verdict.detectable < 0.5
    assert verdict.runs_more is None or verdict.runs_more > 0
    assert "would have seen" in verdict.reason
    assert comparison.exit_code() == 0
    assert comparison.exit_code(strict=True) == 3


def test_one_run_a_side_gates_nothing_small(judged):
    comparison = judged(NAMES[:3], runs=1, planted={"test_001": {"*": 3.0}})
    assert set(statuses(comparison).values()) == {"inconclusive"}
    assert comparison.exit_code() == 0
    assert "One run a side" in comparison.notes[0]


def test_one_run_a_side_gates_a_tenfold_change_and_errors(judged):
    tenfold = judged(NAMES[:3], runs=1, planted={"test_001": {"*": 12.0}})
    assert statuses(tenfold)["test_001"] == "regressed"
    errors = judged(
        NAMES[:3], runs=1, kind="series", planted={"test_001": {"errors": 30}}, seed=3
    )
    assert statuses(errors)["test_001"] == "regressed"
    assert tenfold.exit_code() == errors.exit_code() == 1


def test_a_tenfold_tail_of_one_run_is_no_verdict(judged):
    planted = {"test_001": {"p99": 20.0, "max": 30.0, "p95": 15.0}}
    comparison = judged(NAMES[:3], runs=1, planted=planted)
    assert comparison.exit_code() == 0


def test_a_few_more_failures_than_before_are_not_an_alarm(judged):
    comparison = judged(
        NAMES[:2], kind="series", planted={"test_001": {"errors": 1}}, runs=1
    )
    assert comparison.exit_code() == 0


def test_failures_in_one_run_of_many_are_not_more_failures_everywhere(make_side):
    """A server that restarted once: 60 failures, all in one run of eight."""
    sides = {}
    for side_name in ("old", "new"):
        side = make_side(side_name)
        sides[side_name] = [
            side.noisy(
                NAMES[:1],
                kind="series",
                planted={
                    "test_000": {"errors": 60 if (side_name, i) == ("new", 3) else 0}
                },
            )
            for i in range(8)
        ]
    comparison = compare_runs(
        *([read_run(path) for path in paths] for paths in sides.values())
    )
    errors = {v.metric: v for v in comparison.cases[0].metrics}["errors"]
    assert errors.status == "inconclusive"
    assert "not surely" in errors.reason


def test_a_threshold_of_the_case_or_of_the_setting_decides_what_matters(judged):
    planted = {"test_001": {"*": 1.10}}
    assert judged(NAMES[:2], noise=0.01, planted=planted).exit_code() == 1
    rules = parse_thresholds(
        "test_001:min=30%,test_001:p50=30%,p99=30%,throughput=30%", source="x"
    )
    comparison = judged(NAMES[:2], noise=0.01, planted=planted, rules=rules)
    assert comparison.exit_code() == 0
    case = next(c for c in comparison.cases if c.name == "test_001")
    assert [v.threshold for v in case.metrics] == [0.3, 0.3, 0.3, 0.3, 0.0]
    assert case.status == "equivalent"


def test_sides_that_ran_one_after_the_other_say_so_and_are_judged_more_carefully(
    make_side,
):
    old, new = make_side("old", seed=1), make_side("new", seed=2, start=LATER)
    sides = [[read_run(side.noisy(NAMES[:3])) for _ in range(8)] for side in (old, new)]
    comparison = compare_runs(*sides)
    assert any("drift" in note for note in comparison.notes)


def pair_of(index, side, *, first=True):
    return {
        "pair": {
            "experiment": "e1",
            "index": index,
            "side": side,
            "first": first,
            "variant": "main",
        }
    }


def test_runs_made_in_pairs_are_compared_in_pairs(make_side):
    """A machine whose speed halves half-way hides 5 % from anyone but a pair."""
    old, new = make_side("a"), make_side("b")
    runs = {"A": [], "B": []}
    for index in range(10):
        speed = 1.0 if index < 5 else 2.0
        for side, name, factor in ((old, "A", 1.0), (new, "B", 1.05)):
            planted = {"test_000": {"*": speed * factor}}
            path = side.noisy(
                NAMES[:1], noise=0.005, planted=planted, **pair_of(index, name)
            )
            runs[name].append(read_run(path))
    paired = compare_runs(runs["A"], runs["B"])
    assert paired.paired
    assert paired.cases[0].status == "regressed"
    assert paired.cases[0].metrics[0].ratio == pytest.approx(1.05, abs=0.01)
    lost = compare_runs(runs["A"], runs["B"][:9])
    assert any("no partner" in note for note in lost.notes)


def test_figures_of_a_machine_in_no_state_to_measure_are_no_verdict(make_side):
    busy = {"environment": {"doubts": ["other processes used 90 % of the machine"]}}
    old, new = make_side("old", seed=1), make_side("new", seed=2)
    sides = [
        [read_run(old.noisy(NAMES[:2])) for _ in range(8)],
        [
            read_run(
                new.noisy(
                    NAMES[:2],
                    planted={"test_000": {"*": 1.5}},
                    **(busy if i < 3 else {}),
                )
            )
            for i in range(8)
        ],
    ]
    comparison = compare_runs(*sides)
    assert set(statuses(comparison).values()) == {"inconclusive"}
    assert (
        "would be regressed, but 3 of 8 runs" in comparison.cases[0].metrics[0].reason
    )


@pytest.mark.parametrize(
    "copy_of", ["same file", "a copy under another name"], ids=["file", "copy"]
)
def test_one_run_counted_twice_is_refused(make_side, copy_of):
    side = make_side("old")
    paths = [side.noisy(NAMES[:2]) for _ in range(3)]
    twin = paths[0]
    if copy_of != "same file":
        twin = paths[0].with_name("0099_y.json")
        twin.write_text(json.dumps(json.loads(paths[0].read_text()), indent=4))
    runs = [read_run(path) for path in (*paths, twin)]
    with pytest.raises(ReportError, match="the same run as"):
        compare_runs(runs[:2], runs[2:])


def test_reports_of_plain_pytest_benchmark_are_judged_among_themselves(make_side):
    sides = []
    for seed, factor in ((1, 1.0), (2, 1.3)):
        side = make_side(f"s{seed}", seed=seed)
        runs = []
        for _ in range(8):
            path = side.noisy(NAMES[:2], planted={"test_000": {"*": factor}})
            document = json.loads(path.read_text())
            del document["lakegauge"]
            for record in document["benchmarks"]:
                record["extra_info"] = {}
                record["stats"] = {
                    k: v for k, v in record["stats"].items() if k[0] != "p"
                }
            document["machine_info"] = {
                "system": "Linux",
                "machine": "x86_64",
                "python_version": "3.11.7",
                "cpu": {"brand_raw": "A", "count": 2, "hz_actual": [side.now.minute]},
            }
            path.write_text(json.dumps(document))
            runs.append(read_run(path))
        sides.append(runs)
    comparison = compare_runs(*sides)
    assert statuses(comparison)["test_000"] == "regressed"
    assert any("Not written by lakegauge" in note for note in comparison.notes)
