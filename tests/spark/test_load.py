"""Load on executors: what needs no Spark here, the rest in sessions of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import ConfigError
from harness.load.plan import ClosedPlan
from harness.spark.load import _stage_error, run_on_executors
from harness.spark.load_place import Meeting, run_place
from harness.spark.parcel import packed, packed_outcome, unpacked

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).with_name("load_cases.py")


def nothing(_context):
    pass


def refuse():
    raise LookupError("refused")


class Hall:
    """Carries what several threads say to each other, as a barrier stage does."""

    def __init__(self, places):
        self._said = [""] * places
        self._barrier = threading.Barrier(places, timeout=20)

    def gather(self, rank):
        def say(what):
            self._said[rank] = what
            self._barrier.wait()
            heard = list(self._said)
            self._barrier.wait()
            return heard

        return say


def run_places(plans, *, lead_ns=50_000_000):
    hall = Hall(len(plans))
    with ThreadPoolExecutor(len(plans)) as threads:
        running = [
            threads.submit(
                run_place,
                rank,
                packed(plan),
                Meeting(hall.gather(rank), lead_ns=lead_ns),
            )
            for rank, plan in enumerate(plans)
        ]
        return [each.result() for each in running]


def test_places_start_at_one_moment():
    plan = ClosedPlan(operation=nothing, workers=3, processes=3, count=30)

    outcomes = run_places([plan] * 3)

    starts_ns = [o.share.measure_from_ns + o.wall_offset_ns for o in outcomes]
    assert len(set(starts_ns)) == 1
    assert [len(outcome.share.samples) for outcome in outcomes] == [10, 10, 10]
    assert {outcome.late_ns for outcome in outcomes} == {0}


def test_a_place_that_cannot_be_set_up_calls_the_run_off_for_all():
    good = ClosedPlan(operation=nothing, workers=2, processes=2, count=30)
    bad = ClosedPlan(
        operation=nothing, workers=2, processes=2, count=30, process_setup=refuse
    )

    first, second = run_places([good, bad])

    assert first.share is None
    assert first.error is None
    assert isinstance(second.error, LookupError)


def test_a_place_that_heard_of_the_start_too_late_says_so():
    plan = ClosedPlan(operation=nothing, workers=2, processes=2, count=4)

    outcomes = run_places([plan] * 2, lead_ns=-1_000_000_000)

    assert all(outcome.late_ns >= 1_000_000_000 for outcome in outcomes)


def test_what_the_plan_uses_of_the_users_own_modules_travels_with_it(tmp_path):
    """Also what one of them takes from another."""
    (tmp_path / "inner.py").write_text("def answer():\n    return 42\n")
    (tmp_path / "outer.py").write_text(
        "import json, inner\nfrom harness.errors import LoadError\n"
        "def ask(_context=None):\n    return json.dumps([inner.answer()])\n"
    )
    pack = (
        "import sys, outer; from harness.spark.parcel import packed; "
        "sys.stdout.buffer.write(packed(outer.ask))"
    )
    parcel = subprocess.run(
        [sys.executable, "-c", pack], cwd=tmp_path, capture_output=True, check=True
    ).stdout

    assert json.loads(unpacked(parcel)()) == [42]


def test_an_error_that_cannot_be_sent_is_sent_by_its_words():
    class StubbornError(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    plan = ClosedPlan(operation=nothing, workers=1, processes=1, count=1)
    (outcome,) = run_places([plan])
    outcome.share.examples["StubbornError"] = StubbornError("this", "that")

    sent = unpacked(packed_outcome(outcome))

    assert str(sent.share.examples["StubbornError"]) == "StubbornError: this and that"


LOST_EXECUTOR = """\
An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Could not recover \
from a failed barrier ResultStage. Most recent failure reason: Stage failed because \
barrier task ResultTask(4, 1) finished unsuccessfully.
ExecutorLostFailure (executor 0 exited caused by one of the running tasks) Reason: Gone
\tat org.apache.spark.scheduler.DAGScheduler.handleTaskCompletion(DAGScheduler.scala)"""
NOT_INSTALLED = """\
: org.apache.spark.SparkException: Job aborted due to stage failure: Could not recover
    command = serializer._read_with_length(file)
ModuleNotFoundError: No module named 'harness'

\tat org.apache.spark.api.python.BasePythonRunner(PythonRunner.scala)"""


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (LOST_EXECUTOR, r"^worker process 1 on Spark was lost \(ExecutorLostFailure "),
        (LOST_EXECUTOR, r" Reason: Gone\); its share of the run is lost, so the run "),
        (NOT_INSTALLED, "No module named 'harness'; install the package with its dep"),
    ],
)
def test_a_failed_stage_is_said_in_one_line_without_a_stack_trace(said, meant):
    text = str(_stage_error(said))

    assert re.search(meant, text)
    assert "\n" not in text
    assert "scala" not in text


def test_spark_connect_is_refused_before_any_work(tmp_path):
    case = tmp_path / "test_case.py"
    case.write_text("def test_load(spread_load):\n    pass\n")

    answer = run_pytest(case, "--load-on=spark", "--spark-remote=sc://127.0.0.1:1")

    assert answer.returncode == 4
    assert "--load-on=spark cannot be combined with --spark-remote" in answer.stderr


def test_a_run_in_which_nobody_spreads_load_is_refused(tmp_path):
    case = tmp_path / "test_case.py"
    case.write_text("def test_load():\n    pass\n")

    answer = run_pytest(case, "--load-on=spark")

    assert answer.returncode == 4
    assert "no selected case uses the fixture `spread_load`" in answer.stderr


def test_load_stays_on_this_machine_unless_told_otherwise(spread_load):
    assert spread_load is None


def test_a_session_without_executors_is_refused():
    plan = ClosedPlan(operation=nothing, workers=1, count=1)

    with pytest.raises(ConfigError, match="--load-on=local"):
        run_on_executors(object(), plan)


@pytest.mark.spark
def test_a_session_that_would_repeat_a_run_silently_is_refused(spark):
    plan = ClosedPlan(operation=nothing, workers=1, count=1)

    with pytest.raises(ConfigError, match=r"maxConsecutiveAttempts must be 1, got"):
        run_on_executors(spark, plan)


@pytest.mark.spark
@pytest.mark.parametrize("master", ["local[2]", "local-cluster[2,1,1024]"])
def test_load_on_executors(master):
    """Its cases are in load_cases.py; they share one session of this master."""
    answer = run_pytest(CASES, "--load-on=spark", LAKEGAUGE_SPARK_MASTER=master)

    assert answer.returncode == 0, answer.stdout + answer.stderr
    skipped = 1 if master == "local[2]" else 0
    outcome = f"{13 - skipped} passed"
    assert outcome in answer.stdout


def run_pytest(*arguments, **variables):
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-c", ROOT / "pyproject.toml", "--rootdir", ROOT),
            *arguments,
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=400,
        cwd=ROOT,
        env=os.environ | {"LAKEGAUGE_SPARK_DRIVER_MEMORY": "1g"} | variables,
    )
