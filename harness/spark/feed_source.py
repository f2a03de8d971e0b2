"""A feed as a source of Spark: open loop, with admission control, in Python.

Offset n means: rows 0 to n - 1. So the offsets of a micro-batch say which rows it
held, and with the feed's schedule how long each of them had been due.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark import cloudpickle
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import (
    ReadAllAvailable,
    ReadMaxRows,
    SupportsTriggerAvailableNow,
)

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping, Sequence

    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.datasource import ReadLimit
    from pyspark.sql.types import StructType

    from harness.spark.feed import Feed

SOURCE_NAME = "lakegauge_feed"


def read_feed(
    spark: SparkSession,
    feed: Feed,
    *,
    rows_per_batch: int | None = None,
    live_since_ns: int | None = None,
    partitions: int = 2,
    rows_max: int | None = None,
) -> DataFrame:
    """Return the streaming frame of a feed.

    Args:
        spark: The session.
        feed: The rows.
        rows_per_batch: Most rows of one micro-batch; default all there are.
        live_since_ns: When the first row is due, in nanoseconds since 1970: rows
            appear on schedule, whether or not the stream keeps up (open loop).
            Default: all rows are there from the start (closed loop).
        partitions: Tasks that make the rows of a micro-batch.
        rows_max: The source ends before this row; default with the feed.
    """
    if rows_per_batch is not None and rows_per_batch < 1:
        msg = f"rows_per_batch must be >= 1, got {rows_per_batch}"
        raise ConfigError(msg)
    spark.dataSource.register(FeedSource)
    packed = base64.b64encode(cloudpickle.dumps(feed)).decode()  # type: ignore[no-untyped-call]  # untyped in pyspark
    reader = spark.readStream.format(SOURCE_NAME).option("feed", packed)
    reader = reader.option("partitions", str(partitions))
    if rows_per_batch is not None:
        reader = reader.option("rows_per_batch", str(rows_per_batch))
    if rows_max is not None:
        reader = reader.option("rows_max", str(rows_max))
    if live_since_ns is not None:
        reader = reader.option("live_since_ns", str(live_since_ns))
    return reader.load()


class FeedSource(DataSource):
    """What Spark makes of the options `read_feed` sets."""

    def __init__(self, options: MutableMapping[str, str]) -> None:
        super().__init__(options)
        self._feed: Feed = cloudpickle.loads(base64.b64decode(options["feed"]))

    @classmethod
    def name(cls) -> str:
        """Return the name for `format`."""
        return SOURCE_NAME

    def schema(self) -> StructType:
        """Return the columns of the data set."""
        from pyspark.sql.pandas.types import from_arrow_schema

        return from_arrow_schema(self._feed.dataset.schema)

    def streamReader(self, schema: StructType) -> FeedReader:  # noqa: N802 - Spark's
        """Return the reader."""
        del schema
        limit = self.options.get("rows_per_batch")
        since = self.options.get("live_since_ns")
        rows_max = self.options.get("rows_max")
        return FeedReader(
            self._feed,
            rows_per_batch=int(limit) if limit else None,
            live_since_ns=int(since) if since else None,
            partitions=int(self.options["partitions"]),
            rows_max=int(rows_max) if rows_max else self._feed.rows_count,
        )


@dataclass
class _Share(InputPartition):
    """Rows *start* to *end* (exclusive), made by one task."""

    start: int
    end: int


class FeedReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Offsets and rows of one query."""

    def __init__(
        self,
        feed: Feed,
        *,
        rows_per_batch: int | None,
        live_since_ns: int | None,
        partitions: int,
        rows_max: int,
    ) -> None:
        self._feed = feed
        self._rows_per_batch = rows_per_batch
        self._live_since_ns = live_since_ns
        self._partitions = partitions
        self._rows_max = min(rows_max, feed.rows_count)
        self._end: int | None = None

    def initialOffset(self) -> dict[str, int]:  # noqa: N802 - Spark's name
        """Start with the first row."""
        return {"offset": 0}

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802 - Spark's name
        """Remember what is there now: a query that ends must see an end."""
        self._end = self._available()

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802 - Spark's name
        """Return how much of it a micro-batch may take."""
        if self._rows_per_batch is None:
            return ReadAllAvailable()
        return ReadMaxRows(self._rows_per_batch)

    def latestOffset(  # noqa: N802 - Spark's name
        self, start: dict[str, int], limit: ReadLimit
    ) -> dict[str, int]:
        """Return where the next micro-batch ends."""
        end = self._available() if self._end is None else self._end
        if isinstance(limit, ReadMaxRows):
            end = min(end, start["offset"] + limit.max_rows)
        return {"offset": max(end, start["offset"])}

    def reportLatestOffset(self) -> dict[str, int]:  # noqa: N802 - Spark's name
        """Return how many rows are due: what is beyond the offset is backlog."""
        return {"offset": self._available()}

    def partitions(
        self, start: dict[str, int], end: dict[str, int]
    ) -> Sequence[InputPartition]:
        """Divide the rows of a micro-batch among the tasks."""
        first, count = start["offset"], end["offset"] - start["offset"]
        shares = min(self._partitions, count)
        if shares < 1:
            return []
        bounds = [first + count * share // shares for share in range(shares + 1)]
        return [_Share(bounds[i], bounds[i + 1]) for i in range(shares)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Make the rows of one task."""
        assert isinstance(partition, _Share)  # noqa: S101 - narrows a base class
        yield from self._feed.rows(partition.start, partition.end)

    def _available(self) -> int:
        if self._live_since_ns is None:
            return self._rows_max
        elapsed_s = SYSTEM_CLOCK.now().timestamp() - self._live_since_ns / NS_PER_S
        return min(self._feed.due_count(elapsed_s), self._rows_max)
