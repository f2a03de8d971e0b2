"""Streaming queries as data: started, killed, started again, and looked at.

A scenario says what is fed, what the query does and where it writes. The lab runs it
over a fresh folder, measures it, and can leave the folder as a kill would have.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import SparkError
from harness.spark.beginnings import (
    ATTEMPTS,
    NotBegunError,
    begin,
    settings_meanwhile,
    stop_between_batches,
    tell_again,
    was_too_slow,
)
from harness.spark.feed_source import read_feed
from harness.spark.meter import Meter, Usage
from harness.spark.progress import MS_PER_S, MicroBatch, micro_batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from harness.spark.feed import Feed


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run of some queries lives: all of its tables and checkpoints.

    Attributes:
        spark: The session.
        folder: On the file system of the session's server.
    """

    spark: SparkSession
    folder: Path

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the session: over Spark Connect, sinks are pickled."""
        return Place, (None, self.folder)

    def path(self, name: str = "table") -> Path:
        """Return the folder of a table."""
        return self.folder / name

    def table(self, name: str = "table") -> str:
        """Return a table's name in SQL."""
        return f"delta.`{self.path(name)}`"

    def create(self, columns: str, *, name: str = "table", clauses: str = "") -> str:
        """Create an empty table; return its name in SQL."""
        self.spark.sql(
            f"CREATE TABLE {self.table(name)} ({columns}) USING delta {clauses}"
        )
        return self.table(name)

    def checkpoint(self, query: str) -> Path:
        """Return the folder of a query's checkpoint."""
        return self.folder / "checkpoints" / query

    def read_stream(self, name: str, **options: str) -> DataFrame:
        """Return the streaming frame of a table."""
        reader = self.spark.readStream.format("delta").options(**options)
        return reader.load(self.path(name).as_uri())


# What it does to one micro-batch, as `foreachBatch` calls it.
BatchFunction = Callable[["DataFrame", int], None]


