"""A micro-batch that is delivered twice: its rows count once.

A stream commits twice: the MERGE commits the table, then the checkpoint notes the
micro-batch as done. A stream that dies in between gets the same micro-batch again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from harness import SparkError
from harness.spark.merge import AddSink, MergeSink, UpsertSink
from harness.spark.stepper import stepping

KILLED = "killed between the MERGE and the end of the micro-batch"

# Few keys, so that they meet; a key may come several times in one micro-batch.
orders = st.fixed_dictionaries(
    {"customer": st.integers(1, 3), "amount": st.integers(-5, 100)}
)
changes = st.fixed_dictionaries(
    {
        "customer": st.integers(1, 3),
        "version": st.integers(1, 9),
        "city": st.sampled_from(["Oslo", "Rome", "Lima"]),
    }
)


def micro_batches_of(rows):
    return st.lists(st.lists(rows, min_size=1, max_size=5), min_size=1, max_size=3)


@dataclass(frozen=True)
class DyingOnce:
    """A sink whose stream dies once, after one micro-batch is in the table.

    It remembers that in a file: a restarted stream is a new process elsewhere.
    """

    sink: MergeSink
    batch_id: int
    memory: str

    def __call__(self, frame, batch_id):
        """Merge, and die at the batch that was chosen, the first time."""
        self.sink(frame, batch_id)
        if batch_id == self.batch_id and not Path(self.memory).exists():
            Path(self.memory).touch()
            raise RuntimeError(KILLED)


@pytest.fixture
def checked(sized):
    """Return a decorator that runs a check on generated input, the same each time."""
    return hypothesis.settings(
        max_examples=sized(full=8, smoke=2),
        deadline=None,
        derandomize=True,
        database=None,
        # Each example is a stream of its own: shrinking one would take minutes, and
        # they are small to begin with.
        phases=[hypothesis.Phase.generate],
    )


@pytest.fixture
def make_folder(tmp_path_factory):
    """Return a factory of folders: each example is a table and a checkpoint anew."""
    return lambda: tmp_path_factory.mktemp("merge_replay")


def replay(spark, folder, batches, *, schema, sink, dies_at):
    """Stream the micro-batches, die once, start again; return the table's rows."""
    target = f"delta.`{folder / 'table'}`"
    spark.sql(f"CREATE TABLE {target} ({schema}) USING delta")
    dying = DyingOnce(sink=sink(target), batch_id=dies_at, memory=str(folder / "died"))
    with stepping(spark, folder, table="table", schema=schema, sink=dying) as stream:
        for batch in batches:
            stream.add(*batch)
        with pytest.raises(SparkError, match=KILLED):
            stream.process_all()

        stream.start()
        stream.process_all()

        # The one that died is here because it was delivered again.
        assert [b.batch_id for b in stream.batches] == list(range(len(batches)))
        return stream.rows()


def test_replayed_batch_adds_nothing(spark, checked, make_folder):
    """Sums per customer are those of every order counted once: no loss, no double."""

    @checked
    @hypothesis.given(batches=micro_batches_of(orders), data=st.data())
    def check(batches, data):
        rows = replay(
            spark,
            make_folder(),
            batches,
            schema="customer INT, amount BIGINT",
            sink=lambda target: AddSink(
                target=target, keys=("customer",), app_id="orders"
            ),
            dies_at=data.draw(st.integers(0, len(batches) - 1), label="dies_at"),
        )

        expected = Counter()
        for order in (order for batch in batches for order in batch):
            expected[order["customer"]] += order["amount"]
        assert len(rows) == len(expected), "a customer is missing or doubled"
        assert {row["customer"]: row["amount"] for row in rows} == expected

    check()


def test_replayed_batch_leaves_the_last_writer(spark, checked, make_folder):
    """Each customer's row is the one of the highest version, in whatever order."""

    @checked
    @hypothesis.given(batches=micro_batches_of(changes), data=st.data())
    def check(batches, data):
        # One change has one version: numbered in a generated order.
        for batch in batches:
            for change in batch:
                change["version"] *= 1000
        unique = [change for batch in batches for change in batch]
        for index, change in enumerate(unique):
            change["version"] += index

        rows = replay(
            spark,
            make_folder(),
            batches,
            schema="customer INT, version INT, city STRING",
            sink=lambda target: UpsertSink(
                target=target, keys=("customer",), app_id="crm", sequence="version"
            ),
            dies_at=data.draw(st.integers(0, len(batches) - 1), label="dies_at"),
        )

        expected = {
            change["customer"]: change
            for change in sorted(unique, key=lambda change: change["version"])
        }
        assert len(rows) == len(expected), "a customer is missing or doubled"
        assert {row["customer"]: row for row in rows} == expected

    check()


def test_without_transaction_ids_the_replayed_batch_counts_twice(spark, make_folder):
    """The negative control: the same check, seen to fail where it must."""
    rows = replay(
        spark,
        make_folder(),
        [[{"customer": 1, "amount": 5}], [{"customer": 1, "amount": 100}]],
        schema="customer INT, amount BIGINT",
        sink=lambda target: AddSink(target=target, keys=("customer",), app_id=None),
        dies_at=1,
    )

    assert rows == [{"customer": 1, "amount": 205}]
