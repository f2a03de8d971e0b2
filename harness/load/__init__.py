"""The load engine: knows nothing of Postgres, Spark or HTTP."""

from __future__ import annotations

from harness.load.calibration import calibrated, pick_workers
from harness.load.closed_loop import run_closed_loop
from harness.load.context import OperationContext
from harness.load.correction import corrected_curve
from harness.load.histogram import LogLinearHistogram
from harness.load.intervals import histogram_intervals, quantile_intervals
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
from harness.load.search import Objective, find_capacity
from harness.load.sweeps import combinations, doubling, medians, run_sweep
from harness.load.usl import fit_scalability

__all__ = [
    "QUANTILES",
    "LoadResult",
    "LogLinearHistogram",
    "Objective",
    "OperationContext",
    "PoissonArrivals",
    "RegularArrivals",
    "Sample",
    "SampleLog",
    "Schedule",
    "TraceArrivals",
    "calibrated",
    "combinations",
    "constant_arrivals",
    "corrected_curve",
    "doubling",
    "find_capacity",
    "fit_scalability",
    "histogram_intervals",
    "medians",
    "pick_workers",
    "poisson_arrivals",
    "quantile_intervals",
    "run_closed_loop",
    "run_open_loop",
    "run_sweep",
    "samples_needed",
    "supported_quantiles",
    "trace_arrivals",
]
