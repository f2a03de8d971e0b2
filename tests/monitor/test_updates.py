"""Live updates over real WebSockets: to all, for nobody's benefit at no cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import websockets

from harness.clock import SYSTEM_CLOCK
from harness.monitor.app import make_app
from harness.monitor.broadcast import Broadcaster
from harness.monitor.live_api import Subject
from harness.reports.live import LiveData, MetricsUpdate

PATIENCE_S = 30


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


def test_nobody_looks_while_nobody_watches(run, figures, eventually):
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


def test_one_look_serves_all_who_watch(run, figures):
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


def test_200_idle_sockets_do_not_keep_others_from_an_answer(run, figures):
    server = run(make_app(subject=Subject(source=figures), interval_s=0.5))

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


def test_a_client_that_takes_nothing_is_dropped_and_others_go_on(figures):
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
        broadcaster = Broadcaster(figures, interval_s=0.05, send_timeout_s=0.2)
        stuck, taking = StuckWebSocket(), Taking()
        good = asyncio.create_task(broadcaster.serve(taking))
        await asyncio.wait_for(broadcaster.serve(stuck), PATIENCE_S)
        await asyncio.wait_for(taking.enough.wait(), PATIENCE_S)
        good.cancel()
        await asyncio.gather(good, return_exceptions=True)
        return stuck.closed.is_set(), broadcaster.dropped_count

    assert asyncio.run(both()) == (True, 1)


def test_a_socket_that_reads_nothing_is_dropped_by_the_server(run, figures, eventually):
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


def test_memory_stays_flat_over_many_updates(run, figures):
    """Scaled: 150 updates of 100 kB to two clients."""
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
