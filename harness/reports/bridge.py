"""The bridge: measured samples become ordinary pytest-benchmark records.

Everything that depends on how pytest-benchmark works inside is in this module.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import ConfigError
from harness.load import supported_quantiles
from harness.load.injection import slowed
from harness.reports.record import BLOCK, Fact
from harness.reports.summary import (
    REPLAY_BUDGET,
    Measurement,
    case_block,
    measured_stats,
    micro_block,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from harness.reports.compare import CaseComparison

# A parameter longer than this as JSON is replaced by its beginning: one 50,000
# element list once made a report of 1.8 GB (pytest-benchmark issue 96).
PARAM_CHARACTERS_MAX = 200
# Further rounds to calibrate with, while they take no more of the time than this.
_CALIBRATION_ROUNDS, _CALIBRATION_SHARE = 5, 0.2


class ReplayTimer:
    """A benchmark timer that replays durations measured elsewhere.

    pytest-benchmark reads its timer twice per round. A load run is timed by the
    load generator, so the rounds are replayed: table, saved report and
    `--benchmark-compare` then show response times, not the length of the run.
    """

    __name__ = "ReplayTimer"

    def __init__(self) -> None:
        self._ticks: Iterator[float] = iter(())

    def load(self, durations_s: Iterable[float]) -> None:
        """Queue the durations of the rounds to come, in seconds."""
        self._ticks = itertools.chain.from_iterable((0.0, d) for d in durations_s)

    def __call__(self) -> float:
        """Return the next reading."""
        return next(self._ticks)


def file_measurement(
    benchmark: Any, timer: ReplayTimer, measurement: Measurement
) -> None:
    """Make *measurement* the record of this test, through the public interface.

    What a budgeted replay cannot give exactly is then set on the statistics object:
    its fields are computed on first use and kept, so a value set before wins. Where
    a version of pytest-benchmark stops honouring that, `finished_record` still puts
    the exact values into the report.
    """
    rounds = measurement.replayed_s()
    timer.load(rounds)
    benchmark.pedantic(lambda: None, rounds=len(rounds))
    stats = benchmark.stats.stats
    for key, value in measured_stats(measurement).items():
        # The outlier counts are properties: they have no setter.
        if key in stats.fields and not key.endswith("_outliers"):
            setattr(stats, key, value)


def slow_down_rounds(fixture: Any) -> None:
    """Make what this fixture times take the injected share longer.

    Both ways of measuring make a runner of the function; there is no hook for it.

    Raises:
        ConfigError: If this version of pytest-benchmark makes it otherwise.
    """
    make_runner = _runner_maker(fixture)
    if make_runner is None:
        msg = "--slow-down: this version of pytest-benchmark cannot be slowed down"
        raise ConfigError(msg)

    def make_slowed(function: Any, arguments: Any, keywords: Any) -> Any:
        return make_runner(slowed(function), arguments, keywords)

    fixture._make_runner = make_slowed  # noqa: SLF001  # see above


def before_each_round(fixture: Any, act: Callable[[], None]) -> None:
    """Call *act* before each round that this fixture times, outside of what is timed.

    Where a version of pytest-benchmark makes its runners otherwise, nothing is called.
    """
    make_runner = _runner_maker(fixture)
    if make_runner is None:
        return

    def make_acting(function: Any, arguments: Any, keywords: Any) -> Any:
        runner = make_runner(function, arguments, keywords)

        def act_and_run(*given: Any, **named: Any) -> Any:
            act()
            return runner(*given, **named)

        return act_and_run

    fixture._make_runner = make_acting  # noqa: SLF001  # there is no hook for it


def repeat_calibration(fixture: Any) -> None:
    """Take the fastest of a few rounds to reckon how many rounds fill the time.

    pytest-benchmark takes one. If that one was interrupted, the case is measured for
    a hundredth of the time, all of it in a disturbed moment.
    """
    calibrate = getattr(fixture, "_calibrate_timer", None)
    if calibrate is None:
        return

    def calibrate_again(runner: Callable[..., float]) -> tuple[float, int, range]:
        duration_s, loops, loops_range = calibrate(runner)
        spent_s = 0.0
        for _ in range(_CALIBRATION_ROUNDS):
            again_s = runner(loops_range)
            duration_s, spent_s = min(duration_s, again_s), spent_s + again_s
            if spent_s > fixture._max_time * _CALIBRATION_SHARE:  # noqa: SLF001
                break
        return duration_s, loops, loops_range

    fixture._calibrate_timer = calibrate_again  # noqa: SLF001  # there is no hook for it


def _runner_maker(fixture: Any) -> Callable[[Any, Any, Any], Any] | None:
    found: Callable[[Any, Any, Any], Any] | None
    found = getattr(fixture, "_make_runner", None)
    return found


def finished_record(
    metadata: Any,
    measurement: Measurement | None,
    *,
    facts: Mapping[str, Fact],
    include_data: bool,
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the JSON record of a test that passed.

    Args:
        metadata: pytest-benchmark's object for the test (`benchmark.stats`).
        measurement: What was filed with `file_measurement`; None for rounds that
            pytest-benchmark timed itself.
        facts: What was measured.
        include_data: Whether raw values were asked for; they are left out above
            `REPLAY_BUDGET` values whatever was asked for.
        thresholds: Change that matters to this case, by metric.
    """
    record: dict[str, Any] = metadata.as_dict(include_data=False)
    stats: dict[str, Any] = record["stats"]
    data_s = metadata.stats.data
    if measurement is None:
        values_s = np.asarray(data_s, dtype=np.float64)
        block = micro_block(data_s, facts=facts)
        stats |= supported_quantiles(values_s)
        stats |= {"throughput": stats["ops"], "errors": 0}
    else:
        values_s = measurement.values_s
        block = case_block(measurement, facts=facts)
        stats |= measured_stats(measurement)
    block = block.model_copy(update={"thresholds": dict(thresholds or {})})
    kept_whole = measurement is None or measurement.histogram is None
    if include_data and kept_whole and len(values_s) <= REPLAY_BUDGET:
        stats["data"] = [float(value) for value in values_s]
    record["extra_info"] = {
        **record["extra_info"],
        BLOCK: block.model_dump(mode="json", exclude_none=True),
    }
    record["params"] = _bounded_params(record["params"])
    plain: dict[str, Any] = json.loads(json.dumps(record, default=_plain))
    return plain


