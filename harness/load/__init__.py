"""The load engine: knows nothing of Postgres, Spark or HTTP."""

from __future__ import annotations

from harness.load.closed_loop import OperationContext, run_closed_loop
from harness.load.histogram import LogLinearHistogram
from harness.load.quantiles import QUANTILES, samples_needed, supported_quantiles
from harness.load.result import LoadResult
from harness.load.samples import Sample, SampleLog

__all__ = [
    "QUANTILES",
    "LoadResult",
    "LogLinearHistogram",
    "OperationContext",
    "Sample",
    "SampleLog",
    "run_closed_loop",
    "samples_needed",
    "supported_quantiles",
]
