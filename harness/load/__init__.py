"""The load engine: knows nothing of Postgres, Spark or HTTP."""

from __future__ import annotations

from harness.load.closed_loop import run_closed_loop
from harness.load.context import OperationContext
from harness.load.histogram import LogLinearHistogram
from harness.load.open_loop import run_open_loop
from harness.load.quantiles import QUANTILES, samples_needed, supported_quantiles
from harness.load.result import LoadResult
from harness.load.samples import Sample, SampleLog
from harness.load.schedules import (
    PoissonArrivals,
    RegularArrivals,
    Schedule,
    TraceArrivals,
    constant_arrivals,
    poisson_arrivals,
    trace_arrivals,
)

__all__ = [
    "QUANTILES",
    "LoadResult",
    "LogLinearHistogram",
    "OperationContext",
    "PoissonArrivals",
    "RegularArrivals",
    "Sample",
    "SampleLog",
    "Schedule",
    "TraceArrivals",
    "constant_arrivals",
    "poisson_arrivals",
    "run_closed_loop",
    "run_open_loop",
    "samples_needed",
    "supported_quantiles",
    "trace_arrivals",
]
