"""The report of the run in progress, on disk after every finished case."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK, Clock
from harness.reports.environment import EnvironmentWatch
from harness.reports.record import BLOCK, EnvironmentBlock, RunBlock
from harness.reports.store import UNFINISHED, write_report

if TYPE_CHECKING:
    from pathlib import Path


# Begins the outcome of a case that passed as a test but is no result.
INVALID = "invalid: "


class Journal:
    """Collects the records of one run and keeps a readable report of them on disk.

    A run that is killed loses the case in flight and nothing else: after every case
    `unfinished/<time>-<pid>.json` is replaced by a whole report of the cases so far.

    Args:
        folder: The folder of reports.
        pid: Process id, to keep two runs of one second apart.
        header: The top level of a report: machine_info, commit_info, version.
        smoke: Whether smoke values are used.
        watch: What watches the machine since the run began; default: from now on.
        clock: Gives the time of the run.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pid: int,
        header: dict[str, Any],
        smoke: bool,
        watch: EnvironmentWatch | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        started = clock.now().astimezone(UTC)
        self.path = folder / UNFINISHED / f"{started:%Y%m%d_%H%M%S}-{pid}.json"
        self.failed: dict[str, str] = {}
        self.records: dict[str, dict[str, Any]] = {}
        self._header = {**header, "datetime": started.isoformat()}
        self._smoke = smoke
        self._watch = watch or EnvironmentWatch()
        self._environment: EnvironmentBlock | None = None

    def add(self, record: dict[str, Any]) -> None:
        """Put a finished case on disk; a case that ran again replaces itself.

        Raises:
            ReportError: If it cannot be written.
        """
        self.failed.pop(record["fullname"], None)
        self.records[record["fullname"]] = record
        write_report(self.path, self.document(complete=False))

    def add_failed(self, fullname: str, outcome: str) -> None:
        """Note a case that did not pass: it must not become a baseline.

        Raises:
            ReportError: If it cannot be written.
        """
        self.records.pop(fullname, None)
        self.failed[fullname] = outcome
        if self.records:
            write_report(self.path, self.document(complete=False))

    def document(self, *, complete: bool) -> dict[str, Any]:
        """Return the report so far."""
        if complete and self._environment is None:
            self._environment = self._watch.finish()
        block = RunBlock(
            complete=complete,
            smoke=self._smoke,
            failed=self.failed,
            environment=self._environment,
        )
        return {
            **self._header,
            "benchmarks": list(self.records.values()),
            BLOCK: block.model_dump(mode="json", exclude_none=True),
        }

    def discard(self) -> None:
        """Remove the file: the run has ended and was saved, or need not be."""
        self.path.unlink(missing_ok=True)
