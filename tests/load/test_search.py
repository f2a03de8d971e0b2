"""The search finds the capacity of queues whose capacity is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.clock import NS_PER_S, ManualClock
from harness.errors import ConfigError
from harness.load import constant_arrivals, poisson_arrivals, run_open_loop
from harness.load.search import (
    Finding,
    Objective,
    Verdict,
    find_capacity,
    judge,
    search_rate,
)

BOUNDS = {"start_per_s": 10.0, "min_per_s": 1.0, "max_per_s": 100_000.0}


def finding(held, *, near=False):
    verdict = Verdict.HELD if held else Verdict.VIOLATED
    return Finding(verdict=verdict, reason="planted", near=near)


INVALID = Finding(verdict=Verdict.INVALID, reason="a busy machine")


def queue(service_s, *, arrivals=20_000, seed=1):
    """Return a server with one worker, run at a rate on a manual clock."""
    runs = iter(range(1000))

    def run_at(rate_per_s):
        clock = ManualClock()
        run = next(runs)
        random = np.random.default_rng([seed, run])  # not the arrivals' stream
        duration_s = arrivals / rate_per_s
        return run_open_loop(
            lambda _: clock.advance(service_s(random)),
            poisson_arrivals(rate_per_s=rate_per_s, duration_s=duration_s, seed=run),
            workers=1,
            warmup_s=duration_s / 20,
            drain_s=duration_s,
            clock=clock,
        )

    return run_at


def test_capacity_of_an_m_m_1_queue_is_the_analytic_one():
    """Its response time is exponential: p99 = ln(100) / (mu - lambda)."""
    mu, limit_s = 100.0, 0.2
    found = find_capacity(
        queue(lambda random: random.exponential(1 / mu)),
        Objective(response_time_s=limit_s),
        start_per_s=20,
        tolerance=0.02,
    )
    assert found.complete
    assert found.held_per_s == pytest.approx(mu - math.log(100) / limit_s, rel=0.06)
    assert found.held_per_s < found.violated_per_s <= found.held_per_s * 1.02


def waiting_at_most(wait_s, rate_per_s, service_s):
    """Erlang's distribution function of the wait in M/D/1."""
    total = 0.0
    for k in range(int(wait_s / service_s) + 1):
        x = rate_per_s * (k * service_s - wait_s)
        total += x**k / math.factorial(k) * math.exp(-x)
    return (1 - rate_per_s * service_s) * total


def test_capacity_of_an_m_d_1_queue_is_the_analytic_one():
    """Where 99 % wait no longer than the limit less the service time."""
    service_s, limit_s = 0.010, 0.050
    low, high = 1.0, 99.0
    for _ in range(60):
        middle = (low + high) / 2
        share = waiting_at_most(limit_s - service_s, middle, service_s)
        low, high = (middle, high) if share >= 0.99 else (low, middle)
    found = find_capacity(
        queue(lambda _: service_s),
        Objective(response_time_s=limit_s),
        start_per_s=200,
        tolerance=0.02,
    )
    assert found.held_per_s == pytest.approx(low, rel=0.05)


@pytest.mark.parametrize("knee", [3.7, 10.0, 950.0, 60_000.0])
def test_a_planted_knee_lies_in_the_bracket(knee):
    found = search_rate(lambda rate: finding(rate <= knee), tolerance=0.01, **BOUNDS)
    assert found.complete
    assert found.held_per_s <= knee < found.violated_per_s
    assert found.violated_per_s <= found.held_per_s * 1.01
    assert len(found.probes) < 40


@pytest.mark.parametrize("seed", range(20))
def test_a_disturbance_here_and_there_does_not_move_the_knee(seed):
    """One probe in ten is spoilt wherever it is; a lone bad run is outvoted."""
    random = np.random.default_rng(seed)
    found = search_rate(
        lambda rate: finding(rate <= 950 and random.random() > 0.1),
        probes_max=100,
        **BOUNDS,
    )
    assert found.held_per_s == pytest.approx(950, rel=0.06)


def test_chance_near_the_limit_is_put_to_a_vote():
    """Within a tenth of the knee a probe is a coin that leans the right way."""
    errors = []
    for seed in range(40):
        random = np.random.default_rng(seed)

        def probe(rate, random=random):
            lean = 1 / (1 + math.exp((rate - 1000) / 20))
            return finding(random.random() < lean, near=abs(rate - 1000) < 100)

        found = search_rate(probe, tolerance=0.02, probes_max=100, **BOUNDS)
        errors.append(found.held_per_s / 1000 - 1)
    assert np.abs(errors).max() < 0.08
    assert abs(np.mean(errors)) < 0.02


def test_a_rate_that_clearly_held_is_run_once_and_one_that_did_not_twice():
    found = search_rate(lambda rate: finding(rate <= 35), **BOUNDS, tolerance=0.5)
    rates = [probe.rate_per_s for probe in found.probes]
    assert rates[:4] == [10, 20, 40, 40]


