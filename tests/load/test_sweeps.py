"""A sweep runs every point as often as asked, in an order that drift cannot bend."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.errors import ConfigError
from harness.load.sweeps import (
    blocked_order,
    combinations,
    doubling,
    medians,
    run_sweep,
)
from harness.load.usl import fit_scalability

POINTS = combinations(threads=doubling(1, 64))


def test_counts_double_up_to_the_last():
    assert doubling(1, 64) == [1, 2, 4, 8, 16, 32, 64]
    assert doubling(4, 50) == [4, 8, 16, 32, 50]
    assert doubling(3, 3) == [3]
    for wrong in ((0, 4), (5, 4)):
        with pytest.raises(ConfigError):
            doubling(*wrong)


def test_every_combination_is_a_point():
    points = combinations(pool_size=[4, 8], threads=[1, 16, 64])
    assert len(points) == 6
    assert {"pool_size": 8, "threads": 16} in points
    for wrong in ([], [4, 4]):
        with pytest.raises(ConfigError, match="pool_size"):
            combinations(pool_size=wrong)


def test_each_block_has_each_point_once_in_an_order_of_its_own():
    order = blocked_order(POINTS, repeats=5, seed=3)
    blocks = [[p["threads"] for b, p in order if b == block] for block in range(5)]
    assert [block for block, _ in order] == sorted(block for block, _ in order)
    assert all(sorted(block) == doubling(1, 64) for block in blocks)
    assert len({tuple(block) for block in blocks}) == 5
    assert order == blocked_order(POINTS, repeats=5, seed=3)
    assert order != blocked_order(POINTS, repeats=5, seed=4)
    for wrong in ({"points": []}, {"repeats": 0}):
        with pytest.raises(ConfigError):
            blocked_order(**{"points": POINTS, "repeats": 1, "seed": 1, **wrong})


def test_a_machine_that_slows_down_slows_no_point_in_particular():
    """1 % slower a run: in the order written the last point would lose a tenth.

    Over many seeds what two points differ by is chance, not their place.
    """
    bias = []
    for seed in range(60):
        done = iter(range(1000))
        runs = run_sweep(
            lambda threads: 1000 * 0.99 ** next(done),  # noqa: B023, ARG005
            combinations(threads=list(range(10))),
            repeats=5,
            seed=seed,
        )
        found = medians(runs, by="threads", of=float)
        bias.append(found[9] / found[0] - 1)
    assert abs(sum(bias) / len(bias)) < 0.02


def test_every_point_is_run_as_often_as_asked_with_its_values():
    runs = run_sweep(
        lambda pool_size, threads: (pool_size, threads),
        combinations(pool_size=[4, 8], threads=[1, 2]),
        repeats=3,
    )
    assert Counter(run.outcome for run in runs) == dict.fromkeys(
        [(4, 1), (4, 2), (8, 1), (8, 2)], 3
    )
    assert all(run.outcome == tuple(run.point.values()) for run in runs)


def test_one_disturbed_repeat_moves_no_median_and_so_no_fit():
    disturbed = {(4, 1), (32, 2)}
    seen = Counter()

    def throughput(threads):
        seen[threads] += 1
        spoilt = (threads, seen[threads]) in disturbed
        return (0.3 if spoilt else 1.0) * 1000 * threads / (1 + 0.1 * (threads - 1))

    found = medians(run_sweep(throughput, POINTS, repeats=3), by="threads", of=float)
    assert list(found) == doubling(1, 64)
    assert fit_scalability(found).contention == pytest.approx(0.1)
