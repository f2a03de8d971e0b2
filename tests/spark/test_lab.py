"""What the lab does when a query does not start, or keeps its checkpoint elsewhere."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from harness import SparkError
from harness.clock import ManualClock
from harness.spark.datasets import Orders
from harness.spark.feed import Feed
from harness.spark.lab import Lab, Query

TOO_SLOW = "[INTERNAL] Python worker failed to connect back."


class Handle:
    """A query that ended, or could not begin."""

    isActive = False  # noqa: N815 - Spark's name

    def __init__(self, error=None, *, progress=()):
        self.error = error
        self.recentProgress = progress  # Spark's name

    def awaitTermination(self):  # noqa: N802 - Spark's name
        if self.error is not None:
            raise self.error

    def exception(self):
        return self.error

    def stop(self):
        pass


class Scripted(Query):
    """Starts as the script says: an error at once, one later, or none."""

    def start(self, place, **_how):
        first = self.options["script"].pop(0)
        if first == "at once":
            raise RuntimeError(TOO_SLOW)
        place.checkpoint(self.name).joinpath("commits").mkdir(parents=True)
        if first == "later":
            place.checkpoint(self.name).joinpath("commits").rmdir()
            place.checkpoint(self.name).rmdir()
            idle = SimpleNamespace(durationMs={"triggerExecution": 5})
            progress = [idle] if self.options.get("progressed") else []
            return Handle(RuntimeError(TOO_SLOW), progress=progress)
        return Handle(RuntimeError("wrong column") if first == "broken" else None)


def scripted(*script):
    return Scripted(name="q", options={"script": list(script)})


def lab_in(folder):
    return Lab(None, lambda: folder)


@pytest.mark.parametrize("how", ["at once", "later"])
def test_query_whose_worker_was_too_slow_to_start_is_started_again(tmp_path, how):
    query = scripted(how, how, "well")

    run = lab_in(tmp_path).run(query)

    assert run.batches["q"] == []
    assert query.options["script"] == []


@pytest.mark.parametrize("how", ["at once", "later"])
def test_worker_that_never_starts_is_given_up(tmp_path, how):
    query = scripted(*[how] * 4)

    with pytest.raises((SparkError, RuntimeError), match="failed to connect back"):
        lab_in(tmp_path).run(query)

    assert query.options["script"] == [how], "three attempts"


def test_query_with_another_error_is_not_started_again(tmp_path):
    query = scripted("broken", "well")

    with pytest.raises(SparkError, match="wrong column"):
        lab_in(tmp_path).run(query)

    assert query.options["script"] == ["well"]


@pytest.mark.parametrize("how", ["at once", "later"])
def test_live_query_whose_worker_was_too_slow_is_started_with_a_new_clock(
    tmp_path, how
):
    """Its first rows would have waited for the attempts that failed."""
    query = scripted(how, how, "well")
    folders = [tmp_path / str(number) for number in range(3)]
    left = iter(folders)
    clock = ManualClock()

    def make_folder():
        clock.advance(100)
        return next(left)

    run, since_ns = Lab(None, make_folder, clock=clock).run_live(query, duration_s=1)

    assert run.place.folder == folders[2]
    assert since_ns == clock.now().timestamp() * 1e9
    assert query.options["script"] == []


@pytest.mark.parametrize("how", ["at once", "later"])
def test_live_query_whose_worker_never_starts_is_given_up(tmp_path, how):
    query = scripted(*[how] * 4)

    with pytest.raises(SparkError, match=r"'q' did not begin.*failed to connect back"):
        lab_in(tmp_path).run_live(query, duration_s=1)

    assert query.options["script"] == [how], "three attempts"


def test_live_query_that_failed_later_is_not_started_again(tmp_path):
    """Some of its rows were read: what is measured would begin in the middle."""
    query = scripted("later", "well")
    query.options["progressed"] = True

    with pytest.raises(SparkError, match="failed after 0 micro-batches"):
        lab_in(tmp_path).run_live(query, duration_s=1)

    assert query.options["script"] == ["well"]


def test_lab_knows_which_streams_are_replayed_while_they_run(tmp_path):
    """A watcher in another thread asks it, for the watermark lag."""
    lab = lab_in(tmp_path)
    feed = Feed(dataset=Orders(), seed=1, rows_count=1)
    replayed = scripted("well")
    live = dataclasses.replace(scripted("well"), name="live", feeds=(feed,))

    lab.run(replayed)
    run, since_ns = lab.run_live(live, duration_s=0)

    ahead_s = since_ns / 1e9 - feed.starts_at.timestamp()
    assert lab.clocks_ahead_s == {"q": None, "live": ahead_s}
    assert run.clock_ahead_s == ahead_s
