"""Pipelines on a workspace: the real SDK, against a server that speaks its API."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config

from harness import ConfigError, SparkError
from harness.clock import ManualClock
from harness.spark.pipelines.workspace import (
    Autoscaling,
    PipelinePlan,
    WorkspacePipeline,
    deployed,
)

PLAN = PipelinePlan(
    name="orders",
    files=["/Workspace/orders.py"],
    catalog="main",
    schema="sales",
    autoscaling=Autoscaling(workers_min=1, workers_max=5),
)


class Workspace(ThreadingHTTPServer):
    """Answers as the pipelines API does, and notes what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.states = ["QUEUED", "RUNNING", "COMPLETED"]
        self.messages = ["Flow 'bronze' is RUNNING.", "Flow 'bronze' is COMPLETED."]

    def answer(self, method, path):
        match method, path:
            case "POST", "/api/2.0/pipelines":
                return {"pipeline_id": "p1"}
            case "POST", "/api/2.0/pipelines/p1/updates":
                return {"update_id": "u1"}
            case "GET", "/api/2.0/pipelines/p1/updates/u1":
                state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
                return {"update": {"update_id": "u1", "state": state}}
            case "GET", "/api/2.0/pipelines/p1/events":
                return {"events": [self.event(i, m) for i, m in self.numbered()]}
            case "GET", "/api/2.0/pipelines/p1":
                return {"pipeline_id": "p1", "state": "IDLE"}
            case _:
                return {}

    def numbered(self):
        return enumerate(["of another update", *self.messages])

    @staticmethod
    def event(index, message):
        origin = {"update_id": "u1" if index else "u0", "flow_name": "bronze"}
        timestamp = f"2026-01-01T00:00:{index * 2:02d}.000Z"
        return {"message": message, "timestamp": timestamp, "origin": origin}

    def bodies(self, method, path):
        return [asked[2] for asked in self.asked if asked[:2] == (method, path)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path, body))
        text = json.dumps(self.server.answer(self.command, path)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = do_PUT = handle_any  # noqa: N815 - the library's

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def workspace():
    server = Workspace()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(workspace):
    host = f"http://127.0.0.1:{workspace.server_port}"
    return WorkspaceClient(config=Config(host=host, token="t", auth_type="pat"))


@pytest.fixture
def pipeline(client):
    return WorkspacePipeline(client, "p1", clock=ManualClock())


def test_pipeline_scales_within_its_limits_by_the_enhanced_policy(workspace, client):
    WorkspacePipeline.create(client, PLAN)

    (body,) = workspace.bodies("POST", "/api/2.0/pipelines")
    (cluster,) = body["clusters"]
    assert cluster["autoscale"] == {
        "min_workers": 1,
        "max_workers": 5,
        "mode": "ENHANCED",
    }
    assert body["libraries"] == [{"file": {"path": "/Workspace/orders.py"}}]
    assert (body["catalog"], body["schema"]) == ("main", "sales")


def test_update_is_waited_for_and_its_own_events_are_told(workspace, pipeline):
    update_id = pipeline.start(full_refresh=True)

    run = pipeline.wait(update_id)

    (body,) = workspace.bodies("POST", "/api/2.0/pipelines/p1/updates")
    assert body["full_refresh"] is True
    assert [event.state for event in run.events] == ["RUNNING", "COMPLETED"]
    assert run.flow_s == {"bronze": 2.0}


def test_dry_run_is_only_validated(workspace, pipeline):
    pipeline.start(dry=True)

    (body,) = workspace.bodies("POST", "/api/2.0/pipelines/p1/updates")
    assert body["validate_only"] is True


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_update_that_ends_badly_is_an_error_with_its_last_words(
    workspace, pipeline, state
):
    workspace.states = ["RUNNING", state]
    workspace.messages = ["Flow 'bronze' has FAILED: column amount is missing"]

    with pytest.raises(SparkError, match=rf"u1.*{state}.*column amount is missing"):
        pipeline.wait("u1")


def test_update_that_goes_on_too_long_is_an_error_with_its_state(workspace, pipeline):
    workspace.states = ["WAITING_FOR_RESOURCES"]

    with pytest.raises(SparkError, match="WAITING_FOR_RESOURCES after 60 s"):
        pipeline.wait("u1", timeout_s=60)


def test_pipeline_is_stopped_and_deleted_whatever_happened(workspace, client):
    with pytest.raises(ValueError, match="seen"), deployed(client, PLAN):
        raise ValueError("seen")

    ends = [asked[:2] for asked in workspace.asked][-3:]
    assert ("POST", "/api/2.0/pipelines/p1/stop") in ends
    assert ends[-1] == ("DELETE", "/api/2.0/pipelines/p1")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Autoscaling(workers_min=3, workers_max=2), "3 and 2"),
        (
            lambda: PipelinePlan(name="x", files=[], catalog="c", schema="s"),
            "at least one",
        ),
        (
            lambda: PipelinePlan(name="x", files=["a.py"], catalog="c", schema="s"),
            r"absolute paths.*'a\.py'",
        ),
    ],
)
def test_impossible_plans_are_refused_by_name(wrong, said):
    with pytest.raises(ConfigError, match=said):
        wrong()
