"""Histories of changes as tables: the latest row of a key (SCD1), or all (SCD2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import Column, DataFrame

START_AT = "__START_AT"
END_AT = "__END_AT"
_DELETED = "__deleted"
_RANK = "__rank"


def latest_rows(
    changes: DataFrame,
    *,
    keys: Sequence[str],
    sequence_by: str | Column,
    apply_as_deletes: str | Column | None = None,
    except_columns: Sequence[str] = (),
) -> DataFrame:
    """Return the last row of each key (SCD type 1); a deleted key has none.

    Args:
        changes: All changes, in any order.
        keys: Columns that identify a row.
        sequence_by: Orders the changes of a key. Two of one key with the same are
            taken for one that was delivered twice.
        apply_as_deletes: Condition of changes that remove the row.
        except_columns: Columns left out of the result.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    newest_first = Window.partitionBy(*keys).orderBy(_column(sequence_by).desc())
    ranked = changes.withColumn(_RANK, f.row_number().over(newest_first))
    kept = ranked.where((f.col(_RANK) == 1) & ~_deleted(apply_as_deletes))
    return kept.drop(_RANK, *except_columns)


def row_versions(
    changes: DataFrame,
    *,
    keys: Sequence[str],
    sequence_by: str | Column,
    apply_as_deletes: str | Column | None = None,
    except_columns: Sequence[str] = (),
) -> DataFrame:
    """Return every version of each key (SCD type 2), with the time it was valid.

    A version is valid from its own sequence (`__START_AT`) until that of the next
    change of the key (`__END_AT`), which may be its removal; the current one has no
    end. A change that comes late takes its place in between. Arguments are those of
    `latest_rows`.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    once = changes.withColumn(START_AT, _column(sequence_by))
    once = once.dropDuplicates([*keys, START_AT])
    in_order = Window.partitionBy(*keys).orderBy(START_AT)
    versions = once.withColumns(
        {
            END_AT: f.lead(START_AT).over(in_order),
            _DELETED: _deleted(apply_as_deletes),
        }
    )
    return versions.where(~f.col(_DELETED)).drop(_DELETED, *except_columns)


def _column(value: str | Column) -> Column:
    from pyspark.sql import functions as f

    return f.col(value) if isinstance(value, str) else value


def _deleted(condition: str | Column | None) -> Column:
    """Return whether a change removes its row; null does not."""
    from pyspark.sql import functions as f

    if condition is None:
        return f.lit(False)  # noqa: FBT003 - a SQL value
    found = f.expr(condition) if isinstance(condition, str) else condition
    return f.coalesce(found, f.lit(False))  # noqa: FBT003
