"""The histogram is within its stated error and merges by addition."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ReportError
from harness.load import LogLinearHistogram
from harness.load.histogram import bucket_bounds, bucket_index

durations = st.lists(st.integers(0, 2**52 - 1), min_size=1, max_size=200)


def array(values):
    return np.array(values, dtype=np.int64)


@given(st.integers(0, 2**52 - 1))
def test_a_value_lies_in_its_bucket_and_the_bucket_is_narrow(value):
    index = bucket_index(array([value]))
    low, high = (int(bound[0]) for bound in bucket_bounds(index))
    assert low <= value <= high
    assert high - low <= max(0, low / 128)


def test_buckets_follow_each_other_without_gap_or_overlap():
    index = np.arange(5888 - 1)
    low, high = bucket_bounds(index)
    assert low[0] == 0
    assert (low[1:] == high[:-1] + 1).all()


@given(durations, st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_half_a_percent_of_the_exact_one(values, q):
    exact = float(np.quantile(array(values), q, method="inverted_cdf"))
    found = LogLinearHistogram.of(array(values)).quantile(q)
    assert found == pytest.approx(exact, rel=0.005)


@given(durations, durations, durations)
def test_merging_is_the_same_as_recording_together(a, b, c):
    parts = [LogLinearHistogram.of(array(v)) for v in (a, b, c)]
    merged = LogLinearHistogram.merged(parts)
    assert merged == LogLinearHistogram.of(array(a + b + c))
    assert merged == LogLinearHistogram.merged(parts[::-1])


@given(durations)
def test_json_brings_back_the_same_histogram(values):
    histogram = LogLinearHistogram.of(array(values))
    text = json.dumps(histogram.to_json(), allow_nan=False)
    assert LogLinearHistogram.from_json(json.loads(text)) == histogram


def test_a_million_lognormal_durations_fit_in_18_kilobytes_of_json():
    values = np.random.default_rng(1).lognormal(15, 1.0, 1_000_000).astype(np.int64)
    histogram = LogLinearHistogram.of(values)
    assert len(histogram) == 1_000_000
    assert len(json.dumps(histogram.to_json())) < 18_000


def test_an_empty_histogram_merges_but_has_no_quantile():
    empty = LogLinearHistogram.of(array([]))
    assert LogLinearHistogram.merged([empty, empty]) == empty
    with pytest.raises(ValueError, match="0 samples"):
        empty.quantile(0.5)


@pytest.mark.parametrize("value", [-1, 2**52])
def test_a_value_out_of_range_is_refused_not_clipped(value):
    with pytest.raises(ValueError, match="durations must be in"):
        LogLinearHistogram.of(array([5, value]))


@pytest.mark.parametrize(
    "damage",
    [
        {"encoding": "hdr"},
        {"sub_bucket_bits": 8},
        {"index_steps": [99999999]},
        {"counts": [-1]},
        {"counts": "x"},
        {"min": None},
    ],
)
def test_damaged_json_is_a_clear_error(damage):
    data = LogLinearHistogram.of(array([1000])).to_json() | damage
    with pytest.raises(ReportError, match="histogram"):
        LogLinearHistogram.from_json(data)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_agrees_with_hdrhistogram_within_one_percent(seed):
    values = np.random.default_rng(seed).lognormal(14, 1.2, 50_000).astype(np.int64)
    ours, theirs = LogLinearHistogram.of(values), HdrHistogram(1, 3_600_000_000_000, 3)
    for value in values.tolist():
        theirs.record_value(value)
    for percentile in (50, 90, 95, 99, 99.9, 99.99):
        expected = theirs.get_value_at_percentile(percentile)
        assert ours.quantile(percentile / 100) == pytest.approx(expected, rel=0.01)
