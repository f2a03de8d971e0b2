"""The real Postgres behind a stand-in: roles and databases, logins, terminations."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.lakebase.standin.scram import MECHANISM, Scram
from harness.lakebase.standin.side import Side
from harness.lakebase.standin.wire import (
    Refusal,
    error_fields,
    message,
    startup_packet,
)
from harness.postgres.administrator import Administrator
from harness.postgres.server import ConnectArguments

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.lakebase.standin.plan import StandinPlan

DATABASE = "databricks_postgres"
CONNECT_TIMEOUT_S = 10.0
_OK, _CLEARTEXT, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 10, 11, 12
TLS_MODES = ("require", "verify-ca", "verify-full")


class Backing:
    """The Postgres behind a stand-in.

    Args:
        arguments: How its superuser logs in.
        plan: Whose roles are made.
    """

    def __init__(self, arguments: Mapping[str, Any], plan: StandinPlan) -> None:
        self._arguments = ConnectArguments(arguments)
        self._administrator = Administrator(self._arguments)
        self._databases: dict[str, asyncio.Task[None]] = {}
        self._passwords = {
            role: secrets.token_urlsafe(24)
            for role in (plan.user, plan.client_id, plan.native_role)
        }
        self._owner = plan.user

    async def prepare(self) -> None:
        """Make the roles: one owns the databases, the others are its members."""
        for role, password in self._passwords.items():
            await asyncio.to_thread(
                self._administrator.create_role,
                role,
                password,
                member_of=None if role == self._owner else self._owner,
            )

    async def ensure_database(self, name: str) -> None:
        """Make a database on its first use, once however many logins need it."""
        if name not in self._databases:
            making = asyncio.to_thread(
                self._administrator.create_database, name, owner=self._owner
            )
            self._databases[name] = asyncio.create_task(making)
        await asyncio.shield(self._databases[name])

    async def terminate(self, pids: Iterable[int]) -> None:
        """End sessions as an administrator would: Postgres itself says 57P01."""
        await asyncio.to_thread(self._administrator.terminate, list(pids))

    async def empty_buffers(self, prefix: str) -> tuple[int, int] | None:
        """Take the databases of a compute out of the shared buffers."""
        names = [name for name in self._databases if name == f"{prefix}{DATABASE}"]
        return await asyncio.to_thread(self._administrator.empty_buffers, names)

    async def clean_up(self) -> None:
        """Drop what was made, where the server still runs."""
        with suppress(HarnessError, TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.to_thread(
                    self._administrator.drop,
                    databases=list(self._databases),
                    roles=list(reversed(self._passwords)),
                )

    async def login(
        self, role: str, parameters: Mapping[str, str]
    ) -> tuple[Side, list[bytes], tuple[int, bytes]]:
        """Open a session.

        Returns:
            The connection; the messages between the authentication and the first
            ReadyForQuery, that included; process id and secret for cancelling.

        Raises:
            Refusal: Postgres refuses, with its own SQLSTATE and words.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                side = await self._connect()
                side.write(startup_packet({**parameters, "user": role}))
                await self._authenticate(side, self._passwords[role])
                return await _until_ready(side)
        except (OSError, TimeoutError) as error:
            text = "could not connect to the compute"
            raise Refusal("08006", text, f"backing: {error}") from None

    async def cancel(self, packet: bytes) -> None:
        """Pass a cancel request on, given without its length."""
        with suppress(OSError):
            side = await self._connect()
            side.write(len(packet + b"size").to_bytes(4, "big") + packet)
            side.close()

    async def _connect(self) -> Side:
        arguments = self._arguments
        host = str(arguments.get("hostaddr") or arguments.get("host") or "127.0.0.1")
        loop = asyncio.get_running_loop()
        port = int(arguments.get("port") or 5432)
        if arguments.get("sslmode", "prefer") not in TLS_MODES:
            side = Side()
            await loop.create_connection(lambda: side, host, port)
            return side
        plain = _TlsOffer()
        await loop.create_connection(lambda: plain, host, port)
        await plain.accepted
        context = ssl.create_default_context(cafile=arguments.get("sslrootcert"))
        context.check_hostname = False
        if "sslrootcert" not in arguments:
            context.verify_mode = ssl.CERT_NONE
        side = Side()
        transport = await loop.start_tls(plain.transport, side, context)
        if transport is None:
            msg = "the backing Postgres broke off the TLS handshake"
            raise ConnectionError(msg)
        side.connection_made(transport)
        return side

    async def _authenticate(self, side: Side, password: str) -> None:
        scram = Scram(password)
        while True:
            kind, payload = await side.read_message()
            if kind == b"E":
                raise _refusal(payload)
            if kind != b"R":
                continue
            step, rest = int.from_bytes(payload[:4], "big"), payload[4:]
            if step == _OK:
                return
            if step == _SASL and MECHANISM in rest.split(b"\0"):
                first = scram.first()
                head = MECHANISM + b"\0" + len(first).to_bytes(4, "big")
                side.write(message(b"p", head + first))
            elif step == _SASL_CONTINUE:
                side.write(message(b"p", scram.final(rest)))
            elif step == _CLEARTEXT:
                side.write(message(b"p", password.encode() + b"\0"))
            elif step != _SASL_FINAL or not scram.verify(rest):
                text = "could not connect to the compute"
                raise Refusal("08006", text, f"backing asks for authentication {step}")


class _TlsOffer(asyncio.Protocol):
    """Asks the server for TLS."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.accepted = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = transport  # type: ignore[assignment] # stream sockets only
        self.transport.write(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")

    def data_received(self, data: bytes) -> None:
        """Note the answer."""
        if data == b"S":
            self.accepted.set_result(None)
        else:
            self.accepted.set_exception(ConnectionError("no TLS offered"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that there will be no answer."""
        if not self.accepted.done():
            self.accepted.set_exception(exc or ConnectionError("closed"))


async def _until_ready(side: Side) -> tuple[Side, list[bytes], tuple[int, bytes]]:
    messages: list[bytes] = []
    key = (0, b"")
    while True:
        kind, payload = await side.read_message()
        if kind == b"E":
            raise _refusal(payload)
        if kind == b"K":
            key = int.from_bytes(payload[:4], "big"), payload[4:]
        messages.append(message(kind, payload))
        if kind == b"Z":
            return side, messages, key


def _refusal(payload: bytes) -> Refusal:
    fields = error_fields(payload)
    return Refusal(fields.get("C", "XX000"), fields.get("M", ""), "postgres")
