"""What the server's statistics collector has counted about a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import TargetError

if TYPE_CHECKING:
    from harness.postgres.workloads.session import Session

# To plan a range, the planner looks up both ends of the index, which counts.
PLANNER_PROBES = 2


def scans_of(session: Session, relation: str) -> int:
    """Return how often a table was scanned, by index or whole, up to now.

    Args:
        session: Where to ask.
        relation: Quoted, qualified name of the table.

    Raises:
        TargetError: The server counts nothing.
    """
    row = session.execute(
        "SELECT seq_scan + coalesce(idx_scan, 0), "
        "CASE current_setting('track_counts') WHEN 'on' THEN 1 ELSE 0 END "
        "FROM pg_stat_user_tables WHERE relid = %s::regclass",
        (relation,),
    ).fetchone()
    if row is None or not row[1]:
        msg = "the server keeps no statistics: set track_counts = on"
        raise TargetError(msg)
    return int(row[0])


def whole_number(session: Session, query: str) -> int:
    """Return the one number that *query* asks for, however big the table is."""
    with session.transaction():
        # A big table may take longer than an ordinary statement is given.
        session.execute("SET LOCAL statement_timeout = 0")
        row = session.execute(query).fetchone()
    return int(row[0] or 0)