@dataclass(frozen=True, kw_only=True)
class Query:
    """One streaming query.

    Attributes:
        name: Of the query and of its checkpoint.
        feeds: What it is fed, a frame each.
        transform: From the place and the frames to the frame that is written;
            default: the first frame as it is.
        sink: From the place to a `foreachBatch` function; default: append to *into*.
        into: Name of the table the default sink appends to.
        output_mode: As Spark names it.
        batches_count: Into how many micro-batches each feed is cut; None: each takes
            what there is.
        batches_max: The feeds end after this many micro-batches, whatever they hold;
            default: after all.
        partitions: Tasks that make the rows of a micro-batch, for each feed.
        options: Of the writer.
        conf: Spark settings of this query, such as its state store.
    """

    name: str
    feeds: tuple[Feed, ...] = ()
    transform: Callable[..., DataFrame] | None = None
    sink: Callable[[Place], BatchFunction] | None = None
    into: str = "table"
    output_mode: str = "append"
    batches_count: int | None = 4
    batches_max: int | None = None
    partitions: int = 2
    options: Mapping[str, str] = field(default_factory=dict)
    conf: Mapping[str, str] = field(default_factory=dict)

    def frame(self, place: Place, *, live_since_ns: int | None) -> DataFrame:
        """Return what the query computes."""
        frames = [
            read_feed(
                place.spark,
                feed,
                rows_per_batch=self._rows_per_batch(feed),
                live_since_ns=live_since_ns,
                partitions=self.partitions,
                rows_max=self._rows_max(feed),
            )
            for feed in self.feeds
        ]
        return self.transform(place, *frames) if self.transform else frames[0]

    def start(
        self,
        place: Place,
        *,
        live_since_ns: int | None = None,
        trigger: Mapping[str, Any] | None = None,
    ) -> StreamingQuery:
        """Start it, from its checkpoint if there is one.

        Args:
            place: Where it lives.
            live_since_ns: See `read_feed`.
            trigger: As `DataStreamWriter.trigger` takes it; default: process what
                is there and end.
        """
        with settings_meanwhile(place.spark, self.conf):
            writer = (
                self.frame(place, live_since_ns=live_since_ns)
                .writeStream.queryName(self.name)
                .outputMode(self.output_mode)
                .options(**self.options)
                .option("checkpointLocation", place.checkpoint(self.name).as_uri())
                .trigger(**(trigger or {"availableNow": True}))
            )
            if self.sink is not None:
                return writer.foreachBatch(self.sink(place)).start()
            if self.into == "":
                return writer.format("noop").start()
            return writer.format("delta").start(place.path(self.into).as_uri())

    def _rows_per_batch(self, feed: Feed) -> int | None:
        if self.batches_count is None:
            return None
        return -(-feed.rows_count // self.batches_count)

    def _rows_max(self, feed: Feed) -> int | None:
        rows_per_batch = self._rows_per_batch(feed)
        if rows_per_batch is None or self.batches_max is None:
            return None
        return rows_per_batch * self.batches_max


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What one run of some queries did.

    Attributes:
        place: Its tables.
        batches: Micro-batches by query, those before a restart left out.
        wall_s: From the first start to the last end, in seconds.
        usage: CPU and memory meanwhile; None where the JVM is another's.
        clock_ahead_s: By how much this clock was ahead of the events' where they came
            as time went by, in seconds; None where they were all there.
    """

    place: Place
    batches: Mapping[str, Sequence[MicroBatch]]
    wall_s: float
    usage: Usage | None
    clock_ahead_s: float | None = None

    @property
    def all_batches(self) -> list[MicroBatch]:
        """Micro-batches of all queries, in the order they ended."""
        every = [batch for batches in self.batches.values() for batch in batches]
        return sorted(every, key=lambda batch: batch.ended_at)


class Lab:
    """Runs queries in one session.

    Args:
        spark: The session.
        make_folder: Makes a new folder at each call.
        jvm_pid: The JVM's process; None where it is not on this machine.
        clock: Measures runs.

    Attributes:
        clocks_ahead_s: By query, what `Run.clock_ahead_s` is going to say of it.
    """

    def __init__(
        self,
        spark: SparkSession,
        make_folder: Callable[[], Path],
        *,
        jvm_pid: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.spark = spark
        self.jvm_pid = jvm_pid
        self._make_folder = make_folder
        self._clock = clock
        self.clocks_ahead_s: dict[str, float | None] = {}

    def place(self) -> Place:
        """Return a fresh place."""
        return Place(self.spark, self._make_folder())

    def copy(self, place: Place) -> Place:
        """Return a place with the same files."""
        folder = self._make_folder()
        shutil.copytree(place.folder, folder, dirs_exist_ok=True)
        return Place(self.spark, folder)

    def run(
        self,
        *queries: Query,
        place: Place | None = None,
        in_turn: bool = False,
        metered: bool = True,
        watch: Callable[[Place, Sequence[StreamingQuery]], None] | None = None,
    ) -> Run:
        """Run queries until all they are fed is processed.

        Args:
            queries: Started together, unless *in_turn*.
            place: Where; default a fresh place. One that was run in goes on.
            in_turn: Whether each starts when the one before has ended.
            metered: Whether CPU and memory are sampled meanwhile.
            watch: Called with the running queries, in the thread that waits.

        Raises:
            SparkError: If one fails; with its cause and how far it got.
        """
        place = self.place() if place is None else place
        meter = Meter(self.jvm_pid if metered else None, clock=self._clock)
        begun_ns = self._clock.monotonic_ns()
        batches: dict[str, list[MicroBatch]] = {}
        with meter:
            groups = [(query,) for query in queries] if in_turn else [queries]
            for group in groups:
                started: list[StreamingQuery] = []
                try:
                    for query in group:
                        self.clocks_ahead_s[query.name] = None
                        # One by one: where the second fails, the first is stopped.
                        started.append(begin(query, place))
                    if watch is not None:
                        watch(place, started)
                    for query, handle in zip(group, started, strict=True):
                        batches[query.name] = self._finish(query, handle, place)
                        _check_checkpoint(query, place)
                finally:
                    for handle in started:
                        stop_between_batches(handle, clock=self._clock)
        wall_s = (self._clock.monotonic_ns() - begun_ns) / NS_PER_S
        return Run(place=place, batches=batches, wall_s=wall_s, usage=meter.usage)

    def run_live(
        self, query: Query, *, duration_s: float, trigger_s: float = 0.0
    ) -> tuple[Run, int]:
        """Run a query for some time with rows coming on schedule (open loop).

        A query that was too slow to begin is started again: in a fresh place, with
        its first row due anew.

        Args:
            query: The query.
            duration_s: How long, in seconds.
            trigger_s: Least time between two micro-batches, in seconds.

        Returns:
            The run, and when its first row was due in nanoseconds since 1970.

        Raises:
            SparkError: If it fails; with its cause and how far it got.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return self._run_live(query, duration_s, trigger_s)
            except NotBegunError:
                tell_again(query.name)
        return self._run_live(query, duration_s, trigger_s)

    def _run_live(
        self, query: Query, duration_s: float, trigger_s: float
    ) -> tuple[Run, int]:
        place = self.place()
        meter = Meter(self.jvm_pid, clock=self._clock)
        with meter:
            since_ns = int(self._clock.now().timestamp() * NS_PER_S)
            begun_ns = self._clock.monotonic_ns()
            clock_ahead_s = _clock_ahead_s(query, since_ns)
            self.clocks_ahead_s[query.name] = clock_ahead_s
            handle = begin(
                query,
                place,
                attempts=1,
                live_since_ns=since_ns,
                trigger={
                    "processingTime": f"{round(trigger_s * MS_PER_S)} milliseconds"
                },
            )
            try:
                end_ns = begun_ns + int(duration_s * NS_PER_S)
                while handle.isActive and self._clock.monotonic_ns() < end_ns:
                    self._clock.sleep(0.05)
            finally:
                stop_between_batches(handle, clock=self._clock)
            _raise_failure(query, handle)
            batches = micro_batches(handle)
        wall_s = (self._clock.monotonic_ns() - begun_ns) / NS_PER_S
        run = Run(
            place=place,
            batches={query.name: batches},
            wall_s=wall_s,
            usage=meter.usage,
            clock_ahead_s=clock_ahead_s,
        )
        return run, since_ns

    def _finish(
        self,
        query: Query,
        handle: StreamingQuery,
        place: Place,
        *,
        attempts: int = ATTEMPTS,
    ) -> list[MicroBatch]:
        try:
            handle.awaitTermination()
        except Exception as error:
            if was_too_slow(error) and attempts > 1 and not handle.recentProgress:
                tell_again(query.name)
                again = begin(query, place)
                return self._finish(query, again, place, attempts=attempts - 1)
            _raise_failure(query, handle, error)
            raise
        return micro_batches(handle)


def _clock_ahead_s(query: Query, since_ns: int) -> float | None:
    if not query.feeds:
        return None
    return since_ns / NS_PER_S - query.feeds[0].starts_at.timestamp()


def _raise_failure(
    query: Query, handle: StreamingQuery, error: Exception | None = None
) -> None:
    failure = handle.exception()
    if failure is None and error is None:
        return
    if was_too_slow(failure or error) and not handle.recentProgress:
        msg = f"query {query.name!r} did not begin: {failure or error}"
        raise NotBegunError(msg) from error
    done = micro_batches(handle)
    last = f", the last was {done[-1].batch_id}" if done else ""
    msg = (
        f"query {query.name!r} failed after {len(done)} micro-batches{last}: "
        f"{failure or error}"
    )
    raise SparkError(msg) from error


def _check_checkpoint(query: Query, place: Place) -> None:
    """Refuse a query whose checkpoint is elsewhere: a restart would begin anew."""
    folder = place.checkpoint(query.name)
    if not (folder / "commits").is_dir():
        msg = (
            f"query {query.name!r} has no checkpoint in {folder}: was it given another "
            "path, or one with a comma behind it?"
        )
        raise SparkError(msg)
