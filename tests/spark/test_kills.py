from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from harness import SparkError
from harness.spark.datasets import SensorReadings
from harness.spark.feed import Feed
from harness.spark.kills import Kill, Killer, forget_unborn, recoveries, stopped
from harness.spark.lab import Query
from harness.spark.proof import check_table


def test_stopped_process_does_nothing_until_it_may_go_on():
    process = subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True)\nwhile True: pass"],
        stdout=subprocess.PIPE,
    )
    try:
        process.stdout.readline()
        seen = psutil.Process(process.pid)
        with stopped(process.pid):
            assert seen.status() == psutil.STATUS_STOPPED
            before = seen.cpu_times().user
            assert seen.cpu_times().user == before
        assert seen.status() != psutil.STATUS_STOPPED
    finally:
        process.kill()
        process.communicate()


def test_kills_need_a_jvm_of_this_machine():
    with pytest.raises(SparkError, match="need a JVM of this machine"):
        Killer(SimpleNamespace(jvm_pid=None), [], count=1, seed=1)


def test_moments_of_kills_follow_from_the_seed():
    groups = [[SimpleNamespace(batches_count=n)] for n in (5, 3)]

    def plans(seed):
        lab = SimpleNamespace(jvm_pid=1)
        return Killer(lab, groups, count=20, seed=seed)._plans

    assert plans(1) == plans(1) != plans(2)
    first, second = plans(1)
    assert len(first) + len(second) == 20
    assert all(batch < 5 for batch, _, _ in first)
    assert all(batch < 3 for batch, _, _ in second)
    assert sum(aimed for _, _, aimed in [*first, *second]) == 10


def test_nothing_is_run_after_the_last_kill():
    """What a run of kills leaves is thrown away: its end would prove nothing."""
    feed = Feed(dataset=SensorReadings(), seed=6, rows_count=200)
    one, two, three = (
        Query(name=name, feeds=(feed,), batches_count=5) for name in ("1", "2", "3")
    )

    def begun(groups, plans):
        killer = Killer(SimpleNamespace(jvm_pid=1), groups, count=0, seed=1)
        killer._plans = plans
        return [(query.name, query.batches_max) for query in killer.begin()]

    in_turn = [(one,), (two,), (three,)]
    aimed, anywhere = (2, 0.5, True), (2, 0.5, False)
    assert begun(in_turn, [[aimed], [aimed], []]) == [("1", None), ("2", 3)]
    assert begun(in_turn, [[anywhere], [], []]) == [("1", 4)]
    # Of two that run together, one may be further than the other.
    assert begun([(one, two)], [[aimed]]) == [("1", 4), ("2", 4)]


@pytest.mark.parametrize(
    ("begun", "done", "inside"),
    [((1,), (1,), False), ((2,), (1,), True), ((1, 3), (1, 2), True)],
)
def test_kill_is_inside_a_batch_where_one_was_begun_and_not_done(begun, done, inside):
    kill = Kill(place=None, begun=begun, done=done, after_commit=True)

    assert kill.inside_batch is inside


def test_checkpoint_with_a_batch_or_without_anything_is_kept(tmp_path):
    offsets = tmp_path / "begun" / "offsets"
    offsets.mkdir(parents=True)
    (offsets / "0").touch()
    (tmp_path / "empty" / "offsets").mkdir(parents=True)

    assert not any(forget_unborn(tmp_path / name) for name in ("begun", "empty", "no"))
    assert (offsets / "0").exists()


@pytest.mark.spark
def test_query_killed_in_its_first_offsets_starts_anew_where_spark_refuses(lab):
    """What such a kill leaves is a temporary file and no batch."""
    feed = Feed(dataset=SensorReadings(), seed=5, rows_count=200)
    query = Query(name="unborn", feeds=(feed,), batches_count=1)
    place = lab.place()
    offsets = place.checkpoint("unborn") / "offsets"
    offsets.mkdir(parents=True)
    (offsets / ".0.3f4c.tmp").write_text("v1")
    with pytest.raises(SparkError, match="CHECKPOINT_LOCATION_NOT_EMPTY"):
        lab.run(query, place=place)

    assert forget_unborn(place.checkpoint("unborn"))
    lab.run(query, place=place)

    check_table(place.path(), feed.table())


@pytest.mark.spark
def test_kills_aimed_at_one_batch_are_taken_in_as_many_runs(lab):
    """A run has one commit of each batch: none may be dropped, or hit another moment.

    One that comes too late is left as well, for the same reason.
    """
    feed = Feed(dataset=SensorReadings(), seed=6, rows_count=200)
    query = Query(name="aimed", feeds=(feed,), batches_count=1)

    found = list(recoveries(lab, query, count=4, seed=1))

    aimed = [kill for kill, _ in found if kill.after_commit]
    assert len(found) == 4
    assert [(kill.begun, kill.done) for kill in aimed] == [((1,), (0,))] * 2
    for _, run in found:
        check_table(run.place.path(), feed.table())
