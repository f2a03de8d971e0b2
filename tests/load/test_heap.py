from __future__ import annotations

import gc

from harness.clock import SYSTEM_CLOCK
from harness.load import run_closed_loop
from harness.load.heap import old_objects_set_aside


def collection_ns(_context=None):
    began_ns = SYSTEM_CLOCK.monotonic_ns()
    gc.collect()
    return SYSTEM_CLOCK.monotonic_ns() - began_ns


def test_collection_during_a_run_does_not_walk_over_what_was_there_before():
    """A session's worth of objects: the least of five collections on each side."""
    session = [{number: [number]} for number in range(500_000)]
    inside = []
    outside_ns = min(collection_ns() for _ in range(5))

    run_closed_loop(lambda _: inside.append(collection_ns()), workers=1, count=5)

    assert min(inside) < outside_ns / 5
    assert gc.get_freeze_count() == 0, "afterwards all of it can be collected again"
    assert len(session) == 500_000


def test_what_somebody_else_set_aside_stays_aside():
    gc.freeze()
    try:
        with old_objects_set_aside():
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
