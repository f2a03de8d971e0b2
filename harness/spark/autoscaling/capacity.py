"""How many rows per second a number of workers gets through, measured and beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ConfigError
from harness.load.usl import POINTS_NEEDED, fit_scalability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.load.usl import ScalabilityFit


@dataclass(frozen=True, slots=True)
class CapacityCurve:
    """Rows per second by number of workers.

    What was measured is given as it was measured. Elsewhere a law answers, and
    `is_extrapolated` says so: with four points or more the Universal Scalability
    Law (`harness.load.usl`), with fewer Amdahl's law through the first and the last
    (1967; the share of the work that only one worker can do follows from the two),
    with one point a straight line through it, which flatters.

    Attributes:
        measured_rows_per_s: By number of workers; at least one.
    """

    measured_rows_per_s: Mapping[int, float]

    def __post_init__(self) -> None:
        if not self.measured_rows_per_s:
            raise ConfigError("measured_rows_per_s: at least one measurement is needed")
        for workers, rows_per_s in self.measured_rows_per_s.items():
            if workers < 1 or rows_per_s <= 0:
                msg = (
                    "measured_rows_per_s: workers must be >= 1 and rows/s > 0, "
                    f"got {workers}: {rows_per_s}"
                )
                raise ConfigError(msg)

    def rows_per_s(self, workers: int) -> float:
        """Return the capacity of a number of workers; none get nothing done."""
        if workers <= 0:
            return 0.0
        if workers in self.measured_rows_per_s:
            return self.measured_rows_per_s[workers]
        if len(self.measured_rows_per_s) >= POINTS_NEEDED:
            return self._fit().at(workers).throughput_per_s
        one_rows_per_s, serial = self._amdahl()
        return one_rows_per_s * workers / (1 + serial * (workers - 1))

    def is_extrapolated(self, workers: int) -> bool:
        """Whether the number of workers was not measured, so that a law answers."""
        return workers > 0 and workers not in self.measured_rows_per_s

    @property
    def law(self) -> str:
        """What answers where nothing was measured, in words for a report."""
        if len(self.measured_rows_per_s) >= POINTS_NEEDED:
            return self._fit().describe()
        if len(self.measured_rows_per_s) == 1:
            return "straight line through one measurement"
        _, serial = self._amdahl()
        if serial > 1:
            return "the line through two measurements, where more workers were slower"
        return f"Amdahl's law, {serial:.0%} of the work one at a time"

    def _fit(self) -> ScalabilityFit:
        measured = self.measured_rows_per_s.items()
        return fit_scalability({float(workers): rate for workers, rate in measured})

    def _amdahl(self) -> tuple[float, float]:
        """Return rows/s of one worker, and the share of work done one at a time.

        Both from n / C(n) = (1 + s (n - 1)) / C(1), a line in n - 1.
        """
        first, last = min(self.measured_rows_per_s), max(self.measured_rows_per_s)
        first_cost = first / self.measured_rows_per_s[first]
        if first == last:
            return 1 / first_cost, 0.0
        last_cost = last / self.measured_rows_per_s[last]
        slope = (last_cost - first_cost) / (last - first)
        one_cost = first_cost - slope * (first - 1)
        # Measured better than proportional: noise, which a law must not continue.
        if slope <= 0 or one_cost <= 0:
            return 1 / last_cost, 0.0
        return 1 / one_cost, slope / one_cost
