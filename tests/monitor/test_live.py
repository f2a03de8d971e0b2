"""The live side of the monitor: a real server, a real database, real WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import uvicorn
import websockets
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from websockets.sync.client import connect as watch

from harness.clock import SYSTEM_CLOCK
from harness.errors import ConfigError
from harness.lakebase.service import LakebaseService
from harness.monitor.app import make_app
from harness.monitor.broadcast import Broadcaster
from harness.monitor.live_api import Subject, subject_of
from harness.monitor.mount import mount
from harness.postgres.connect import connect
from harness.reports.live import LiveData, MetricsUpdate
from harness.settings import load_settings

PATIENCE_S = 30
TOKEN = "a-token-that-nobody-guesses"


class Running:
    """A uvicorn server of this process on a free port."""

    def __init__(self, app):
        config = uvicorn.Config(
            app, log_level="warning", ws="websockets-sansio", lifespan="off"
        )
        self.server = uvicorn.Server(config)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}
        )
        self.thread.start()
        eventually(lambda: self.server.started, what="the server started")

    def ask(self, path, *, method="GET", **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            f"http://{self.base}{path}", headers=names, method=method
        )
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), NoRedirect()
        )
        try:
            answer = opener.open(request, timeout=PATIENCE_S)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers, answer.read().decode()

    def json(self, path, **options):
        status, _, text = self.ask(path, **options)
        return status, json.loads(text)

    def watch(self, path="/ws/live-updates", **options):
        return watch(f"ws://{self.base}{path}", proxy=None, **options)

    def stop(self):
        self.server.should_exit = True
        self.server.force_exit = True
        self.thread.join(PATIENCE_S)
        self.listener.close()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args):
        return None


def eventually(condition, *, what):
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + PATIENCE_S * 1_000_000_000
    while not condition():
        assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns, f"never: {what}"
        SYSTEM_CLOCK.sleep(0.01)


@pytest.fixture
def run():
    servers = []

    def start(app):
        server = Running(app)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def service(postgres, tmp_path):
    settings = load_settings(
        {"pool.pool_size": 2, "pool.max_overflow": 2},
        environ={"LAKEBASE_PASSWORD": "hunter2-canary"},
        cwd=tmp_path,
        root=tmp_path,
        check=False,
    )
    with LakebaseService(settings, server=postgres) as service:
        service.health.check_now()
        yield service


@pytest.fixture
def app(service):
    return make_app(subject=subject_of(service, allow_query=True), interval_s=0.05)


@pytest.fixture
def server(run, app):
    return run(app)


class Figures:
    """A source whose figures a test sets."""

    def __init__(self):
        self.data = LiveData()
        self.looks = 0

    def live(self):
        self.looks += 1
        return self.data


def test_every_endpoint_of_the_originals_answers(server, service):
    with service.pool.checkout() as connection:
        connection.execute("SELECT 1")
    with pytest.raises(ZeroDivisionError), service.performance.time_operation("divide"):
        1 / 0  # noqa: B018

    assert server.json("/health")[1]["status"] == "healthy"
    detailed = server.json("/health/detailed?hours=1")[1]
    assert detailed["trends"]["total_checks"] >= 1
    assert detailed["components"]["connection_pool"]["details"]["size_max"] == 4
    performance = server.json("/metrics/performance")[1]
    assert performance["operation_stats"]["divide"]["failed_requests"] == 1
    pool = server.json("/metrics/pool")[1]
    assert (pool["pool_size"], pool["max_overflow"]) == (2, 2)
    assert (pool["active_connections"], pool["available_connections"]) == (0, 4)
    assert pool["total_checkouts"] == 1
    errors = server.json("/metrics/errors")[1]
    assert errors["total_errors"] == 1
    assert errors["recent_errors"][0]["message"] == "ZeroDivisionError"
    status, tested = server.json("/test/connection", method="POST")
    assert (status, tested["success"]) == (200, True)
    assert server.json("/readyz") == (200, {"status": "ready"})
    assert server.json("/livez") == (200, {"status": "ok"})
    endpoints = set(server.json("/")[1]["endpoints"].values())
    assert {"/health", "/test/query", "/config", "/ws/live-updates"} <= endpoints
    text = server.ask("/metrics")[2]
    assert "lakegauge_pool_connections" in {
        family.name for family in text_string_to_metric_families(text)
    }


def test_config_shows_no_secret(server):
    _, _, text = server.ask("/config")

    shown = json.loads(text)["settings"]["lakebase.password"]
    assert shown == {"value": "***", "source": "LAKEBASE_PASSWORD"}
    assert "canary" not in text


def test_health_is_503_before_anybody_has_looked(run):
    server = run(make_app(subject=Subject(source=Figures())))

    assert server.json("/health")[0] == 503
    assert server.json("/readyz")[0] == 503
    assert server.json("/metrics/pool")[0] == 503
    assert server.json("/livez")[0] == 200


def test_a_pool_alone_can_be_mounted_in_an_application(run, make_pool):
    pool = make_pool(size_min=1, size_max=3)
    application = FastAPI()
    mount(application, pool, path="/watch")
    server = run(application)
    with pool.checkout() as connection:
        connection.execute("SELECT 1")

    assert server.json("/watch/metrics/pool")[1]["total_checkouts"] == 1
    assert server.json("/watch/test/query?query=SELECT%201", method="POST")[0] == 403
    with server.watch("/watch/ws/live-updates") as socket_:
        update = json.loads(socket_.recv(PATIENCE_S))
    assert update["data"]["pool"]["size_max"] == 3


def test_updates_come_as_metrics_update_with_the_values_of_the_endpoints(
    server, service
):
    with server.watch() as client, service.pool.checkout():
        updates = [
            MetricsUpdate.model_validate_json(client.recv(PATIENCE_S)) for _ in range(3)
        ]
        now = server.json("/metrics/pool")[1]

    assert {update.type for update in updates} == {"metrics_update"}
    sequences = [update.sequence for update in updates]
    assert sequences == sorted(set(sequences))
    assert updates[-1].data.pool.in_use == now["active_connections"] == 1
    assert updates[-1].data.health.status == "healthy"


def test_a_message_of_a_client_is_acknowledged(server):
    with server.watch() as client:
        client.send("hello")
        answers = [json.loads(client.recv(PATIENCE_S)) for _ in range(4)]

    (ack,) = [answer for answer in answers if answer["type"] == "ack"]
    assert ack["echo"] == "hello"


def test_nobody_looks_while_nobody_watches(run):
    figures = Figures()
    server = run(make_app(subject=Subject(source=figures), interval_s=0.05))
    with server.watch() as client:
        client.recv(PATIENCE_S)
        client.recv(PATIENCE_S)
    broadcaster = server.server.config.app.state.broadcaster
    eventually(lambda: broadcaster.clients_count == 0, what="the client left")
    eventually(broadcaster._task.done, what="the looking ended")
    looks = figures.looks

    SYSTEM_CLOCK.sleep(0.2)

    assert figures.looks == looks


def test_one_look_serves_all_who_watch(run):
    figures = Figures()
    server = run(make_app(subject=Subject(source=figures), interval_s=0.1))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.watch()) for _ in range(20)]
        for client in clients:
            client.recv(PATIENCE_S)
        before = figures.looks
        for client in clients:
            for _ in range(5):
                client.recv(PATIENCE_S)
        looks = figures.looks - before

    # Not twenty times as many; on a busy machine ticks go on while clients read.
    assert looks < 5 * 20 / 2


def test_200_idle_sockets_do_not_keep_others_from_an_answer(run):
    server = run(make_app(subject=Subject(source=Figures()), interval_s=0.5))

    async def crowd():
        url = f"ws://{server.base}/ws/live-updates"
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(200):
                await stack.enter_async_context(websockets.connect(url, proxy=None))
            status, _ = await asyncio.to_thread(server.json, "/livez")
            late = await stack.enter_async_context(websockets.connect(url, proxy=None))
            update = await asyncio.wait_for(late.recv(), PATIENCE_S)
            return status, json.loads(update)["type"]

    assert asyncio.run(crowd()) == (200, "metrics_update")


class StuckWebSocket:
    """A client whose connection takes no more, as uvicorn shows one."""

    def __init__(self):
        self.closed = asyncio.Event()
        self.never = asyncio.Event()

    async def accept(self):
        pass

    async def send_text(self, _text):
        await self.never.wait()

    async def receive_text(self):
        await self.never.wait()

    async def close(self, code, reason=None):
        del code, reason
        self.closed.set()


def test_a_client_that_takes_nothing_is_dropped_and_others_go_on():
    class Taking(StuckWebSocket):
        def __init__(self):
            super().__init__()
            self.taken = 0
            self.enough = asyncio.Event()

        async def send_text(self, _text):
            self.taken += 1
            if self.taken == 5:
                self.enough.set()

    async def both():
        broadcaster = Broadcaster(Figures(), interval_s=0.05, send_timeout_s=0.2)
        stuck, taking = StuckWebSocket(), Taking()
        good = asyncio.create_task(broadcaster.serve(taking))
        await asyncio.wait_for(broadcaster.serve(stuck), PATIENCE_S)
        await asyncio.wait_for(taking.enough.wait(), PATIENCE_S)
        good.cancel()
        await asyncio.gather(good, return_exceptions=True)
        return stuck.closed.is_set(), broadcaster.dropped_count

    assert asyncio.run(both()) == (True, 1)


def test_a_socket_that_reads_nothing_is_dropped_by_the_server(run):
    figures = Figures()
    figures.data = LiveData(notes=("x" * 1_000_000,))
    app = make_app(subject=Subject(source=figures), interval_s=0.05)
    broadcaster = app.state.broadcaster
    broadcaster._send_timeout_s = 0.3
    server = run(app)
    host, _, port = server.base.partition(":")
    with socket.create_connection((host, int(port))) as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.sendall(
            b"GET /ws/live-updates HTTP/1.1\r\n"
            + f"Host: {server.base}\r\n".encode()
            + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        eventually(lambda: broadcaster.dropped_count == 1, what="dropped")

    eventually(lambda: broadcaster.clients_count == 0, what="forgotten")
    assert server.json("/livez")[0] == 200


def test_the_event_loop_answers_while_a_look_takes_long(run):
    begun, end = threading.Event(), threading.Event()

    class Slow:
        def live(self):
            begun.set()
            assert end.wait(PATIENCE_S)
            return LiveData()

    server = run(make_app(subject=Subject(source=Slow())))
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(server.json, "/live")
        assert begun.wait(PATIENCE_S)
        assert server.json("/livez")[0] == 200
        assert not slow.done()
        end.set()
        assert slow.result(PATIENCE_S)[0] == 200


def query(server, statement):
    quoted = urllib.parse.quote(statement)
    return server.json(f"/test/query?query={quoted}", method="POST")


def test_a_statement_that_reads_is_answered(server):
    status, answer = query(
        server, "SELECT g AS updated_at, NULL FROM generate_series(1, 500) g"
    )

    assert (status, answer["columns"]) == (200, ["updated_at", "?column?"])
    assert (answer["row_count"], answer["truncated"]) == (100, True)
    assert answer["rows"][0] == ["1", None]


ATTACKS = (
    "SELECT 1; DROP TABLE victim",
    "SELECT 1; SELECT 2",
    "; DELETE FROM victim",
    "SELECT 1 -- \n; DROP TABLE victim",
    "DROP TABLE victim",
    "TRUNCATE victim",
    "DELETE FROM victim",
    "INSERT INTO victim VALUES (2)",
    "UPDATE victim SET x = 2",
    "WITH d AS (DELETE FROM victim RETURNING 1) SELECT * FROM d",
    "CREATE TABLE more (x int)",
    "SELECT 1 INTO more",
    "COPY victim TO STDOUT",
    "COPY (SELECT 1) TO PROGRAM 'touch /tmp/x'",
    "GRANT ALL ON victim TO public",
    "DO $$ BEGIN DELETE FROM victim; END $$",
    "CALL something()",
    "COMMIT",
    "COMMIT; DROP TABLE victim",
    "SET default_transaction_read_only = off",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT SET_CONFIG('transaction_read_only', 'off', false)",
    "SELECT pg_catalog.\"set_config\"('transaction_read_only', 'off', false)",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "SELECT * FROM pg_read_file('/etc/passwd')",
    "SELECT (SELECT lo_import('/etc/passwd'))",
    "SELECT 1 ORDER BY pg_reload_conf()",
    "SELECT query_to_xml('DELETE FROM victim', true, true, '')",
    "SELECT writes()",
    "SELECT x FROM hidden",
    "SELECT * FROM victim FOR UPDATE",
    "EXPLAIN ANALYZE DELETE FROM victim",
    "SELECT pg_sleep(60)",
    "SELECT 1\x00",
    "'",
    "SELECT '",
)


@pytest.fixture
def victim(postgres):
    with connect(postgres.connect_arguments()) as connection:
        connection.execute(
            "DROP TABLE IF EXISTS victim CASCADE; CREATE TABLE victim (x int);"
            "INSERT INTO victim VALUES (1);"
            "CREATE OR REPLACE FUNCTION writes() RETURNS int LANGUAGE plpgsql AS "
            "$$ BEGIN DELETE FROM victim; RETURN 1; END $$;"
            "CREATE OR REPLACE VIEW hidden AS SELECT writes() AS x"
        )
        yield lambda: connection.execute("SELECT x FROM victim").fetchall()
        connection.execute("DROP TABLE victim CASCADE; DROP FUNCTION writes() CASCADE")


def test_no_attack_on_test_query_does_anything(run, service, victim, monkeypatch):
    monkeypatch.setattr("harness.monitor.live_api.TEST_TIMEOUT_S", 1.0)
    server = run(make_app(subject=subject_of(service, allow_query=True)))

    answers = {statement: query(server, statement) for statement in ATTACKS}

    # The NUL does not reach the statement as one: it is refused like the others.
    assert {
        statement for statement, (status, _) in answers.items() if status != 400
    } <= set()
    assert victim() == [(1,)]
    assert service.health.check_now().status == "healthy"


def test_test_query_leaves_no_connection_behind(server, postgres):
    query(server, "SELECT 1")
    query(server, "SELECT no_such_column")

    with connect(postgres.connect_arguments()) as connection:
        eventually(
            lambda: (
                connection.execute(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE application_name = 'lakegauge_test_query'"
                ).fetchone()
                == (0,)
            ),
            what="its connections are closed",
        )


def test_only_a_few_tests_run_at_once(run, service):
    server = run(make_app(subject=subject_of(service, allow_query=True)))
    with ThreadPoolExecutor(6) as threads:
        found = list(
            threads.map(lambda _: query(server, "SELECT pg_sleep(0.5)")[0], range(6))
        )

    assert set(found) == {200, 429}


def test_a_page_of_another_origin_may_neither_ask_nor_watch(server):
    foreign = {"Origin": "http://evil.example"}

    assert server.json("/test/connection", method="POST", **foreign)[0] == 403
    assert server.json("/health", Sec_Fetch_Site="cross-site")[0] == 403
    with pytest.raises(websockets.InvalidStatus) as refused:
        server.watch(additional_headers=foreign)
    assert refused.value.response.status_code == 403
    with server.watch(additional_headers={"Origin": f"http://{server.base}"}) as client:
        assert client.recv(PATIENCE_S)


def test_a_name_that_is_not_this_machine_gets_nothing(server):
    assert server.json("/health", Host="evil.example")[0] == 421
    with pytest.raises(websockets.InvalidStatus):
        server.watch(additional_headers={"Host": "evil.example"})


@pytest.fixture
def guarded(run, service):
    return run(
        make_app(subject=subject_of(service, allow_query=False), token=SecretStr(TOKEN))
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer "},
        {"X-Lakegauge-Token": "wrong"},
        {"Cookie": "lakegauge_token=wrong"},
        {"Cookie": "lakegauge_token"},
    ],
    ids=str,
)
def test_without_the_token_nothing_is_answered(guarded, headers):
    for path in ("/", "/health", "/livez", "/metrics", "/openapi.json", "/config"):
        status, _, text = guarded.ask(path, **headers)
        assert status == 401, path
        assert TOKEN not in text
    with pytest.raises(websockets.InvalidStatus):
        guarded.watch(additional_headers=headers)


def test_with_the_token_everything_is_answered(guarded):
    bearer = {"Authorization": f"Bearer {TOKEN}", "Host": "elsewhere.example"}

    assert guarded.json("/health", **bearer)[0] == 200
    assert guarded.json("/livez", X_Lakegauge_Token=TOKEN)[0] == 200
    with guarded.watch(additional_headers={"Cookie": f"lakegauge_token={TOKEN}"}) as c:
        assert c.recv(PATIENCE_S)


def test_the_dashboard_can_be_opened_with_the_token_in_its_address(guarded):
    status, headers, _ = guarded.ask(f"/dashboard?token={TOKEN}")

    assert (status, headers["location"]) == (303, "/dashboard")
    assert "HttpOnly" in headers["set-cookie"]
    assert "samesite=strict" in headers["set-cookie"].lower()
    assert guarded.ask("/dashboard?token=wrong")[0] == 401
    assert guarded.ask(f"/health?token={TOKEN}")[0] == 401


def test_a_token_that_can_be_guessed_is_refused():
    with pytest.raises(ConfigError, match="fewer than 16 characters") as refused:
        make_app(token=SecretStr("guessable"))
    assert "guessable" not in str(refused.value)


def test_every_answer_has_a_schema(app):
    document = app.openapi()

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation["responses"]["200"]["content"]
            for kind in content.values():
                assert kind["schema"], (method, path)
                # Text for Prometheus, and a page for people with its parts.
                if path not in {"/metrics", "/dashboard", "/static/{name}"}:
                    assert "$ref" in kind["schema"], (method, path)


def test_memory_stays_flat_over_many_updates(run):
    """Scaled: 150 updates of 100 kB to two clients."""
    figures = Figures()
    figures.data = LiveData(notes=("y" * 100_000,))
    app = make_app(subject=Subject(source=figures), interval_s=0.05)
    app.state.broadcaster._interval_s = 0.001
    server = run(app)
    process = psutil.Process()

    async def soak():
        url = f"ws://{server.base}/ws/live-updates"
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    websockets.connect(url, proxy=None, max_queue=2)
                )
                for _ in range(2)
            ]

            async def read(client, count):
                for _ in range(count):
                    await asyncio.wait_for(client.recv(), PATIENCE_S)

            await asyncio.gather(*(read(client, 40) for client in clients))
            before = process.memory_info().rss
            await asyncio.gather(*(read(client, 110) for client in clients))
            return process.memory_info().rss - before

    assert asyncio.run(soak()) < 10_000_000
