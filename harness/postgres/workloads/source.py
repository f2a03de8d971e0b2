"""Where a workload's connections come from, in whatever process it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.postgres.pool import PoolConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from harness.postgres.pool import Pool
    from harness.postgres.server import Server


@dataclass(frozen=True, kw_only=True)
class Held:
    """Each worker keeps one connection for the whole run: what a query costs at best.

    Attributes:
        server: Where to connect.
        config: Its timeouts and application name; sizes mean nothing here.
    """

    server: Server
    config: PoolConfig = field(default_factory=PoolConfig)

    def connect(self) -> psycopg.Connection[object]:
        """Open the connection of one worker."""
        from harness.postgres.connect import connect
        from harness.postgres.opening import arguments_for

        return connect(arguments_for(self.server, self.config))


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Each process has a pool, and each operation checks a connection out.

    Attributes:
        server: Where to connect.
        config: Size and timeouts of the pool of one process.
        open_with: Opens another kind of pool; a function of a module, so that it
            can be sent to a process.
    """

    server: Server
    config: PoolConfig = field(default_factory=PoolConfig)
    open_with: Callable[[Server, PoolConfig], Pool] | None = None

    def open(self) -> Pool:
        """Open the pool of one process."""
        if self.open_with is not None:
            return self.open_with(self.server, self.config)
        from harness.postgres.psycopg_pool import PsycopgPool

        return PsycopgPool(self.server, self.config)
