"""How much load the benchmarks make, and on how much data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from harness.settings.field import (
    Count,
    Counts,
    Delay,
    Group,
    Kind,
    Seconds,
    Setting,
)
from harness.settings.pool import PresetName  # noqa: TC001 - pydantic reads it

# A table name reaches SQL as an identifier, so it is one, and a short one.
TableName = Annotated[
    str,
    Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$"),
    Kind("a lower-case SQL name of at most 63 letters, digits and _"),
]


class BenchmarkSettings(Group):
    """Threads, duration and table of the benchmarks."""

    preset: Annotated[
        PresetName | None,
        Setting(
            "LAKEGAUGE_PRESET",
            "Sizes to use where nothing else sets pool_size, max_overflow and "
            "thread_counts.",
            option="--preset",
        ),
    ] = None
    thread_counts: Annotated[
        Counts,
        Setting("BENCHMARK_THREAD_COUNTS", "Numbers of concurrent callers to measure."),
    ] = (20, 40, 80, 100)
    test_duration_seconds: Annotated[
        Seconds,
        Setting("BENCHMARK_TEST_DURATION_SECONDS", "Length of one load, in seconds."),
    ] = 30.0
    table_rows: Annotated[
        Count, Setting("BENCHMARK_TABLE_ROWS", "Rows of the seeded table.")
    ] = 1_000_000
    batch_size: Annotated[
        Count, Setting("BENCHMARK_BATCH_SIZE", "Rows per batch when seeding.")
    ] = 10_000
    table_name: Annotated[
        TableName, Setting("BENCHMARK_TABLE_NAME", "Name of the seeded table.")
    ] = "benchmark_test"
    connection_stagger_delay: Annotated[
        Delay,
        Setting(
            "BENCHMARK_CONNECTION_STAGGER_DELAY",
            "Wait between opening two connections, in seconds.",
            used=False,
        ),
    ] = 0.05
    max_pool_init_time: Annotated[
        Seconds,
        Setting(
            "BENCHMARK_MAX_POOL_INIT_TIME",
            "Longest wait for the pool to be filled, in seconds.",
        ),
    ] = 90.0
