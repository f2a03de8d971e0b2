from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import ConfigError
from harness.load.schedules import constant_rate, sine, spike, steps
from harness.load.trace import TraceArrivals
from harness.spark import datasets
from harness.spark.feed import ROWS_PER_CHUNK, Feed
from harness.spark.noise import (
    HotKeys,
    UniformKeys,
    ZipfKeys,
    shuffled_in_blocks,
    uniform,
)

DATASETS = [
    datasets.SensorReadings(),
    datasets.SensorDocuments(),
    datasets.Orders(),
    datasets.Customers(),
    datasets.Payments(),
    datasets.Impressions(),
    datasets.Clicks(),
    datasets.MeterReadings(),
    datasets.Changes(),
]


def feed_of(dataset, *, rows_count=3000, seed=1, **more):
    return Feed(dataset=dataset, seed=seed, rows_count=rows_count, **more)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: type(d).__name__)
def test_rows_are_the_same_whoever_makes_them_and_in_whatever_pieces(dataset):
    """A source that starts again in the middle, elsewhere, must send the same rows."""
    feed = feed_of(
        dataset, disorder_rows=100, late_share=0.2, late_max_s=9, duplicates_share=0.1
    )
    elsewhere = pickle.loads(pickle.dumps(feed))

    pieces = [b for n in (0, 1, 999, 2000) for b in elsewhere.rows(n, _next(n))]

    assert pa.Table.from_batches(pieces) == feed.table()
    assert feed.table() != feed_of(dataset, seed=2).table()


def _next(start):
    return {0: 1, 1: 999, 999: 2000, 2000: 3000}[start]


def test_a_chunk_boundary_changes_nothing():
    feed = feed_of(datasets.Orders(), rows_count=ROWS_PER_CHUNK + 10)

    around = pa.Table.from_batches(feed.rows(ROWS_PER_CHUNK - 5, ROWS_PER_CHUNK + 5))

    assert around == feed.table().slice(ROWS_PER_CHUNK - 5, 10)


def test_each_row_is_sent_once_where_no_duplicates_were_asked_for():
    feed = feed_of(datasets.Orders(), disorder_rows=500)

    ids = feed.table()["order_id"].to_numpy()

    assert sorted(ids) == list(range(3000))
    assert (ids != np.arange(3000)).mean() > 0.9, "nothing was out of order"
    assert (ids // 500 == np.arange(3000) // 500).all(), "a row left its block"


def test_duplicates_repeat_an_earlier_row_whole():
    feed = feed_of(
        datasets.Orders(), duplicates_share=0.2, duplicates_distance=50, seed=7
    )

    rows = feed.table().to_pylist()

    first_place = {}
    repeated = 0
    for place, row in enumerate(rows):
        first = first_place.setdefault(row["order_id"], (place, row))
        assert first[1] == row
        repeated += place != first[0]
    assert 0.15 < repeated / len(rows) < 0.25


def test_late_rows_lie_before_their_time_by_no_more_than_asked_for():
    on_time = feed_of(datasets.Orders()).table()["event_time"].to_numpy()
    late = (
        feed_of(datasets.Orders(), late_share=0.3, late_max_s=8)
        .table()["event_time"]
        .to_numpy()
    )

    delays_s = (on_time - late) / np.timedelta64(1, "s")

    assert 0.25 < (delays_s > 0).mean() < 0.35
    assert delays_s.min() == 0
    assert 6 < delays_s.max() <= 8


@given(block_size=st.integers(1, 400), seed=st.integers(0, 2**40))
def test_shuffle_loses_and_doubles_nothing(block_size, seed):
    index = np.arange(block_size * 3, dtype=np.int64)

    shuffled = shuffled_in_blocks(seed, index, block_size=block_size)

    assert sorted(shuffled) == list(index)


def test_uniform_numbers_are_uniform_and_independent_by_name():
    index = np.arange(100_000, dtype=np.int64)
    a, b = uniform(1, "a", index), uniform(1, "b", index)

    assert abs(a.mean() - 0.5) < 0.01
    assert abs(a.var() - 1 / 12) < 0.01
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 0.02
    assert 0 <= a.min() <= a.max() < 1


def test_keys_are_as_skewed_as_they_say():
    drawn = uniform(3, "k", np.arange(200_000, dtype=np.int64))

    def share_of_key_0(keys):
        return (keys.of(drawn) == 0).mean()

    weights = np.arange(1, 101) ** -0.99
    assert share_of_key_0(UniformKeys(100)) == pytest.approx(0.01, rel=0.1)
    assert share_of_key_0(ZipfKeys(100)) == pytest.approx(
        weights[0] / weights.sum(), rel=0.05
    )
    hot = HotKeys(100, hot_count=2, hot_share=0.6)
    assert (hot.of(drawn) < 2).mean() == pytest.approx(0.6, rel=0.05)
    for keys in (UniformKeys(100), ZipfKeys(100), hot):
        assert set(keys.of(drawn)) == set(range(100))


@pytest.mark.parametrize(
    "schedule",
    [
        constant_rate(rate_per_s=100, duration_s=30),
        steps(rates_per_s=[50, 150, 450], step_s=10),
        spike(base_per_s=50, peak_per_s=500, before_s=5, spike_s=3, after_s=5),
        sine(mean_per_s=100, amplitude_per_s=90, period_s=10, duration_s=20),
        TraceArrivals(tuple(range(0, 3_000_000_000, 10_000_000)), "a trace"),
    ],
    ids=["constant", "steps", "burst", "diurnal", "trace"],
)
def test_a_row_is_due_when_the_schedule_says_and_not_before(schedule):
    feed = feed_of(datasets.Orders(), rows_count=300, schedule=schedule)

    due_s = feed.due_s(np.arange(300, dtype=np.int64))

    assert (np.diff(due_s) >= 0).all()
    for row in (0, 1, 137, 299):
        assert feed.due_count(due_s[row] - 1e-6) <= row
        assert feed.due_count(due_s[row] + 1e-6) >= row + 1
    assert feed.due_count(-1.0) == 0
    assert feed.due_count(1e9) == 300


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rows_count": 0}, "rows_count must be >= 1"),
        ({"late_share": 1.0}, "late_share must be"),
        ({"disorder_rows": 7}, "whole blocks of disorder_rows=7"),
        (
            {"schedule": constant_rate(rate_per_s=1, duration_s=10)},
            "at most what the schedule holds, 10",
        ),
    ],
)
def test_a_feed_that_cannot_be_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        feed_of(datasets.Orders(), **wrong)


def test_documents_drift_in_shape_by_the_share_asked_for():
    documents = feed_of(datasets.SensorDocuments(drift_share=0.25)).table()["document"]

    drifted = sum("battery" in text for text in documents.to_pylist())

    assert 0.2 < drifted / 3000 < 0.3
