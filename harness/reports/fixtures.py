"""The fixtures by which a test puts what it measured into the report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.load import LoadResult
    from harness.reports.bridge import ReplayTimer
    from harness.reports.summary import Measurement

Value = TypeVar("Value")

RECORDING_FIXTURES = frozenset(("record_load", "record_durations"))


TIMER: pytest.StashKey[ReplayTimer] = pytest.StashKey()
MEASUREMENT: pytest.StashKey[Measurement] = pytest.StashKey()


@pytest.fixture
def sized(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that picks between the full value and the smoke value.

    `sized(full=30.0, smoke=0.5)` gives 0.5 under `--smoke`, else 30.0.
    """
    use_smoke = bool(request.config.getoption("--smoke"))

    def pick(*, full: Value, smoke: Value) -> Value:
        return smoke if use_smoke else full

    return pick


@pytest.fixture
def record_load(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that files a `LoadResult` as this test's benchmark.

    `record_load(result, measure="response_time", details=None, invalid=None)`. Fails
    the test if no operation completed, showing the first error. *invalid* says why
    the test itself takes this for no result.
    """

    def record(
        result: LoadResult,
        *,
        measure: str = "response_time",
        details: Mapping[str, Any] | None = None,
        invalid: str | None = None,
    ) -> None:
        from harness.reports.summary import measurement_of_load

        try:
            measurement = measurement_of_load(result, measure=measure)
        except ValueError as error:
            cause = next(iter(result.examples.values()), None)
            pytest.fail(f"{error}; first error: {cause}", pytrace=False)
        measurement.block["details"] = dict(details or {})
        reasons = [reason for reason in (measurement.invalid, invalid) if reason]
        measurement = replace(measurement, invalid="; ".join(reasons) or None)
        _file(benchmark, request, measurement)
        if result.interrupted:
            # The engine took Ctrl-C to end the run cleanly; pytest is told now.
            so_far = f"{result.completed} operations in {result.wall_s:.1f} s"
            raise KeyboardInterrupt(so_far)

    return record


@pytest.fixture
def record_durations(
    benchmark: Any, request: pytest.FixtureRequest
) -> Callable[..., None]:
    """Return a function that files durations a subject measured itself.

    `record_durations(durations_s, measure="ttft", wall_s=12.3, completed=None,
    failed=None, details=None)`; durations in seconds.
    """

    def record(durations_s: Sequence[float], **about: Any) -> None:
        from harness.reports.summary import measurement_of_durations

        _file(benchmark, request, measurement_of_durations(durations_s, **about))

    return record


def _file(
    benchmark: Any, request: pytest.FixtureRequest, measurement: Measurement
) -> None:
    from harness.reports.bridge import file_measurement

    if benchmark.disabled:
        benchmark.pedantic(lambda: None)
        return
    request.node.stash[MEASUREMENT] = measurement
    file_measurement(benchmark, request.node.stash[TIMER], measurement)


def is_benchmark(item: pytest.Item) -> bool:
    """Whether the test measures something."""
    return "benchmark" in getattr(item, "fixturenames", ())
