"""pgbench as an anchor: the same workload through C, in the same session."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import ConfigError, TargetError
from harness.load import supported_quantiles
from harness.postgres.binaries import installed_binaries
from harness.postgres.connect import connect
from harness.postgres.seeding import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from harness.postgres.server import ConnectArguments, Server

PROGRAM = "pgbench"
APPLICATION_NAME = "lakegauge-pgbench"
PATIENCE_S = 60.0
GONE_TIMEOUT_S = 5.0
GONE_POLL_S = 0.005
VERSION_TIMEOUT_S = 10.0
# Columns of the log: client, transaction, time, script, epoch, microseconds, lag.
LOG_CLIENT, LOG_TIME, LOG_EPOCH_S, LOG_EPOCH_US, LOG_LAG = 0, 2, 4, 5, 6
LOG_WIDTH = 7
US_PER_S = 1_000_000
NS_PER_US = 1000
PASSED_VARIABLES = ("PATH", "LD_LIBRARY_PATH")

FIGURES = {
    "transactions": r"number of transactions actually processed: (\d+)",
    "failed": r"number of failed transactions: (\d+)",
    "latency_ms_mean": r"latency average = ([\d.]+) ms",
    "start_delay_ms_mean": r"schedule lag: avg ([\d.]+) ",
    "throughput_per_s": r"tps = ([\d.]+) \(without initial connection time\)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pgbench:
    """A pgbench that runs on this machine.

    Attributes:
        program: Its path.
        version: Such as "17.10".
    """

    program: Path
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PgbenchLog:
    """What pgbench wrote down of each transaction, in the order of its log.

    Attributes:
        intended_ns: When its schedule said it should start, on the wall clock.
        response_time_ns: From there until it ended; pgbench counts microseconds.
        start_delay_ns: Started minus intended, which pgbench calls schedule lag.
        client: Which of its clients did it, from 0.
    """

    intended_ns: npt.NDArray[np.int64]
    response_time_ns: npt.NDArray[np.int64]
    start_delay_ns: npt.NDArray[np.int64]
    client: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class PgbenchResult:
    """What one run of pgbench measured.

    Attributes:
        version: Of pgbench.
        protocol: "simple", "extended" or "prepared".
        clients: Connections.
        threads: Threads that served them.
        transactions: Transactions that were done.
        failed: Transactions that failed.
        throughput_per_s: Transactions per second, connecting not counted.
        latency_ms_mean: Mean time of a transaction in milliseconds; at a rate,
            from its intended start.
        cpu_s: CPU time of pgbench itself, in seconds.
        rate_per_s: The rate that was asked for; None for as fast as it goes.
        response_time_ms: Quantiles from the intended start, where there is a rate.
        start_delay_ms: Quantiles of started minus intended, where there is a rate.
        start_delay_ms_mean: Their mean as pgbench itself printed it.
        log: Each transaction, where there is a rate.
    """

    version: str
    protocol: str
    clients: int
    threads: int
    transactions: int
    failed: int
    throughput_per_s: float
    latency_ms_mean: float
    cpu_s: float
    rate_per_s: float | None = None
    response_time_ms: Mapping[str, float] | None = None
    start_delay_ms: Mapping[str, float] | None = None
    start_delay_ms_mean: float | None = None
    log: PgbenchLog | None = field(default=None, repr=False)

    def details(self) -> dict[str, Any]:
        """Return what a record shows of it."""
        shown: dict[str, Any] = {
            "version": self.version,
            "protocol": self.protocol,
            "clients": self.clients,
            "threads": self.threads,
            "transactions": self.transactions,
            "throughput_per_s": round(self.throughput_per_s, 1),
            "latency_ms_mean": self.latency_ms_mean,
            "cpu_us_per_transaction": round(
                self.cpu_s * 1e6 / max(1, self.transactions), 2
            ),
        }
        if self.rate_per_s is not None:
            shown["rate_per_s"] = self.rate_per_s
            shown["response_time_ms"] = dict(self.response_time_ms or {})
            shown["start_delay_ms"] = dict(self.start_delay_ms or {})
        return shown


def find_pgbench(bin_dir: Path | None = None) -> Pgbench | None:
    """Return the first pgbench that runs: as set, the wheel's, the system's; or None.

    Args:
        bin_dir: The folder of Postgres programs that a setting names.
    """
    for program in _programs(bin_dir):
        try:
            answer = subprocess.run(  # noqa: S603 - found by us
                [str(program), "--version"],
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=VERSION_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        found = re.search(r"\(PostgreSQL\) (\S+)", answer.stdout)
        if answer.returncode == 0 and found:
            return Pgbench(program=program, version=found[1])
    return None


def run_pgbench(
    pgbench: Pgbench,
    server: Server,
    *,
    clients: int,
    duration_s: int | None = None,
    count: int | None = None,
    threads: int = 2,
    protocol: str = "prepared",
    workload: str = "select-only",
    script: str | None = None,
    rate_per_s: float | None = None,
    seed: int = 1,
    clock: Clock = SYSTEM_CLOCK,
) -> PgbenchResult:
    """Run a workload through pgbench and return what it measured.

    It works on the tables of `seed_pgbench` and never cleans them up.

    Args:
        pgbench: What `find_pgbench` returned.
        server: Where to connect; the password goes through a file of mode 0600.
        clients: Connections.
        duration_s: Length of the run in whole seconds; give this or *count*.
        count: Transactions of each client.
        threads: Threads; pgbench needs no more than there are cores.
        protocol: "simple", "extended" or "prepared".
        workload: "select-only" or "tpcb-like".
        script: Text of a script to run instead.
        rate_per_s: Poisson arrivals at this rate; default as fast as it goes.
        seed: Seed of its random numbers.
        clock: Bounds the wait for the server to have done with its connections.

    Raises:
        ConfigError: Not exactly one of *duration_s* and *count* is given.
        TargetError: It could not run; the message has its own reason.
    """
    if (duration_s is None) == (count is None):
        msg = f"give either duration_s or count, got {duration_s=} and {count=}"
        raise ConfigError(msg)
    length = f"--time={duration_s}" if count is None else f"--transactions={count}"
    options = [
        *("--no-vacuum", f"--client={clients}", f"--jobs={min(threads, clients)}"),
        *(length, f"--protocol={protocol}", f"--random-seed={seed}"),
    ]
    if rate_per_s is not None:
        options += [f"--rate={rate_per_s}", "--log", "--log-prefix=log"]
    with tempfile.TemporaryDirectory(prefix="lakegauge-pgbench-") as name:
        folder = Path(name)
        if script is None:
            options.append(f"--builtin={workload}")
        else:
            (folder / "script.sql").write_text(script)
            options.append("--file=script.sql")
        environment = _environment() | _write_service(
            folder, server.connect_arguments()
        )
        cpu_from_s = _children_cpu_s()
        try:
            done = subprocess.run(  # noqa: S603 - found by us
                [str(pgbench.program), *options, "service=lakegauge"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=(duration_s or 0) + PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            msg = f"pgbench ({length}) did not end {PATIENCE_S:.0f} s after its time"
            raise TargetError(msg) from None
        cpu_s = _children_cpu_s() - cpu_from_s
        log = _read_log(folder) if rate_per_s is not None else None
    found = {name: re.search(text, done.stdout) for name, text in FIGURES.items()}
    if done.returncode != 0 or not found["throughput_per_s"]:
        raise TargetError(_reason(done.stderr, server.connect_arguments()))
    _wait_until_gone(server, clock=clock)
    figures = {name: float(match[1]) for name, match in found.items() if match}
    return PgbenchResult(
        version=pgbench.version,
        protocol=protocol,
        clients=clients,
        threads=min(threads, clients),
        transactions=int(figures["transactions"]),
        # pgbench before 15 does not tell: it ends at the first error.
        failed=int(figures.get("failed", 0)),
        throughput_per_s=figures["throughput_per_s"],
        latency_ms_mean=figures["latency_ms_mean"],
        cpu_s=cpu_s,
        rate_per_s=rate_per_s,
        response_time_ms=_quantiles_ms(log.response_time_ns) if log else None,
        start_delay_ms=_quantiles_ms(log.start_delay_ns) if log else None,
        start_delay_ms_mean=figures.get("start_delay_ms_mean"),
        log=log,
    )


def _programs(bin_dir: Path | None) -> Iterator[Path]:
    folders = [bin_dir] if bin_dir is not None else []
    for folder in (*folders, *(found.folder for found in installed_binaries())):
        if (folder / PROGRAM).is_file():
            yield folder / PROGRAM
    on_path = shutil.which(PROGRAM)
    if on_path is not None:
        yield Path(on_path)


def _environment() -> dict[str, str]:
    from harness.settings import child_environment

    ours = child_environment()
    passed = {name: ours[name] for name in PASSED_VARIABLES if name in ours}
    return {**passed, "LC_ALL": "C", "TZ": "UTC"}


def _write_service(folder: Path, arguments: ConnectArguments) -> dict[str, str]:
    """Write how to connect into two files; return the variables that name them.

    Neither a command line nor an environment is a place for a password: others on
    the machine may read both.
    """
    from psycopg import pq

    # Arguments of psycopg alone mean nothing to libpq.
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    path = f"-c search_path={SCHEMA}"
    told = {
        **{key: value for key, value in arguments.items() if key in known},
        "options": f"{arguments.get('options') or ''} {path}".strip(),
        "application_name": APPLICATION_NAME,
    }
    password = str(told.pop("password", None) or "")
    lines = [f"{key}={value}" for key, value in told.items() if value not in (None, "")]
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    service, passfile = folder / "service.conf", folder / "passfile"
    for file, text in (
        (service, "\n".join(["[lakegauge]", *lines, ""])),
        (passfile, f"*:*:*:*:{escaped}\n"),
    ):
        file.touch(mode=0o600)
        file.write_text(text)
    return {"PGSERVICEFILE": str(service), "PGPASSFILE": str(passfile)}


def _wait_until_gone(server: Server, *, clock: Clock) -> None:
    """Wait until the server has ended its sessions and counted what they did."""
    with connect(server.connect_arguments()) as connection:
        deadline_ns = clock.monotonic_ns() + int(GONE_TIMEOUT_S * NS_PER_S)
        while clock.monotonic_ns() < deadline_ns:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s",
                (APPLICATION_NAME,),
            ).fetchone()
            if row == (0,):
                return
            clock.sleep(GONE_POLL_S)


def _read_log(folder: Path) -> PgbenchLog:
    """Read what a run at a rate wrote down of every transaction that succeeded."""
    rows = [
        line.split()
        for file in sorted(folder.glob("log.*"))
        for line in file.read_text().splitlines()
    ]
    # A transaction that failed has a word in the place of its time.
    good = [row for row in rows if len(row) >= LOG_WIDTH and row[LOG_TIME].isdigit()]
    table = np.array([row[:LOG_WIDTH] for row in good], dtype=np.int64)
    table = table.reshape(-1, LOG_WIDTH)
    ended_us = table[:, LOG_EPOCH_S] * US_PER_S + table[:, LOG_EPOCH_US]
    return PgbenchLog(
        intended_ns=(ended_us - table[:, LOG_TIME]) * NS_PER_US,
        response_time_ns=table[:, LOG_TIME] * NS_PER_US,
        start_delay_ns=table[:, LOG_LAG] * NS_PER_US,
        client=table[:, LOG_CLIENT],
    )


def _quantiles_ms(values_ns: npt.NDArray[np.int64]) -> dict[str, float]:
    found = supported_quantiles(values_ns)
    return {key: round(value / NS_PER_MS, 3) for key, value in found.items()}


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _reason(text: str, arguments: ConnectArguments) -> str:
    """Return pgbench's own reason, without any secret."""
    secret = arguments.get("password")
    if secret:
        text = text.replace(str(secret), "***")
    lines = [line for line in text.splitlines() if "error" in line or "FATAL" in line]
    return f"pgbench failed: {(lines or text.splitlines() or ['no reason given'])[0]}"
