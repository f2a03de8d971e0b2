"""What counts as a change, and which reports it may be held against."""

from __future__ import annotations

from typing import Annotated, Literal

from harness.settings.field import Count, Group, Kind, Setting, Text


class VerdictSettings(Group):
    """Thresholds of the verdict and the age of a baseline."""

    thresholds: Annotated[
        Annotated[Text, Kind("rules such as p50=2%, test_pool_*:p99=20%")] | None,
        Setting(
            "LAKEGAUGE_THRESHOLDS",
            "Change that matters, [PATTERN:]METRIC=CHANGE with commas between; metrics "
            "min, p50, p95, p99, throughput, errors.",
        ),
    ] = None
    environment_guard: Annotated[
        Literal["downgrade", "note"],
        Setting(
            "LAKEGAUGE_ENVIRONMENT_GUARD",
            "What a machine in no state to measure does to a verdict: take it back, "
            "or be noted beside it.",
        ),
    ] = "downgrade"
    baseline_age_days: Annotated[
        Count,
        Setting(
            "LAKEGAUGE_BASELINE_AGE_DAYS",
            "Days after which a report is too old to be taken as a baseline unasked.",
        ),
    ] = 45
