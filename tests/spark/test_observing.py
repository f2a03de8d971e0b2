"""Events, alerts and the way to a table, without a JVM."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from harness import ConfigError
from harness.spark.observing import events
from harness.spark.observing.alerts import Thresholds, Watch
from harness.spark.observing.events import SCHEMA, StreamEvent
from harness.spark.observing.recorder import Recorder

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(second=0, **given):
    """Return a progress with ten rows, a second after the other."""
    values = {"event_type": "progress", "stream_id": "id", "run_id": "run"}
    values |= {"stream_name": "orders", "batch_id": 7, "num_input_rows": 10}
    return StreamEvent(
        **{**values, "collection_time": NOON + timedelta(seconds=second), **given}
    )


def kinds(alerts):
    return [alert.kind for alert in alerts]


@pytest.fixture
def make_recorder():
    """Return a factory of recorders; each is closed at the end."""
    made = []

    def make(write, **options):
        made.append(Recorder(write, **{"flush_s": 0.01, **options}))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close(timeout_s=5)


# --- events


def test_row_has_the_columns_of_the_table_in_their_order():
    names = [part.split()[0] for part in SCHEMA.split(", ")]

    row = dict(zip(names, event(batch_duration_ms=5).row(), strict=True))

    assert row["stream_name"] == "orders"
    assert row["batch_duration_ms"] == 5
    assert row["is_active"] is True


def test_rows_of_a_progress_are_those_of_the_offsets():
    """Three actions in a foreachBatch make Spark count each row three times."""
    progress = SimpleNamespace(
        id="id",
        runId="run",
        name=None,
        batchId=3,
        timestamp="2026-01-01T00:00:00.000Z",
        durationMs={"addBatch": 1, "triggerExecution": 40},
        eventTime={},
        stateOperators=[],
        numInputRows=300,
        inputRowsPerSecond=float("nan"),
        processedRowsPerSecond=float("inf"),
        sources=[
            SimpleNamespace(startOffset="100", endOffset="200", latestOffset="200")
        ],
        json="{}",
    )

    noted = events.progressed(SimpleNamespace(progress=progress), NOON)

    assert noted.num_input_rows == 100
    assert noted.batch_duration_ms == 40
    assert noted.input_rows_per_second is None
    assert noted.processed_rows_per_second is None


# --- alerts


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"batch_duration_ms": 30_000}, []),
        ({"batch_duration_ms": 30_001}, ["slow_batch"]),
        ({"input_rows_per_second": 150.0, "processed_rows_per_second": 100.0}, []),
        (
            {"input_rows_per_second": 151.0, "processed_rows_per_second": 100.0},
            ["falling_behind"],
        ),
        ({"input_rows_per_second": 151.0, "processed_rows_per_second": 0.0}, []),
    ],
)
def test_limit_itself_is_no_alert_and_beyond_it_is(given, expected):
    assert kinds(Watch().look(event(**given))) == expected


def test_silence_is_said_once_and_again_after_a_row():
    watch = Watch(Thresholds(no_input_s=60))
    quiet = {"num_input_rows": 0}

    said = [
        kinds(watch.look(event(second, **given)))
        for second, given in [
            (0, {}),
            (59, quiet),
            (60, quiet),
            (90, quiet),
            (91, {}),
            (151, quiet),
        ]
    ]

    assert said == [[], [], ["no_input"], [], [], ["no_input"]]


def test_stream_that_fails_is_an_alert_and_one_that_ends_is_none():
    def end(error):
        return event(event_type="terminated", raw_progress_json=error)

    assert kinds(Watch().look(end(None))) == []
    (alert,) = Watch().look(end("disk full\n\tat java.lang"))
    assert alert.kind == "failed"
    assert alert.message == "ended with an error: disk full"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Thresholds(batch_duration_max_s=0), "batch_duration_max_s.*got 0"),
        (lambda: Thresholds(no_input_s=-1), "no_input_s.*got -1"),
        (lambda: Recorder(print, capacity=0), "capacity.*got 0"),
        (lambda: Recorder(print, flush_s=0), "flush_s.*got 0"),
    ],
)
def test_impossible_values_are_refused_by_name(wrong, said):
    with pytest.raises(ConfigError, match=said):
        wrong()


# --- the way to the table


def test_every_event_is_written_in_its_order(make_recorder):
    written = []
    recorder = make_recorder(written.extend)

    for second in range(500):
        recorder.offer(event(second))
    delivery = recorder.close()

    assert written == [event(second) for second in range(500)]
    assert (delivery.written, delivery.dropped, delivery.pending) == (500, 0, 0)


def test_stuck_write_holds_nobody_up_and_what_does_not_fit_is_counted(make_recorder):
    entered, go_on = threading.Event(), threading.Event()

    def stuck(batch):
        del batch
        entered.set()
        assert go_on.wait(30)

    recorder = make_recorder(stuck, capacity=5)
    recorder.offer(event())
    assert entered.wait(30)

    for second in range(10):
        recorder.offer(event(second))  # would hang here, if it waited
    blocked = recorder.delivery()
    go_on.set()
    delivery = recorder.close()

    assert (blocked.pending, blocked.dropped) == (5, 6)
    assert (delivery.written, delivery.dropped, delivery.pending) == (5, 6, 0)


def test_write_that_fails_is_tried_again_and_nothing_is_lost(make_recorder):
    written, failures = [], iter([OSError("full"), OSError("full")])

    def write(batch):
        error = next(failures, None)
        if error is not None:
            raise error
        written.extend(batch)

    recorder = make_recorder(write, failures_max=3)
    for second in range(20):
        recorder.offer(event(second))
    delivery = recorder.close()

    assert written == [event(second) for second in range(20)]
    assert (delivery.failures, delivery.disabled) == (2, False)


def test_recorder_that_keeps_failing_disables_itself_and_counts_what_is_lost(
    make_recorder, caplog
):
    calls = []

    def write(batch):
        calls.append(len(batch))
        raise OSError("full")

    recorder = make_recorder(write, failures_max=3)
    recorder.offer(event())
    recorder.close()
    recorder.offer(event())
    delivery = recorder.delivery()

    assert len(calls) == 3
    assert delivery.disabled
    assert (delivery.offered, delivery.written, delivery.dropped) == (2, 0, 2)
    assert "off after 3 failures in a row; the last one: full" in caplog.text
