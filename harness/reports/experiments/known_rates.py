"""What a calibration found out about the gate, for the verdicts that follow it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime  # noqa: TC003  # pydantic reads it
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.reports.machine import CHECKED_MACHINE_INFO
from harness.reports.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from harness.reports.verdict.model import Comparison

RATES_FILE = "rates.json"


class _Rates(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    measured_at: datetime
    machine_info: dict[str, Any]
    selection: list[str]
    pairs: int
    blocks: int
    false_alarms: float
    power: dict[str, float]


def with_known_rates(comparison: Comparison, folder: Path) -> Comparison:
    """Note how often this gate was right on this machine, if that was measured.

    Args:
        comparison: A comparison whose runs were made on one machine.
        folder: The folder of reports.
    """
    note = rates_note(folder, dict(comparison.machine_info))
    return replace(comparison, notes=(*comparison.notes, note)) if note else comparison


def rates_note(folder: Path, machine_info: dict[str, Any]) -> str:
    """Return the newest calibration of this machine as a sentence; "" without one."""
    for path in sorted(folder.glob(f"calibrate/*/{RATES_FILE}"), reverse=True):
        try:
            rates = _Rates.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return f"the calibration {path} is damaged: calibrate anew"
        if any(
            rates.machine_info.get(key) != machine_info.get(key)
            for key in CHECKED_MACHINE_INFO
        ):
            continue
        seen = ", ".join(
            f"{share:.0%} at +{float(slowdown):.0%}"
            for slowdown, share in rates.power.items()
        )
        cases = printable(" ".join(rates.selection))
        return (
            f"Calibrated on this machine {rates.measured_at:%Y-%m-%d} with {cases} and "
            f"{rates.pairs} pairs: false alarms in {rates.false_alarms:.2%} of cases, "
            f"regressions seen: {seen}"
        )
    return ""
