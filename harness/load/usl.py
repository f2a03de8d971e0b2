"""The Universal Scalability Law, fitted to measured throughput."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Three parameters always fit three points; the fourth can disagree.
POINTS_NEEDED = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a fit says of one number of callers.

    Attributes:
        throughput_per_s: The throughput of the fitted curve there.
        extrapolated: Whether nobody measured this far: treat it as a question.
    """

    throughput_per_s: float
    extrapolated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalabilityFit:
    """Throughput of n callers as lambda * n / (1 + sigma (n-1) + kappa n (n-1)).

    Gunther, Guerrilla Capacity Planning, 2007. A fit, not a measurement.

    Attributes:
        rate_per_s: lambda, the throughput of one caller.
        contention: sigma, the share of the work that is done one at a time.
        coherency: kappa, the cost of each pair of callers to keep in step.
        r_squared: Share of the variance of throughput that the curve explains.
        callers_min: Fewest callers measured.
        callers_max: Most callers measured.
    """

    rate_per_s: float
    contention: float
    coherency: float
    r_squared: float
    callers_min: float
    callers_max: float

    def at(self, callers: float) -> Prediction:
        """Return the curve at a number of callers, marked where it was not measured."""
        return Prediction(
            throughput_per_s=float(_curve(self, np.array([callers]))[0]),
            extrapolated=not self.callers_min <= callers <= self.callers_max,
        )

    @property
    def peak_callers(self) -> float | None:
        """Callers beyond which the curve falls; None if it never does."""
        if self.coherency <= 0:
            return None
        return max(1.0, math.sqrt(max(0.0, 1 - self.contention) / self.coherency))

    def describe(self) -> str:
        """Return one line for a report."""
        peak = self.peak_callers
        if peak is None:
            end = "no peak: nothing in it makes more callers slower"
        else:
            there = self.at(peak)
            end = f"peak {there.throughput_per_s:.4g}/s at {peak:.3g} callers"
            if there.extrapolated:
                end += (
                    f", EXTRAPOLATED: {self.callers_min:g} to {self.callers_max:g} "
                    "were measured"
                )
        return (
            f"USL fit (a fit, not a measurement): {self.rate_per_s:.4g}/s per caller, "
            f"contention {self.contention:.3g}, coherency {self.coherency:.3g}, "
            f"R^2 {self.r_squared:.3f}; {end}"
        )


def fit_scalability(throughput_per_s: Mapping[float, float]) -> ScalabilityFit:
    """Fit the law to the throughput of each number of callers.

    Divided through, the law is linear: n / X = a + b (n-1) + c n (n-1), with
    a = 1 / lambda, b = sigma a, c = kappa a. Rows are weighted by X / n, so that each
    point counts by its relative error. No parameter may be negative: of three
    columns each subset is tried, which solves the constrained problem exactly.

    Args:
        throughput_per_s: Callers -> throughput; of repeats give the median.

    Raises:
        ConfigError: If there are fewer than four points, or one is not positive.
    """
    if len(throughput_per_s) < POINTS_NEEDED:
        msg = (
            f"a USL fit needs {POINTS_NEEDED} numbers of callers or more, got "
            f"{sorted(throughput_per_s)}: three parameters fit any three points"
        )
        raise ConfigError(msg)
    callers = np.array(sorted(throughput_per_s), dtype=np.float64)
    throughput = np.array([throughput_per_s[n] for n in sorted(throughput_per_s)])
    if not (np.isfinite(throughput).all() and (throughput > 0).all()):
        msg = f"a USL fit needs throughputs > 0, got {dict(throughput_per_s)}"
        raise ConfigError(msg)
    if not (callers >= 1).all():
        msg = f"a USL fit needs 1 caller or more, got {callers.min():g}"
        raise ConfigError(msg)
    columns = np.column_stack(
        (np.ones_like(callers), callers - 1, callers * (callers - 1))
    )
    weighted = columns * (throughput / callers)[:, None]
    target = np.ones_like(callers)
    best, best_error = np.zeros(3), math.inf
    for kept in itertools.product((True, False), repeat=2):
        used = [0, *(i for i, keep in enumerate(kept, start=1) if keep)]
        found = np.zeros(3)
        found[used] = np.linalg.lstsq(weighted[:, used], target, rcond=None)[0]
        error = float(((weighted @ found - target) ** 2).sum())
        if (found >= 0).all() and found[0] > 0 and error < best_error:
            best, best_error = found, error
    predicted = callers / (columns @ best)
    spread = float(((throughput - throughput.mean()) ** 2).sum())
    residual = float(((throughput - predicted) ** 2).sum())
    return ScalabilityFit(
        rate_per_s=float(1 / best[0]),
        contention=float(best[1] / best[0]),
        coherency=float(best[2] / best[0]),
        # A flat line leaves no variance to explain.
        r_squared=1 - residual / spread if spread else 0.0,
        callers_min=float(callers.min()),
        callers_max=float(callers.max()),
    )


def _curve(
    fit: ScalabilityFit, callers: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    slowdown = 1 + fit.contention * (callers - 1)
    slowdown = slowdown + fit.coherency * callers * (callers - 1)
    return fit.rate_per_s * callers / slowdown
