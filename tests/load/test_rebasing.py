from __future__ import annotations

import numpy as np

from harness.load.crew import ShareResult
from harness.load.folding import Folded
from harness.load.rebasing import rebased
from harness.load.samples import SampleLog, SampleRecorder

SHIFT_NS = 7_000_000_123


def share(*, samples, folded=None):
    return ShareResult(
        samples=samples,
        folded=folded,
        warmup=samples,
        measure_from_ns=1_000,
        ended_ns=9_000,
        cpu_ns=5,
        untaken=0,
        unfinished=0,
        examples={},
        interrupted=False,
    )


def recorded(*rows):
    recorder = SampleRecorder()
    for row in rows:
        recorder.append(*row)
    return recorder.log(worker=3)


def test_every_time_moves_and_no_duration_does():
    samples = recorded((1_000, 1_010, 1_030, 1_070, 0), (2_000, 2_001, 2_003, 9_000, 1))

    moved = rebased(share(samples=samples), SHIFT_NS)

    for log in (moved.samples, moved.warmup):
        assert list(log.intended_ns) == [1_000 + SHIFT_NS, 2_000 + SHIFT_NS]
        assert list(log.finished_ns) == [1_070 + SHIFT_NS, 9_000 + SHIFT_NS]
        for part in ("start_delay", "checkout_wait", "service_time", "response_time"):
            name = f"{part}_ns"
            assert np.array_equal(getattr(log, name), getattr(samples, name))
    assert (moved.measure_from_ns, moved.ended_ns) == (
        1_000 + SHIFT_NS,
        9_000 + SHIFT_NS,
    )
    assert moved.cpu_ns == 5


def test_folded_seconds_move_by_whole_seconds():
    folded = Folded.of(recorded((0, 0, 0, 2_500_000_000, 0)))

    moved = rebased(share(samples=SampleLog.empty(), folded=folded), SHIFT_NS).folded

    assert moved.per_second == {9: 1}
    assert moved.finished_max_ns == 2_500_000_000 + SHIFT_NS
    assert moved.histograms == folded.histograms


def test_a_fold_without_operations_has_still_no_last_one():
    folded = Folded.of(SampleLog.empty())

    moved = rebased(share(samples=SampleLog.empty(), folded=folded), SHIFT_NS).folded

    assert moved.finished_max_ns == 0
