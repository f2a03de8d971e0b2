"""The live endpoints over a real server and a real database."""

from __future__ import annotations

import json

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from harness.monitor.app import make_app
from harness.monitor.live_api import Subject
from harness.monitor.mount import mount

PATIENCE_S = 30


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


def test_health_is_503_before_anybody_has_looked(run, figures):
    server = run(make_app(subject=Subject(source=figures)))

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
