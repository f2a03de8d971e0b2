"""What a pipeline file may say on Databricks and open-source Spark does not know.

Open-source `pyspark.pipelines` (4.2) has no expectations, and its AUTO CDC knows SCD
type 1 only and cannot write Delta tables. While a file is read, `spoken` puts both on
top, so that the same file runs in both places. What differs is said here:

* rows that break an expectation are kept in a dataset `<name>_violations`, with the
  names of all they break, and counted there: open source has no event log;
* AUTO CDC becomes a materialized view over the whole history of changes: open source
  computes it anew at each run, Databricks only what is new;
* expectations belong on a table or a materialized view, not on a temporary view.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import ConfigError
from harness.spark.pipelines.changes import latest_rows, row_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pyspark.sql import Column, DataFrame, SparkSession

    Query = Callable[[], DataFrame]

Action = Literal["warn", "drop", "fail"]

VIOLATIONS_SUFFIX = "_violations"
VIOLATED = "violated"
_EXPECTATIONS = "__expectations__"


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What a row must be: anything but true breaks it, null too.

    Attributes:
        name: What it is called where violations are counted.
        condition: In SQL.
        action: Keep the row, drop it, or fail the update.
    """

    name: str
    condition: str
    action: Action


@contextmanager
def spoken(dp: Any, spark: SparkSession) -> Iterator[None]:
    """Add what is missing to `pyspark.pipelines` for the length of a `with` block.

    Args:
        dp: The module that pipeline files import; what it has itself is kept, but for
            what writes datasets, which must know of the expectations.
        spark: The session that the file is read for.
    """
    speaker = _Speaker(dp, spark)
    added: dict[str, Any] = {
        "table": speaker.dataset(dp.table),
        "materialized_view": speaker.dataset(dp.materialized_view),
        "temporary_view": _without_expectations(dp.temporary_view),
        "create_streaming_table": speaker.create_streaming_table,
        "create_auto_cdc_flow": speaker.create_auto_cdc_flow,
        "expect": functools.partial(_expect, "warn"),
        "expect_or_drop": functools.partial(_expect, "drop"),
        "expect_or_fail": functools.partial(_expect, "fail"),
        "expect_all": functools.partial(_expect_all, "warn"),
        "expect_all_or_drop": functools.partial(_expect_all, "drop"),
        "expect_all_or_fail": functools.partial(_expect_all, "fail"),
    }
    before = {name: dp.__dict__.get(name) for name in added}
    try:
        for name, value in added.items():
            setattr(dp, name, value)
        yield
        speaker.register_tables()
    finally:
        for name, value in before.items():
            if value is None:
                delattr(dp, name)
            else:
                setattr(dp, name, value)


class _Speaker:
    """Registers what a file defines, with the real functions of the module."""

    def __init__(self, dp: Any, spark: SparkSession) -> None:
        self._spark = spark
        self._materialized_view = dp.materialized_view
        self._create_streaming_table = dp.create_streaming_table
        # AUTO CDC makes its target a view: whether a streaming table is one is known
        # only when the whole file was read.
        self._tables: dict[str, dict[str, Any]] = {}

    def dataset(self, real: Any) -> Any:
        """Return the decorator of a dataset, with expectations."""

        def decorator(query: Query | None = None, **options: Any) -> Any:
            if query is None:
                return lambda decorated: self._register(real, decorated, options)
            return self._register(real, query, options)

        return decorator

    def _register(self, real: Any, query: Query, options: dict[str, Any]) -> None:
        expectations = getattr(query, _EXPECTATIONS, ())
        if not expectations:
            real(**options)(query)
            return
        name = options.get("name") or query.__name__
        real(**{**options, "name": name})(_kept(query, expectations))
        real(
            name=f"{name}{VIOLATIONS_SUFFIX}",
            comment=f"Rows of {name} that break an expectation, with those they break.",
        )(_broken(query, expectations))

    def create_streaming_table(self, name: str, **options: Any) -> None:
        """Note a streaming table that flows will write."""
        self._tables[name] = options

    def register_tables(self) -> None:
        """Register the streaming tables that AUTO CDC did not take."""
        for name, options in self._tables.items():
            self._create_streaming_table(name, **options)

    def create_auto_cdc_flow(
        self,
        target: str,
        source: str,
        keys: list[str],
        sequence_by: str | Column,
        *,
        apply_as_deletes: str | Column | None = None,
        except_column_list: list[str] | None = None,
        stored_as_scd_type: int | str = 1,
        **unknown: Any,
    ) -> None:
        """Register the target as a view over all changes of the source."""
        kind = str(stored_as_scd_type)
        if kind not in {"1", "2"}:
            msg = f"stored_as_scd_type must be 1 or 2, got {stored_as_scd_type!r}"
            raise ConfigError(msg)
        if unknown:
            msg = (
                f"create_auto_cdc_flow({target!r}): {sorted(unknown)} cannot be done "
                "with open-source Spark here; leave them out, or run it on a workspace"
            )
            raise ConfigError(msg)
        if target not in self._tables:
            msg = (
                f"create_auto_cdc_flow({target!r}): its target must be created before, "
                f"with create_streaming_table({target!r})"
            )
            raise ConfigError(msg)
        options = self._tables.pop(target)
        rows = latest_rows if kind == "1" else row_versions

        def changed() -> DataFrame:
            return rows(
                self._spark.read.table(source),
                keys=keys,
                sequence_by=sequence_by,
                apply_as_deletes=apply_as_deletes,
                except_columns=except_column_list or [],
            )

        self._materialized_view(**{**options, "name": target})(changed)


