"""The load engine: knows nothing of Postgres, Spark or HTTP.

Importing this package costs nothing: whoever reads a saved report needs the
quantiles, not the event loops and processes of the engine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.load.calibration import calibrated, pick_workers
    from harness.load.closed_loop import run_closed_loop
    from harness.load.context import OperationContext
    from harness.load.correction import corrected_curve
    from harness.load.histogram import LogLinearHistogram
    from harness.load.intervals import histogram_intervals, quantile_intervals
    from harness.load.open_loop import run_open_loop
    from harness.load.options import RunOptions
    from harness.load.quantiles import QUANTILES, samples_needed, supported_quantiles
    from harness.load.result import LoadResult
    from harness.load.samples import Sample, SampleLog
    from harness.load.schedules import (
        PoissonArrivals,
        RegularArrivals,
        Schedule,
        constant_arrivals,
        poisson_arrivals,
    )
    from harness.load.search import Objective, find_capacity
    from harness.load.sweeps import combinations, doubling, medians, run_sweep
    from harness.load.trace import TraceArrivals, trace_arrivals
    from harness.load.usl import fit_scalability

__all__ = [
    "QUANTILES",
    "LoadResult",
    "LogLinearHistogram",
    "Objective",
    "OperationContext",
    "PoissonArrivals",
    "RegularArrivals",
    "RunOptions",
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

# Where each name lives; it is loaded when it is first asked for.
_HOMES = {
    "LoadResult": "result",
    "LogLinearHistogram": "histogram",
    "Objective": "search",
    "OperationContext": "context",
    "PoissonArrivals": "schedules",
    "QUANTILES": "quantiles",
    "RegularArrivals": "schedules",
    "RunOptions": "options",
    "Sample": "samples",
    "SampleLog": "samples",
    "Schedule": "schedules",
    "TraceArrivals": "trace",
    "calibrated": "calibration",
    "combinations": "sweeps",
    "constant_arrivals": "schedules",
    "corrected_curve": "correction",
    "doubling": "sweeps",
    "find_capacity": "search",
    "fit_scalability": "usl",
    "histogram_intervals": "intervals",
    "medians": "sweeps",
    "pick_workers": "calibration",
    "poisson_arrivals": "schedules",
    "quantile_intervals": "intervals",
    "run_closed_loop": "closed_loop",
    "run_open_loop": "open_loop",
    "run_sweep": "sweeps",
    "samples_needed": "quantiles",
    "supported_quantiles": "quantiles",
    "trace_arrivals": "trace",
}


def __getattr__(name: str) -> Any:
    """Load a name of the engine when somebody asks for it."""
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted(__all__)
