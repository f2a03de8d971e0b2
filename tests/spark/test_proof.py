from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.spark.proof import (
    check_offsets,
    check_rows,
    check_table,
    checksum,
    oracle,
)

rows = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", None])), max_size=8
)


def table_of(pairs):
    return pa.table(
        {
            "n": pa.array([n for n, _ in pairs], pa.int64()),
            "s": pa.array([s for _, s in pairs], pa.string()),
        }
    )


@settings(deadline=None, max_examples=50)
@given(left=rows, right=rows)
def test_checksums_agree_exactly_where_the_rows_do_in_any_order(left, right):
    same = sorted(left, key=str) == sorted(right, key=str)

    assert (checksum(table_of(left)) == checksum(table_of(right))) is same


def test_row_that_is_there_twice_is_shown():
    with pytest.raises(
        AssertionError, match=r"(?s)1 not expected, or too many.*\(1, 'a'\)"
    ) as caught:
        check_rows(table_of([(1, "a"), (1, "a")]), table_of([(1, "a")]))

    assert "0 missing" in str(caught.value)


def test_column_that_is_missing_is_named():
    with pytest.raises(AssertionError, match="expected \\['n', 's'\\]"):
        check_rows(table_of([]).select(["n"]), table_of([]))


@pytest.mark.parametrize("partitioned", [False, True])
def test_table_is_read_by_two_readers(tmp_path, partitioned):
    wanted = table_of([(1, "a"), (2, "b"), (2, "b")])
    write_deltalake(tmp_path, wanted, partition_by=["n"] if partitioned else None)

    assert check_table(tmp_path, wanted).rows_count == 3
    write_deltalake(tmp_path, table_of([(1, "a")]), mode="append")
    with pytest.raises(AssertionError, match="1 not expected"):
        check_table(tmp_path, wanted)


def batch(batch_id, *ranges):
    return SimpleNamespace(batch_id=batch_id, ranges=ranges)


FEED = SimpleNamespace(rows_count=30)


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([batch(0, (0, 10)), batch(1, (10, 30))], None),
        ([batch(0, (0, 10)), batch(1, (10, 30)), batch(2, (30, 30))], None),
        ([batch(0, (0, 10)), batch(1, (12, 30))], r"began at \[12\], not \[10\]"),
        ([batch(0, (0, 10)), batch(1, (9, 30))], r"began at \[9\], not \[10\]"),
        ([batch(0, (0, 10)), batch(2, (10, 30))], "batch 2 where 1 was due"),
        ([batch(0, (5, 30))], r"began at \[5\], not \[0\]"),
        ([batch(0, (0, 29))], r"ended at \[29\], the feeds at \[30\]"),
        ([], "the feeds at"),
    ],
)
def test_offsets_with_a_gap_or_an_overlap_are_found(batches, said):
    if said is None:
        check_offsets(batches, FEED)
        return
    with pytest.raises(AssertionError, match=said):
        check_offsets(batches, FEED)


def test_oracle_keeps_time_in_utc():
    moments = pa.table({"t": pa.array([0], pa.timestamp("us", tz="UTC"))})

    answer = oracle("SELECT date_trunc('day', t) = t AS midnight FROM m", m=moments)

    assert answer["midnight"].to_pylist() == [True]
