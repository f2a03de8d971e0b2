"""What the lab does when a query does not start, or keeps its checkpoint elsewhere."""

from __future__ import annotations

import pytest

from harness import SparkError
from harness.spark.lab import Lab, Query

TOO_SLOW = "[INTERNAL] Python worker failed to connect back."


class Handle:
    """A query that ended, or could not begin."""

    isActive = False  # noqa: N815 - Spark's name
    recentProgress = ()  # noqa: N815 - Spark's name

    def __init__(self, error=None):
        self.error = error

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
            return Handle(RuntimeError(TOO_SLOW))
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
