"""A pgbench script as a workload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.clock import SYSTEM_CLOCK
from harness.errors import ConfigError
from harness.postgres.pgbench_script import Set, Sleep, Variables
from harness.postgres.workloads.workload import Worker, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.postgres.pgbench_script import Script
    from harness.postgres.pool import Pool
    from harness.postgres.workloads.session import Session
    from harness.postgres.workloads.workload import Source

# What pgbench gives every script by itself.
GIVEN = frozenset(("client_id",))


class ScriptWorkload(Workload):
    """Run a pgbench script; one operation is the script from top to end.

    What it does to which table only its author knows, so the proof is that of the
    answers: every statement of every operation came back without error. Subclass it
    and give `claims` and `contents` to have the server count too.

    Args:
        source: Where connections come from.
        script: What `read_script` returned.
        variables: Values of variables that the script does not set, such as `scale`.
        direct: Talk to libpq through psycopg.pq instead of a cursor.

    Raises:
        ConfigError: A variable of the script has no value.
    """

    def __init__(
        self,
        source: Source | Pool,
        script: Script,
        *,
        variables: Mapping[str, int | float] | None = None,
        direct: bool = False,
    ) -> None:
        super().__init__(source, direct=direct)
        self.script = script
        self.variables: Variables = dict(variables or {})
        unknown = sorted(script.variables - set(self.variables) - GIVEN)
        if unknown:
            msg = (
                f"{script.source} uses variables that it does not set: "
                f"{', '.join(unknown)}; give them in variables="
            )
            raise ConfigError(msg)

    def operate(self, session: Session, worker: Worker) -> None:
        """Run the script once."""
        source = worker.random
        assert source is not None  # noqa: S101 - `begin` has set it
        values: Variables = {**self.variables, "client_id": worker.index}
        execute = session.execute
        try:
            for step in self.script.steps:
                if isinstance(step, Set):
                    values[step.name] = step.evaluate(values, source)
                elif isinstance(step, Sleep):
                    SYSTEM_CLOCK.sleep(step.evaluate(values, source))
                elif step.names:
                    execute(step.query, [values[name] for name in step.names])
                else:
                    execute(step.query)
        except BaseException:
            # A script that broke off in its own transaction leaves none open.
            connection = session.connection
            if not connection.broken and connection.info.transaction_status:
                connection.rollback()
            raise
