"""What one pytest session knows of its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from harness.reports.baseline import BaselineChoice
    from harness.reports.environment import EnvironmentWatch
    from harness.reports.journal import Journal


@dataclass
class ReportState:
    """What one session knows of its report.

    Attributes:
        folder: Where reports are kept.
        machine_id: Subfolder of reports of this kind of machine.
        save_as: Name to save under, or None.
        json_path: Where `--benchmark-json` wants a copy, or None.
        include_data: Whether raw values were asked for.
        baseline: What this run is compared with; None if not asked for.
        journal: The report in progress; None until the first case ends.
        deselected: Node ids left out by `-k` or `-m`.
        watch: Watches the machine from the first case on.
        messages: Lines for the end of the run.
        session: The pytest session once it ends; its exit status is ours to set.
    """

    folder: Path
    machine_id: str
    save_as: str | None = None
    json_path: Path | None = None
    include_data: bool = False
    baseline: BaselineChoice | None = None
    journal: Journal | None = None
    watch: EnvironmentWatch | None = None
    deselected: set[str] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)
    session: Any = None
