"""A real load of a real run, seen through the monitor in another process."""

from __future__ import annotations

from harness.clock import SYSTEM_CLOCK

PATIENCE_S = 60

SUITE = """
import time
from pathlib import Path

from harness.load import run_closed_loop


def test_case(record_load, make_pool):
    pool = make_pool(size_min=2, size_max=2)
    calls = []

    def operate(_context):
        calls.append(None)
        is_refused = len(calls) % 4 == 0
        with pool.checkout() as connection:
            # One in four is refused by the server.
            connection.execute("SELECT pg_sleep(0.002)")
            if is_refused:
                connection.execute("SELECT nothing")

    deadline = time.monotonic() + 60
    while not Path("seen").exists():
        assert time.monotonic() < deadline
        result = run_closed_loop(operate, workers=2, duration_s=3.0)
    record_load(result)
"""


def test_load_of_a_run_is_seen_with_its_errors_and_how_it_fares(watched_run):
    """As a user does it: `monitor serve` beside a run of pytest."""
    with watched_run(SUITE, "--smoke") as (server, suite, run):
        deadline_ns = SYSTEM_CLOCK.monotonic_ns() + PATIENCE_S * 1_000_000_000
        while True:
            assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns, "never seen"
            data = server.get("/live").json()["data"]
            load = data["load"]
            if load and load["throughput_per_s"] and load["errors_total"]:
                break
        health = server.get("/health/detailed").json()
        errors = server.get("/metrics/errors").json()
        (suite / "seen").touch()
        output, _ = run.communicate(timeout=PATIENCE_S)

    assert run.returncode == 0, output
    assert load["case"] == "test_suite.py::test_case"
    assert (load["workers"], load["in_flight"] <= 2) == (2, True)
    # Two callers, of whose operations each takes the server 2 ms or more.
    assert 0 < load["throughput_per_s"] < 1000
    times = load["response_time"]
    assert 2.0 <= times["p50_ms"] <= times["p95_ms"] <= times["p99_ms"]
    share = load["errors_total"] / (load["errors_total"] + load["completed_total"])
    assert 0.15 < share < 0.35
    assert set(errors["error_counts_by_category"]) == {"database_query"}
    assert errors["recent_errors"][0]["operation"] == "UndefinedColumn"
    assert "nothing" in errors["recent_errors"][0]["message"]
    assert health["components"]["connection_pool"]["status"] == "healthy"
    assert health["components"]["operations"]["status"] == "unhealthy"
    assert health["status"] == "unhealthy"
