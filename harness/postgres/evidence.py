"""What the server itself says of one phase: deltas of its counters, waits and CPU.

Nothing is ever reset: others may be counting too. What the role may not read, or the
server does not have, is named in `missing`.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.postgres.connect import connect

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    import psutil
    import psycopg

    from harness.postgres.server import Server

    Row = Mapping[str, float]
    Rows = Mapping[str, Row]

APPLICATION_NAME = "lakegauge-evidence"
WAIT_SAMPLE_INTERVAL_S = 0.2
JOIN_TIMEOUT_S = 10.0
# Reading the processes of a server whose backends come and go all the time.
SNAPSHOT_ATTEMPTS = 50
STATEMENTS_SHOWN = 5
STATEMENT_LENGTH_MAX = 80
WAITS_SHOWN = 8
VERSION_IO = 16

DATABASE = """
    SELECT 'all', xact_commit, xact_rollback, blks_read, blks_hit, tup_returned,
        tup_fetched, tup_inserted, tup_updated, tup_deleted, conflicts, temp_files,
        temp_bytes, deadlocks, blk_read_time AS blk_read_ms,
        blk_write_time AS blk_write_ms
    FROM pg_stat_database WHERE datname = current_database()
"""
WAL = "SELECT 'all', wal_records, wal_fpi, wal_bytes, wal_buffers_full FROM pg_stat_wal"
IO = """
    SELECT backend_type || '/' || object || '/' || context, reads, writes, extends,
        hits, evictions, fsyncs
    FROM pg_stat_io
"""
# By statement, whoever ran it; our own look at the statistics is no load.
STATEMENTS = """
    SELECT queryid::text, sum(calls) AS calls, sum(total_exec_time) AS exec_ms,
        sum(rows) AS rows, sum(shared_blks_hit) AS shared_blks_hit,
        sum(shared_blks_read) AS shared_blks_read, sum(wal_bytes) AS wal_bytes
    FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND queryid IS NOT NULL AND query !~ 'pg_stat_'
    GROUP BY queryid
"""
STATEMENT_TEXTS = """
    SELECT queryid::text, query FROM pg_stat_statements WHERE queryid::text = ANY(%s)
"""
WAITS = """
    SELECT coalesce(wait_event_type || ':' || wait_event, 'CPU'), count(*)
    FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND state <> 'idle'
        AND pid <> pg_backend_pid() AND datname = current_database()
    GROUP BY 1
