"""Several processes make one run: one start, one accounting, no silent loss."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import pytest

from harness.errors import ConfigError, LoadError
from harness.load import constant_arrivals, run_closed_loop, run_open_loop
from harness.load.underway import LoadWatch

FOLDER = Path(__file__).parent


@pytest.fixture
def operations(monkeypatch):
    """The module of operations, importable here and in spawned processes."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import operations

    return operations


def test_processes_bring_back_how_late_their_code_ran(operations):
    result = run_closed_loop(operations.pause, workers=2, processes=2, duration_s=0.3)
    assert result.pulse.beats > 50


def test_processes_split_the_arrivals_and_lose_none(operations):
    schedule = constant_arrivals(rate_per_s=300, duration_s=1.0)
    result = run_open_loop(
        operations.pause, schedule, workers=6, processes=3, warmup_s=0.1
    )
    assert len(result.warmup) == 30
    assert result.scheduled == 270
    assert result.completed == 270
    assert set(result.samples.worker) <= set(range(6))
    offsets = sorted(result.samples.intended_ns - result.measure_from_ns)
    expected = [round(i * 1e9 / 300) for i in range(270)]
    assert offsets == pytest.approx(expected, abs=2)


def test_a_count_is_split_exactly(operations):
    result = run_closed_loop(operations.pause, workers=4, processes=2, count=101)
    assert result.completed == 101


def test_each_process_is_set_up_once_and_shares_that_among_its_workers(operations):
    result = run_closed_loop(
        operations.record_process,
        workers=4,
        processes=2,
        count=40,
        process_setup=operations.open_list,
    )
    assert result.failed == 0
    assert result.processes == 2


def test_what_processes_do_is_seen_while_they_do_it(operations):
    """By whoever watches, on a thread of its own; nobody else asks them."""
    watch, seen = LoadWatch(), []
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(
            run_closed_loop, operations.pause, workers=4, processes=2, duration_s=4.0
        )
        while not run.done():
            if (now := watch.look()) is not None:
                seen.append(now)
            wait([run], timeout=0.05)
        result = run.result()

    assert watch.look() is None
    whole = [now for now in seen if now.workers == 4 and now.completed_per_s]
    assert whole, "their rate was never seen"
    # Each operation takes 1 ms or more, and there are four callers.
    assert all(0 < now.completed_per_s <= 4 / 0.001 for now in whole)
    assert all(now.response_time_ns.min() >= 1e6 for now in whole)
    counts = [now.completed for now in whole]
    assert counts == sorted(counts)
    assert 0 < counts[-1] <= result.completed + len(result.warmup)


def test_failures_of_processes_are_seen_while_they_run(operations):
    watch, failed = LoadWatch(), 0
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(
            run_closed_loop,
            operations.fail_often,
            workers=2,
            processes=2,
            duration_s=3.0,
        )
        while not run.done():
            failed = max(failed, (now := watch.look()) is not None and now.failed)
            wait([run], timeout=0.05)

    assert 0 < failed <= run.result().failed


def test_failures_are_merged_by_class(operations):
    result = run_closed_loop(operations.fail_often, workers=4, processes=2, count=400)
    assert result.errors == {"PausesError": result.failed}
    assert 50 < result.failed < 150
    assert str(result.examples["PausesError"]) == "as drawn"


@pytest.mark.parametrize("loop", ["closed", "open"])
@pytest.mark.parametrize(
    ("name", "interleaved"),
    [
        ("kill_own_process", False),
        ("kill_own_process", True),
        ("kill_own_process_in_a_task", False),
    ],
    ids=["threads", "interleaved", "tasks"],
)
def test_a_dead_process_fails_the_run_by_name(operations, name, interleaved, loop):
    operation = getattr(operations, name)
    shape = {"workers": 4, "processes": 2, "interleaved": interleaved}
    schedule = constant_arrivals(rate_per_s=500, duration_s=20)
    run = {
        "closed": partial(run_closed_loop, operation, duration_s=20, **shape),
        "open": partial(run_open_loop, operation, schedule, **shape),
    }[loop]
    with pytest.raises(LoadError, match=r"worker process 1 \(pid \d+\) died with sig"):
        run()


def test_a_setup_that_fails_in_a_process_shows_its_own_error(operations):
    with pytest.raises(operations.PausesError, match="no connection for you"):
        run_closed_loop(
            operations.pause,
            workers=2,
            processes=2,
            count=10,
            process_setup=operations.fail_in_process_setup,
        )


def test_what_cannot_be_sent_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match="module-level functions"):
        run_closed_loop(lambda _: None, workers=2, processes=2, count=2)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("operation", "interleaved"),
    [
        ("interrupt_group_at_call_50", False),
        ("interrupt_group_at_call_50", True),
        ("interrupt_group_in_a_task_at_call_50", False),
    ],
    ids=["threads", "interleaved", "tasks"],
)
def test_ctrl_c_ends_a_run_cleanly_with_what_was_measured(
    operation, interleaved, processes, tmp_path
):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(FOLDER)!r})
            import operations
            from harness.load import run_closed_loop

            if __name__ == "__main__":
                result = run_closed_loop(
                    operations.{operation},
                    workers=2,
                    processes={processes},
                    interleaved={interleaved},
                    duration_s=60,
                    setup=operations.count_calls,
                )
                print(result.interrupted, result.completed >= 50, result.wall_s < 30)
            """
        )
    )
    outcome = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        env=os.environ,
        check=False,
    )
    assert outcome.stdout.split() == ["True", "True", "True"], outcome.stderr
    assert outcome.stderr == ""


def test_a_script_without_a_main_guard_is_told_what_it_lacks(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        textwrap.dedent(
            """
            from harness.load import run_closed_loop

            def nothing(context):
                pass

            run_closed_loop(nothing, workers=2, processes=2, count=2)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=FOLDER.parents[1],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert 'must do so under `if __name__ == "__main__":`' in done.stderr
