"""Putting what another machine measured onto this machine's clock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from harness.load.crew import ShareResult
    from harness.load.folding import Folded
    from harness.load.samples import SampleLog


def rebased(share: ShareResult, shift_ns: int) -> ShareResult:
    """Return the share with *shift_ns* added to every time; durations stay.

    What was folded already counts by whole seconds, so its series moves by the
    nearest of them.
    """
    return replace(
        share,
        samples=_rebased_log(share.samples, shift_ns),
        warmup=_rebased_log(share.warmup, shift_ns),
        folded=share.folded and _rebased_fold(share.folded, shift_ns),
        measure_from_ns=share.measure_from_ns + shift_ns,
        ended_ns=share.ended_ns + shift_ns,
    )


def _rebased_log(log: SampleLog, shift_ns: int) -> SampleLog:
    return replace(
        log,
        intended_ns=log.intended_ns + shift_ns,
        started_ns=log.started_ns + shift_ns,
        acquired_ns=log.acquired_ns + shift_ns,
        finished_ns=log.finished_ns + shift_ns,
    )


def _rebased_fold(folded: Folded, shift_ns: int) -> Folded:
    shift_s = round(shift_ns / NS_PER_S)
    return replace(
        folded,
        per_second={at + shift_s: n for at, n in folded.per_second.items()},
        finished_max_ns=folded.finished_max_ns and folded.finished_max_ns + shift_ns,
    )
