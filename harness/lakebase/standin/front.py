"""The front: takes a connection, finds its compute, checks the login, passes it on."""

from __future__ import annotations

import asyncio
import hmac
import re
import socket
import struct
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from harness.errors import HarnessError
from harness.lakebase.standin.backing import DATABASE
from harness.lakebase.standin.certificates import make_tls
from harness.lakebase.standin.plan import DOMAIN, HOST
from harness.lakebase.standin.pooler import NO_MORE_CLIENTS, Pool, PoolClient
from harness.lakebase.standin.session import Session
from harness.lakebase.standin.side import Side
from harness.lakebase.standin.wire import (
    ASK_CLEARTEXT,
    AUTHENTICATED,
    CANCEL_REQUEST,
    GSS_REQUEST,
    SSL_REQUEST,
    TLS_HANDSHAKE,
    ProtocolError,
    Refusal,
    error_response,
    parse_startup,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from harness.lakebase.standin.backing import Backing
    from harness.lakebase.standin.compute import Route
    from harness.lakebase.standin.journal import Journal
    from harness.lakebase.standin.machine import Machine
    from harness.lakebase.standin.plan import StandinPlan
    from harness.lakebase.standin.resources import Resources
    from harness.lakebase.standin.tokens import Tokens

CONNECTIONS_WAITING_MAX = 2048
LOGIN_TIMEOUT_S = 120.0
# What the service's pooler may take of a compute, for one user and database.
POOL_SHARE = 0.9
# The way out for clients without SNI, as the service's lineage has it.
ENDPOINT_OPTION = re.compile(r"(?:^|\s)(?:-c\s*)?endpoint=(\S+)")
BAD_PASSWORD = 'password authentication failed for user "{user}"'  # noqa: S105
READ_ONLY = "-c default_transaction_read_only=on"
INSECURE = Refusal("28000", "connection is insecure: use sslmode=require", "no TLS")
NO_HOST = Refusal(
    "08P01", "no endpoint named: the client sent no host name (SNI)", "no SNI"
)


class Front:
    """The Postgres a client sees.

    Args:
        plan: Whether it demands TLS.
        resources: Which host name leads where.
        tokens: Which passwords are good.
        backing: The Postgres behind it.
        journal: Where each login is noted.
        machine_of: Returns the compute behind a uid.
    """

    def __init__(
        self,
        *,
        plan: StandinPlan,
        resources: Resources,
        tokens: Tokens,
        backing: Backing,
        journal: Journal,
        machine_of: Callable[[str], Machine],
    ) -> None:
        self.root_pem = ""
        self._plan = plan
        self._resources = resources
        self._tokens = tokens
        self._backing = backing
        self._journal = journal
        self._machine_of = machine_of
        self._tasks: set[asyncio.Task[None]] = set()
        self._names: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._pools: dict[tuple[Route, str, str], Pool] = {}
        self._tls: ssl.SSLContext | None = None
        if plan.tls:
            self._tls, self.root_pem = make_tls()
            # The documented hook's type is looser than typeshed's.
            self._tls.sni_callback = self._note_name

    async def start(self) -> int:
        """Begin to take connections; return the port."""
        listener = socket.create_server((HOST, 0), backlog=CONNECTIONS_WAITING_MAX)
        listener.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._keep(asyncio.create_task(self._accept(listener)))
        port: int = listener.getsockname()[1]
        return port

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._keep(asyncio.create_task(self._serve(connection)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note_name(self, tls: Any, name: str | None, _context: Any) -> None:
        self._names[tls] = name or ""

    async def _serve(self, connection: socket.socket) -> None:
        client: Side | None = None
        facts: dict[str, Any] = {}
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT_S):
                client = await self._open(connection, facts)
                if client is not None:
                    await self._log_in(client, facts)
        except Refusal as refusal:
            self._journal.note(
                "login",
                **facts,
                sqlstate=refusal.sqlstate,
                reason=refusal.reason or refusal.message,
            )
            if client is not None:
                client.write(error_response(refusal))
                client.close()
        except (OSError, TimeoutError, ProtocolError, EOFError) as error:
            self._journal.note("login", **facts, sqlstate=None, reason=repr(error))
            if client is not None:
                client.close()
            else:
                connection.close()

    async def _open(
        self, connection: socket.socket, facts: dict[str, Any]
    ) -> Side | None:
        """Answer what comes before the startup packet; None if that was all."""
        loop = asyncio.get_running_loop()
        while True:
            head = await _peek(connection)
            length, code = struct.unpack("!II", head)
            if head[0] == TLS_HANDSHAKE and self._tls is not None:
                return await self._over_tls(connection, facts)
            if code not in {SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST}:
                return await self._over_nothing(connection)
            packet = await _exactly(connection, min(length, 1024))
            if code == CANCEL_REQUEST:
                # Process ids are the backing's own, and so are the secrets.
                await self._backing.cancel(packet[4:])
                connection.close()
                return None
            if code == SSL_REQUEST and self._tls is not None:
                await loop.sock_sendall(connection, b"S")
                return await self._over_tls(connection, facts)
            await loop.sock_sendall(connection, b"N")

    async def _over_tls(self, connection: socket.socket, facts: dict[str, Any]) -> Side:
        loop = asyncio.get_running_loop()
        client = Side()
        # uvloop returns its own protocol here, so ours is made before.
        await loop.connect_accepted_socket(lambda: client, connection, ssl=self._tls)
        tls = client.transport.get_extra_info("ssl_object")
        facts["host"] = self._names.get(tls) or None
        return client

    async def _over_nothing(self, connection: socket.socket) -> Side:
        client = Side()
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: client, connection)
        if self._tls is not None:
            await client.read_startup()
            client.write(error_response(INSECURE))
            client.close()
            raise INSECURE
        return client

    async def _log_in(self, client: Side, facts: dict[str, Any]) -> None:
        packet = await client.read_startup()
        if int.from_bytes(packet[:4], "big") == CANCEL_REQUEST:
            # Encrypted: what newer clients do.
            await self._backing.cancel(packet)
            client.close()
            return
        parameters = parse_startup(packet)
        user = parameters.pop("user", "")
        database = parameters.pop("database", user)
        facts |= {"user": user, "database": database}
        route = self._route(facts.get("host"), parameters)
        facts |= {"compute": route.uid, "replica": route.replica}
        facts["pooled"] = route.pooled
        client.write(ASK_CLEARTEXT)
        kind, payload = await client.read_message()
        if kind != b"p":
            msg = f"message {kind!r} instead of a password"
            raise ProtocolError(msg)
        password = payload.rstrip(b"\0").decode("utf-8", "replace")
        self._authenticate(user, password, route, facts)
        machine = self._machine_of(route.uid)
        await machine.ready()
        namespace = machine.compute.namespace
        if database == DATABASE:
            database = namespace + database
            try:
                await self._backing.ensure_database(database)
            except HarnessError as error:
                raise Refusal("08006", "the compute is gone", str(error)) from None
        if route.pooled and "options" in parameters:
            text = "unsupported startup parameter: options"
            raise Refusal("08P01", text)
        if route.replica:
            options = parameters.get("options", "")
            parameters["options"] = f"{options} {READ_ONLY}".strip()
        parameters["database"] = database
        if route.pooled:
            await self._pool(client, machine, user, parameters, route, facts)
            return
        await self._pass_on(client, machine, user, parameters, route, facts)

    def _route(self, host: str | None, parameters: dict[str, str]) -> Route:
        option = ENDPOINT_OPTION.search(parameters.get("options", ""))
        if option is not None:
            host = f"{option[1]}.{DOMAIN}"
            rest = ENDPOINT_OPTION.sub("", parameters["options"]).strip()
            parameters.pop("options")
            if rest:
                parameters["options"] = rest
        if host is None:
            if self._tls is not None:
                raise NO_HOST
            # Without TLS no name ever comes; there is one endpoint to mean.
            host = self._resources.compute_of(self._plan.endpoint).host()
        route = self._resources.routes.get(host.lower())
        if route is None:
            raise Refusal("08P01", f"no endpoint is called {host!r}", "unknown host")
        return route

    def _authenticate(
        self, user: str, password: str, route: Route, facts: dict[str, Any]
    ) -> None:
        plan = self._plan
        why = "unknown role"
        if user == plan.native_role:
            good = hmac.compare_digest(password.encode(), plan.native_password.encode())
            why = "" if good else "wrong password"
        elif user in {plan.user, plan.client_id}:
            number, why = self._tokens.check(password, user=user, compute=route.uid)
            facts["token"] = number
            if route.pooled:
                why = "a token on the pooled host"
        if why:
            raise Refusal("28P01", BAD_PASSWORD.format(user=user), why)

    async def _pool(
        self,
        client: Side,
        machine: Machine,
        user: str,
        parameters: dict[str, str],
        route: Route,
        facts: dict[str, Any],
    ) -> None:
        plan, compute = self._plan, machine.compute
        if len(machine.pool_clients) >= plan.pool_clients_max:
            raise NO_MORE_CLIENTS
        key = (route, user, parameters["database"])
        if key not in self._pools:
            self._pools[key] = Pool(
                machine=machine,
                slots=machine.replica if route.replica else machine.primary,
                size=plan.pool_size or int(POOL_SHARE * compute.max_connections),
                queue_s=plan.here_s(plan.pool_queue_s),
                login=lambda: self._backing.login(user, parameters),
                journal=self._journal,
            )
        pool = self._pools[key]
        welcome = await pool.welcome()
        self._journal.note("login", **facts, sqlstate="00000", reason="", pid=0)
        PoolClient(pool, client).start(welcome)

    async def _pass_on(
        self,
        client: Side,
        machine: Machine,
        user: str,
        parameters: dict[str, str],
        route: Route,
        facts: dict[str, Any],
    ) -> None:
        slots = machine.replica if route.replica else machine.primary
        slots.take(machine.compute.max_connections)
        try:
            server, messages, (pid, _) = await self._backing.login(user, parameters)
        except Refusal as refusal:
            slots.give_back()
            shown = refusal.message.replace(machine.compute.namespace, "")
            raise Refusal(refusal.sqlstate, shown, refusal.reason) from None
        except BaseException:
            slots.give_back()
            raise
        session = Session(
            client=client,
            server=server,
            pid=pid,
            limit=lambda: machine.compute.max_connections,
            up_s=machine.up_s,
            on_end=slots.give_back,
        )
        slots.sessions.add(session)
        self._journal.note("login", **facts, sqlstate="00000", reason="", pid=pid)
        client.write(AUTHENTICATED + b"".join(messages))
        session.start()


async def _peek(connection: socket.socket) -> bytes:
    """Return the first eight bytes without taking them."""
    loop = asyncio.get_running_loop()
    while True:
        readable = loop.create_future()
        loop.add_reader(connection, _settle, readable)
        try:
            await readable
        finally:
            loop.remove_reader(connection)
        head = connection.recv(8, socket.MSG_PEEK)
        if len(head) == 8:  # noqa: PLR2004 - length and code
            return head
        if not head:
            msg = "the connection ended before it began"
            raise EOFError(msg)
        # The rest is on its way; the socket stays readable all the while.
        await asyncio.sleep(0.001)


def _settle(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)


async def _exactly(connection: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        chunk = await loop.sock_recv(connection, count - len(data))
        if not chunk:
            msg = "the connection ended in a packet"
            raise EOFError(msg)
        data += chunk
    return data
