"""The crowd that watches in benchmarks: it counts what it is sent, and stays."""

from __future__ import annotations

import threading

import pytest
from websockets.sync.server import serve as serve_websocket

from harness.errors import TargetError
from harness.monitor.crowd import Watcher
from harness.monitor.served import ServedMonitor

PATIENCE_S = 30
LENGTHS = (0, 1, 125, 126, 65_535, 65_536, 1_000_000)


def test_every_update_is_counted_and_every_ping_answered():
    """Lengths on both sides of where a frame says them in more bytes."""
    answered, all_sent = [], threading.Event()

    def talk(connection):
        for length in LENGTHS:
            connection.send("x" * length)
            pong = connection.ping()
            answered.append(pong.wait(PATIENCE_S))
        all_sent.set()

    with serve_websocket(talk, "127.0.0.1", 0, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        watcher = Watcher(f"ws://127.0.0.1:{port}/")
        watcher.socket.settimeout(PATIENCE_S)
        while watcher.take():
            pass
        watcher.socket.close()
        server.shutdown()

    assert all_sent.is_set()
    assert answered == [True] * len(LENGTHS)
    assert watcher.updates == len(LENGTHS)


def test_what_is_no_websocket_is_said_to_be_none(serve, tmp_path):
    server = serve(tmp_path / "reports")
    url = server.base.replace("http://", "ws://")

    with pytest.raises(ConnectionError, match="is no WebSocket"):
        Watcher(f"{url}/livez")


def test_paused_crowd_stops_and_stays(tmp_path, eventually):
    with ServedMonitor(tmp_path, interval_s=0.05) as monitor:
        monitor.gather(3)
        monitor.pause()
        eventually(
            lambda: {p.status() for p in monitor._processes()} == {"stopped"},
            what="both processes are stopped",
        )
        monitor.resume()
        updates, stayed = monitor.disperse()

    assert updates >= 3
    assert stayed == 3


def test_crowd_that_finds_no_monitor_says_so(tmp_path):
    with ServedMonitor(tmp_path, interval_s=0.05) as monitor:
        monitor.url = "http://127.0.0.1:1/dashboard"
        with pytest.raises(TargetError, match="before it began"):
            monitor.gather(1)