def test_an_invalid_probe_is_repeated_once():
    seen = []

    def probe(rate):
        seen.append(rate)
        return INVALID if len(seen) == 3 else finding(rate <= 950)

    found = search_rate(probe, **BOUNDS)
    assert seen[2] == seen[3]
    assert found.complete
    assert found.held_per_s == pytest.approx(950, rel=0.06)
    assert found.to_json()[2]["verdict"] == "invalid"


def test_two_invalid_probes_end_the_search_with_the_reason():
    found = search_rate(
        lambda rate: INVALID if rate >= 80 else finding(held=True), **BOUNDS
    )
    assert not found.complete
    assert found.held_per_s == 40
    assert found.violated_per_s is None
    assert found.ended == "invalid twice at 80/s: a busy machine"
    assert [probe.rate_per_s for probe in found.probes] == [10, 20, 40, 80, 80]
    assert "40/s held (5 probes; invalid twice at 80/s" in found.describe()


def test_a_search_that_finds_no_bound_says_so():
    found = search_rate(lambda _: finding(held=True), **BOUNDS)
    assert found.held_per_s == 100_000
    assert "the highest rate to try, held" in found.ended
    found = search_rate(lambda _: finding(held=False), **BOUNDS)
    assert found.held_per_s is None
    assert found.describe().startswith("no rate held, 1/s did not hold")


def test_the_number_of_probes_is_bounded():
    found = search_rate(lambda rate: finding(rate < 50), probes_max=5, **BOUNDS)
    assert len(found.probes) == 5
    assert not found.complete
    assert "5 probes were made" in found.ended


@pytest.mark.parametrize(
    "changes",
    [
        {"start_per_s": 0.5},
        {"start_per_s": 200_000.0},
        {"min_per_s": 0.0},
        {"max_per_s": math.inf},
        {"tolerance": 0.0},
        {"probes_max": 0},
    ],
)
def test_an_impossible_search_is_refused(changes):
    with pytest.raises(ConfigError):
        search_rate(lambda _: finding(held=True), **{**BOUNDS, **changes})


def steady_run(*, failing=0, raw_budget=10_000, duration_s=25):
    clock = ManualClock()
    runs = iter(range(100_000))

    def operation(_context):
        clock.advance(0.001)
        if next(runs) < failing:
            raise ValueError

    return run_open_loop(
        operation,
        constant_arrivals(rate_per_s=100, duration_s=duration_s),
        workers=1,
        clock=clock,
        raw_budget=raw_budget,
    )


@pytest.mark.parametrize("raw_budget", [10_000, 100])
def test_a_run_is_judged_by_its_quantile_whichever_way_it_was_kept(raw_budget):
    run = steady_run(raw_budget=raw_budget)
    held = judge(run, Objective(response_time_s=0.0011))
    assert (held.verdict, held.near) == (Verdict.HELD, False)
    assert held.value_ms == pytest.approx(1.0, rel=0.004)
    violated = judge(run, Objective(response_time_s=0.0009))
    assert (violated.verdict, violated.near) == (Verdict.VIOLATED, False)
    assert "p99 1 ms > 0.9 ms" in violated.reason


def test_errors_and_lost_arrivals_do_not_hold():
    objective = Objective(response_time_s=0.5, errors_share=0.001)
    assert judge(steady_run(failing=2), objective).verdict is Verdict.HELD
    failed = judge(steady_run(failing=4), objective)
    assert (failed.verdict, failed.reason) == (
        Verdict.VIOLATED,
        "4 of 2500 operations failed",
    )
    for lost in ({"dropped": 1}, {"unfinished": 1}):
        found = judge(replace(steady_run(), **lost), objective)
        assert found.verdict is Verdict.VIOLATED
        assert "1 of 2501 arrivals dropped or unfinished" in found.reason


def test_what_is_no_result_is_invalid_with_the_next_step():
    objective = Objective(response_time_s=0.5)
    few = judge(steady_run(duration_s=3), objective)
    assert few.verdict is Verdict.INVALID
    assert "300 operations are too few for p99, which needs 368; run longer" in (
        few.reason
    )
    short = judge(steady_run(duration_s=5), objective)
    assert short.verdict is Verdict.INVALID
    assert "run 10 s or longer" in short.reason
    busy = judge(replace(steady_run(), generator_cpu_ns_max=25 * NS_PER_S), objective)
    assert busy.verdict is Verdict.INVALID
    assert "load generator" in busy.reason
    assert judge(replace(steady_run(), interrupted=True), objective).verdict is (
        Verdict.INVALID
    )


@pytest.mark.parametrize(
    "changes",
    [{"response_time_s": 0.0}, {"quantile": "p42"}, {"errors_share": 1.5}],
)
def test_an_impossible_objective_is_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        Objective(**{"response_time_s": 0.02, **changes})


def test_an_objective_says_what_it_asks():
    assert Objective(response_time_s=0.02).describe() == (
        "p99 of the response time <= 20 ms, errors <= 0.001 of the operations, "
        "none dropped"
    )