def _expect(action: Action, name: str, condition: str) -> Callable[[Query], Query]:
    return _expect_all(action, {name: condition})


def _expect_all(
    action: Action, conditions: Mapping[str, str]
) -> Callable[[Query], Query]:
    """Note expectations on a query, to be found by the decorator of its dataset."""

    def decorator(query: Any) -> Any:
        if not callable(query):
            # What @table returns, which is nothing: they stand in the wrong order.
            msg = (
                f"expectation {sorted(conditions)} must stand below @table or "
                "@materialized_view, directly above the function"
            )
            raise ConfigError(msg)
        more = tuple(
            Expectation(name=name, condition=condition, action=action)
            for name, condition in conditions.items()
        )
        there = getattr(query, _EXPECTATIONS, ())
        twice = {e.name for e in there} & set(conditions)
        if twice:
            msg = f"{query.__name__}: expectations {sorted(twice)} are there twice"
            raise ConfigError(msg)
        setattr(query, _EXPECTATIONS, (*more, *there))
        return query

    return decorator


def _without_expectations(real: Any) -> Any:
    """Return the decorator of a temporary view, which nothing counts violations of."""

    def decorator(query: Query | None = None, **options: Any) -> Any:
        def register(decorated: Query) -> None:
            if getattr(decorated, _EXPECTATIONS, ()):
                msg = (
                    f"temporary view {decorated.__name__!r}: expectations belong on "
                    "the table or materialized view that reads it"
                )
                raise ConfigError(msg)
            real(**options)(decorated)

        return register if query is None else register(query)

    return decorator


def _kept(query: Query, expectations: tuple[Expectation, ...]) -> Query:
    """Return the query without the rows to be dropped; it fails where it must."""

    @functools.wraps(query)
    def kept() -> DataFrame:
        from pyspark.sql import functions as f

        frame = query()
        for expectation in expectations:
            holds = _holds(expectation)
            if expectation.action == "fail":
                said = (
                    f"expectation {expectation.name!r} is broken: "
                    f"{expectation.condition}"
                )
                holds = f.when(holds, True).otherwise(  # noqa: FBT003 - a SQL value
                    f.raise_error(f.lit(said)).cast("boolean")
                )
            if expectation.action != "warn":
                frame = frame.where(holds)
        return frame

    return kept


def _broken(query: Query, expectations: tuple[Expectation, ...]) -> Query:
    """Return the rows that break an expectation, with the names of those."""

    def broken() -> DataFrame:
        from pyspark.sql import functions as f

        names = f.array_compact(
            f.array(*(f.when(~_holds(e), f.lit(e.name)) for e in expectations))
        )
        return query().withColumn(VIOLATED, names).where(f.size(VIOLATED) > 0)

    return broken


def _holds(expectation: Expectation) -> Column:
    from pyspark.sql import functions as f

    return f.coalesce(f.expr(expectation.condition), f.lit(False))  # noqa: FBT003
