"""A timetable that makes no sense is refused before it begins, and by name."""

from __future__ import annotations

import math

import pytest

from harness.errors import ConfigError
from harness.lakebase.standin.events import read_events
from harness.lakebase.standin.faults import read_timetable

NO_TIME = [-1, math.nan, math.inf, 1e308, "soon", None, True, [1]]


@pytest.mark.parametrize("at_s", NO_TIME, ids=repr)
def test_a_time_that_is_none_is_refused_by_name(at_s):
    with pytest.raises(ConfigError, match="at_s of an event must be >= 0"):
        read_events([{"at_s": at_s, "do": "suspend"}])
    with pytest.raises(ConfigError, match="at_s of a fault must be >= 0"):
        read_timetable([{"at_s": at_s}])


@pytest.mark.parametrize("rows", ["abc", b"abc", None, 5, {"at_s": 1}], ids=repr)
@pytest.mark.parametrize("read", [read_events, read_timetable])
def test_what_is_no_list_is_refused_with_an_example(read, rows):
    with pytest.raises(ConfigError, match="must be a list of rows such as"):
        read(rows)


@pytest.mark.parametrize("row", ["x", None, 5, [1], {1: 2}], ids=repr)
@pytest.mark.parametrize("read", [read_events, read_timetable])
def test_a_row_that_is_none_is_refused_with_an_example(read, row):
    with pytest.raises(ConfigError, match="must be like"):
        read([row])


@pytest.mark.parametrize("cu", [-3, 0, math.nan, "big", True], ids=repr)
def test_a_size_that_is_none_is_refused_by_name(cu):
    with pytest.raises(ConfigError, match="cu of an event must be"):
        read_events([{"at_s": 1, "do": "resize", "cu": cu}])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"latency_s": math.nan}, "latency_s must be >= 0"),
        ({"latency_s": "slow"}, "latency_s must be >= 0"),
        ({"jitter_s": math.inf}, "jitter_s must be >= 0"),
        ({"bandwidth_bytes_per_s": 0}, "bandwidth_bytes_per_s must be > 0"),
        ({"share": 2}, "share must be >= 0 and <= 1"),
        ({"reset": "no"}, "reset must be true or false"),
        ({"black_hole": 1}, "black_hole must be true or false"),
    ],
    ids=str,
)
def test_a_fault_that_is_none_is_refused_by_name(fault, words):
    with pytest.raises(ConfigError, match=words):
        read_timetable([{"at_s": 0, **fault}])


def test_what_is_right_is_taken():
    """The control: the checks above can pass."""
    assert len(read_events([{"at_s": 0, "do": "resize", "cu": 0.5}])) == 1
    assert len(read_timetable([{"at_s": 0, "reset": True, "share": 0.5}])) == 1