"""


class ServerEvidence:
    """The server's counters over the length of a `with` block.

    A thread samples wait events at a low rate over a connection of its own; CPU of
    the server's processes is read where they run on this machine.

    Args:
        server: The server; two connections to it are opened.
        clock: Measures the true length of the block.
        interval_s: Time between two samples of wait events, in seconds.
    """

    def __init__(
        self,
        server: Server,
        *,
        clock: Clock = SYSTEM_CLOCK,
        interval_s: float = WAIT_SAMPLE_INTERVAL_S,
    ) -> None:
        self._server = server
        self._clock = clock
        self._interval_s = interval_s
        self._missing: dict[str, str] = {}
        self._waits: Counter[str] = Counter()
        self._samples = 0
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample_waits, daemon=True)
        self._before: dict[str, Rows] = {}
        self._after: dict[str, Rows] = {}
        self._texts: dict[str, str] = {}
        self._cpu_s: tuple[float, float] | None = None
        self._started_ns = 0
        self._elapsed_s = 0.0
        self._processes: ServerProcesses | None = None

    def __enter__(self) -> Self:
        """Take the first reading."""
        self._connection = self._connect()
        try:
            self._processes = find_processes(self._connection)
            if self._processes is None:
                self._missing["cpu"] = "the server's processes are not on this machine"
            self._before = self._read()
            self._sampler.start()
            self._cpu_before_s = self._processes.cpu_s() if self._processes else 0.0
            self._started_ns = self._clock.monotonic_ns()
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the second reading; a server that is gone by then leaves a remark."""
        import psycopg

        elapsed_ns = self._clock.monotonic_ns() - self._started_ns
        self._elapsed_s = elapsed_ns / NS_PER_S
        if self._processes:
            self._cpu_s = (self._cpu_before_s, self._processes.cpu_s())
        self._stop.set()
        self._sampler.join(JOIN_TIMEOUT_S)
        try:
            self._after = self._read()
            self._read_texts()
        except psycopg.Error as error:
            self._missing["after"] = _reason(error)
        finally:
            self._connection.close()

    def details(self) -> dict[str, Any]:
        """Return the evidence, compact: what did not move is left out."""
        if not self._after:
            return {"dt_s": round(self._elapsed_s, 3), "missing": dict(self._missing)}
        shown: dict[str, Any] = {"dt_s": round(self._elapsed_s, 3)}
        database = self._delta("database").get("all", {})
        if database:
            shown["database"] = _moved(database)
            hit, read = database["blks_hit"], database["blks_read"]
            if hit + read:
                shown["cache_hit_ratio"] = round(hit / (hit + read), 5)
        wal = self._delta("wal").get("all", {})
        if wal:
            shown["wal"] = _moved(wal)
        io = {name: _moved(row) for name, row in self._delta("io").items()}
        if any(io.values()):
            shown["io"] = {name: row for name, row in sorted(io.items()) if row}
        statements = self._statements()
        if statements:
            shown["statements"] = statements
        if self._samples:
            shown["waits"] = {
                "samples": self._samples,
                "active_mean": round(self._waits.total() / self._samples, 2),
                **dict(self._waits.most_common(WAITS_SHOWN)),
            }
        # A reading that failed is 0, and no server has used none.
        if self._cpu_s is not None and all(self._cpu_s):
            used_s = self._cpu_s[1] - self._cpu_s[0]
            shown["server_cpu_s"] = round(used_s, 3)
            shown["server_cpu_cores"] = round(used_s / max(self._elapsed_s, 1e-9), 3)
        if self._missing:
            shown["missing"] = dict(self._missing)
        return shown

    def _connect(self) -> psycopg.Connection[Any]:
        arguments = self._server.connect_arguments()
        arguments["application_name"] = APPLICATION_NAME
        return connect(arguments)

    def _read(self) -> dict[str, Rows]:
        """Read every view that can be read."""
        version = self._connection.info.server_version // 10_000
        # What this connection itself has done must not be a second late.
        self._connection.execute("SELECT pg_stat_clear_snapshot()")
        read = {"database": self._rows("database", DATABASE)}
        read["wal"] = self._rows("wal", WAL)
        if version >= VERSION_IO:
            read["io"] = self._rows("io", IO)
        else:
            self._missing["io"] = f"pg_stat_io came with 16, this is {version}"
        read["statements"] = self._rows("statements", STATEMENTS)
        return read

    def _rows(self, name: str, query: str) -> Rows:
        """Return the rows of one view by their first column; none if refused."""
        import psycopg

        if name in self._missing:
            return {}
        try:
            cursor = self._connection.execute(query)
        except psycopg.Error as error:
            if self._connection.broken:
                raise
            self._missing[name] = _reason(error)
            return {}
        columns = [column.name for column in cursor.description or ()]
        return {
            str(row[0]): {
                column: float(value or 0)
                for column, value in zip(columns[1:], row[1:], strict=True)
            }
            for row in cursor.fetchall()
        }

    def _delta(self, name: str) -> dict[str, dict[str, float]]:
        """Return by how much the rows of one view have grown."""
        before = self._before.get(name, {})
        return {
            key: {
                column: value - before.get(key, {}).get(column, 0.0)
                for column, value in row.items()
            }
            for key, row in self._after.get(name, {}).items()
        }

    def _busiest(self) -> list[tuple[str, dict[str, float]]]:
        """Return the statements that took the server most time."""
        called = [
            (key, row)
            for key, row in self._delta("statements").items()
            if row["calls"] > 0
        ]
        called.sort(key=lambda pair: -pair[1]["exec_ms"])
        return called[:STATEMENTS_SHOWN]

    def _read_texts(self) -> None:
        keys = [key for key, _row in self._busiest()]
        if keys:
            rows = self._connection.execute(STATEMENT_TEXTS, (keys,)).fetchall()
            self._texts = {key: " ".join((text or "").split()) for key, text in rows}

    def _statements(self) -> list[dict[str, Any]]:
        return [
            {
                "query": self._texts.get(key, "")[:STATEMENT_LENGTH_MAX],
                "exec_ms_mean": round(row["exec_ms"] / row["calls"], 5),
                **_moved(row),
            }
            for key, row in self._busiest()
        ]

    def _sample_waits(self) -> None:
        """Sample what backends wait for, until told to stop."""
        import psycopg

        from harness.errors import HarnessError

        try:
            with self._connect() as connection:
                while not self._stop.wait(self._interval_s):
                    for event, count in connection.execute(WAITS).fetchall():
                        self._waits[event] += count
                    self._samples += 1
        except (psycopg.Error, HarnessError) as error:
            self._missing["waits"] = _reason(error)


class ServerProcesses:
    """The processes of a server on this machine.

    Args:
        postmaster_pid: The one that started all the others.
    """

    def __init__(self, postmaster_pid: int) -> None:
        self._postmaster_pid = postmaster_pid

    def cpu_s(self) -> float:
        """Return the CPU time used so far, also by backends that have ended."""
        import psutil

        for _ in range(SNAPSHOT_ATTEMPTS):
            try:
                postmaster = psutil.Process(self._postmaster_pid)
                running_s = {
                    child.pid: _busy_s(child) for child in postmaster.children()
                }
                own = postmaster.cpu_times()
                still = {child.pid for child in postmaster.children()}
            except psutil.Error:
                continue
            # One that has ended moves into its parent's account of children: seen
            # in between, it would be counted twice or not at all.
            if still == set(running_s):
                break
        else:
            return 0.0
        ended_s = own.children_user + own.children_system
        return float(own.user + own.system + ended_s + sum(running_s.values()))


def find_processes(connection: psycopg.Connection[Any]) -> ServerProcesses | None:
    """Return the server's processes if they run here and can be seen; else None."""
    import psutil

    try:
        backend = psutil.Process(connection.info.backend_pid)
        # A number may be taken here by something else: the process must be a
        # Postgres that began no later than its connection was made.
        if "postgres" not in backend.name():
            return None
        parent = backend.parent()
        if parent is None or "postgres" not in parent.name():
            return None
        row = connection.execute(
            "SELECT extract(epoch FROM backend_start)::float8 "
            "FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        same = row is not None and abs(backend.create_time() - row[0]) < 1.0
    except psutil.Error:
        return None
    return ServerProcesses(parent.pid) if same else None


def _busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _moved(row: Mapping[str, float]) -> dict[str, float | int]:
    """Return what is not 0, whole numbers as such."""
    return {
        name: int(value) if value.is_integer() else round(value, 3)
        for name, value in row.items()
        if value
    }


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