def release_raw_data(metadata: Any) -> None:
    """Let go of the raw rounds of a finished test, keeping what the table needs.

    pytest-benchmark holds every round of every test until the session ends; a full
    run would grow by about 30 bytes per operation. Its fields are computed once
    here and stay as they are.
    """
    stats = metadata.stats
    for key in stats.fields:
        getattr(stats, key)
    del stats.data[1000:]
    stats.__dict__.pop("sorted_data", None)


def gate_findings(session: Any, comparisons: Sequence[CaseComparison]) -> list[str]:
    """Evaluate `--benchmark-compare-fail` on what may be compared, a line a finding.

    pytest-benchmark's own findings are dropped: they include cases that are not
    comparable, and it raises them as an exception in the middle of the summary. A
    gate that compared nothing has not been passed.
    """
    session.performance_regressions.clear()
    pairs = [
        (case.fullname, case.contender["stats"], case.baseline["stats"])
        for case in comparisons
        if case.status == "compared" and case.contender and case.baseline
    ]
    if not pairs:
        return ["GATE: --benchmark-compare-fail found no case it could compare"]
    return [
        f"REGRESSED: {fullname}: {failure}"
        for fullname, now, before in pairs
        for check in session.compare_fail
        if (failure := check.fails(now, before))
    ]


def wants_builtin_table(option: Any) -> bool:
    """Whether an option was given that only pytest-benchmark's own table answers."""
    return bool(
        option.benchmark_verbose
        or option.benchmark_columns
        or option.benchmark_histogram
        or option.benchmark_cprofile
        or option.benchmark_sort != "min"
        or option.benchmark_group_by != "group"
        or option.benchmark_name != "normal"
    )


def _bounded_params(params: dict[str, Any] | None) -> dict[str, Any] | None:
    if params is None:
        return None
    bounded = {}
    for name, value in params.items():
        text = json.dumps(value, default=repr)
        cut = len(text) > PARAM_CHARACTERS_MAX
        bounded[name] = f"{text[:PARAM_CHARACTERS_MAX]}..." if cut else value
    return bounded


def _plain(value: object) -> Any:
    """Turn what JSON does not know into what it does: numpy scalars, then text."""
    if isinstance(value, np.generic):
        return value.item()
    return repr(value)
