"""Queries that start on a machine too busy to start them, and stop between batches."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import SparkError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from harness.spark.lab import Place, Query

_LOG = logging.getLogger(__name__)
_POLL_DELAY_S = 0.005
_BETWEEN_BATCHES_TIMEOUT_S = 60.0
# Spark waits ten seconds for the Python process of a source or a sink, and no setting
# changes that; it says so before a query's first micro-batch.
_TOO_SLOW = "Python worker failed to connect back"
ATTEMPTS = 3


class NotBegunError(SparkError):
    """The Python process of a query was too slow to start: no row was read."""


def was_too_slow(error: object) -> bool:
    """Whether nothing is wrong but that the machine was busy."""
    return _TOO_SLOW in str(error)


def tell_again(name: str) -> None:
    """Log that a query is started again."""
    _LOG.warning("query %r is started again: %s", name, _TOO_SLOW)


def begin(
    query: Query, place: Place, *, attempts: int = ATTEMPTS, **how: Any
) -> StreamingQuery:
    """Start a query; again, where nothing is wrong but that the machine was busy.

    Args:
        query: The query.
        place: Where it lives.
        attempts: How often it may be started.
        how: As `Query.start` takes it.

    Raises:
        NotBegunError: If the last attempt was too slow as well.
    """
    try:
        return query.start(place, **how)
    except Exception as error:
        if not was_too_slow(error):
            raise
        if attempts <= 1:
            msg = f"query {query.name!r} did not begin: {error}"
            raise NotBegunError(msg) from error
    tell_again(query.name)
    return begin(query, place, attempts=attempts - 1, **how)


def stop_between_batches(query: StreamingQuery, *, clock: Clock = SYSTEM_CLOCK) -> None:
    """Stop a query when no micro-batch is under way.

    Interrupting one kills Spark's thread with a stack overflow, and the query then
    looks as if it had stopped in good order.
    """
    deadline_ns = clock.monotonic_ns() + int(_BETWEEN_BATCHES_TIMEOUT_S * NS_PER_S)
    while query.isActive and query.status["isTriggerActive"]:
        if clock.monotonic_ns() > deadline_ns:
            break  # a batch that hangs has to be interrupted after all
        clock.sleep(_POLL_DELAY_S)
    query.stop()


@contextmanager
def settings_meanwhile(spark: SparkSession, conf: Mapping[str, str]) -> Iterator[None]:
    """Set Spark settings for a while: what a query starts with, it keeps."""
    before = {key: spark.conf.get(key, None) for key in conf}
    for key, value in conf.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, old in before.items():
            if old is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, old)
