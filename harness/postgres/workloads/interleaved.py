"""Sessions that let other workers run while the server works on their statement.

Outside an interleaved load they block like any other session.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from harness.load.interleaving import ACTIVE, current_hub
from harness.postgres.workloads.session import CursorSession, DirectSession

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import psycopg

    from harness.load.interleaving import Hub


class InterleavedCursorSession(CursorSession):
    """A cursor whose connection waits through the hub of the load.

    psycopg hands every exchange with the server to `Connection.wait` as a generator
    that says what it waits for; that method is the seam.

    Args:
        connection: In autocommit mode.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection)
        blocking_wait = connection.wait

        def wait(generator: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
            hub = current_hub()
            if hub is None or args or kwargs:
                # A limit on the wait is psycopg's own business: it is cancelling.
                return blocking_wait(generator, *args, **kwargs)
            descriptor = connection.pgconn.socket
            try:
                wanted = next(generator)
                while True:
                    wanted = generator.send(hub.wait(descriptor, wanted))
            except StopIteration as end:
                return end.value

        connection.wait = wait  # type: ignore[method-assign, assignment]


class InterleavedDirectSession(DirectSession):
    """Prepared statements through libpq, sent without waiting for the answer.

    Args:
        connection: In autocommit mode.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection)
        self._descriptor = connection.pgconn.socket
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._hub: Hub | None = None
        self._exchange = self._send_and_wait

    def _send_and_wait(self, name: bytes, values: Sequence[bytes]) -> Any:
        pgconn, descriptor = self._pgconn, self._descriptor
        hub = ACTIVE.hub
        # To send blocks only where a statement does not fit the socket's buffer.
        if hub is None:
            pgconn.send_query_prepared(name, values)
            self._poll.poll()
        else:
            if hub is not self._hub:
                hub.watch(descriptor)
                self._hub = hub
            hub.exchange(descriptor, pgconn.send_query_prepared, name, values)
        pgconn.consume_input()
        while pgconn.is_busy():
            if hub is None:
                self._poll.poll()
            else:
                hub.wait_watched(descriptor)
            pgconn.consume_input()
        result = pgconn.get_result()
        # Until there is none left: else the connection takes no other statement.
        while pgconn.get_result() is not None:
            pass
        return result
