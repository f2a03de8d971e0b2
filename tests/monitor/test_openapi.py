"""Every endpoint against its own OpenAPI, with requests nobody thought of."""

from __future__ import annotations

import socket
import threading

import hypothesis
import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from schemathesis.specs.openapi.checks import positive_data_acceptance

from harness.clock import SYSTEM_CLOCK
from harness.lakebase.service import LakebaseService
from harness.monitor.app import make_app
from harness.monitor.live_api import subject_of
from harness.settings import load_settings

EXAMPLES_MAX = 12
PATIENCE_S = 30
# Their parameters have bounds; any text fits the others'.
BOUNDED = ("/health/detailed", "/test/query")


class Served:
    def __init__(self, app):
        config = uvicorn.Config(app, log_level="warning", lifespan="off")
        self.server = uvicorn.Server(config)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}
        )
        self.thread.start()
        deadline_ns = SYSTEM_CLOCK.monotonic_ns() + PATIENCE_S * 1_000_000_000
        while not self.server.started:
            assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns
            SYSTEM_CLOCK.sleep(0.01)

    def stop(self):
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        self.listener.close()


@pytest.fixture
def served():
    running = []

    def start(app):
        running.append(Served(app))
        return running[-1].url

    yield start
    for one in running:
        one.stop()


def operations_of(schema):
    """Each operation with what it takes; those that can be asked wrongly, so too."""
    for result in schema.get_all_operations():
        operation = result.ok()
        yield operation, schemathesis.GenerationMode.POSITIVE
        if operation.path in BOUNDED:
            yield operation, schemathesis.GenerationMode.NEGATIVE


def check_all(app, url):
    """Ask every operation many things; return how many answers were checked."""
    schema = schemathesis.openapi.from_dict(app.openapi())
    answers = []
    for operation, mode in operations_of(schema):

        @hypothesis.settings(
            max_examples=EXAMPLES_MAX,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            response = case.call(base_url=url)
            # No schema says what SQL is: a text that is none is refused, rightly.
            case.validate_response(response, excluded_checks=[positive_data_acceptance])
            answers.append((case.operation.path, response.status_code))

        ask()
    return answers


def test_every_answer_is_what_the_openapi_says(served, postgres, reports, tmp_path):
    settings = load_settings(
        {"pool.pool_size": 1, "pool.max_overflow": 1},
        environ={},
        cwd=tmp_path,
        root=tmp_path,
    )
    reports.save(reports.record("test_a"))
    with LakebaseService(settings, server=postgres) as service:
        service.health.check_now()
        app = make_app(reports.folder, subject=subject_of(service, allow_query=True))
        answers = check_all(app, served(app))

    paths = {path for path, _ in answers}
    assert paths == set(app.openapi()["paths"])
    assert {status for _, status in answers} >= {200, 400, 404, 422}
    assert max(status for _, status in answers) < 500


def test_an_answer_that_is_not_what_it_says_is_found(served):
    """The negative control: or the test above could not fail."""
    app = FastAPI()

    @app.get("/number", responses={200: {"model": int}}, response_model=None)
    def number() -> dict[str, str]:
        return {"not": "a number"}

    with pytest.raises(BaseException, match="Response violates schema") as found:
        check_all(app, served(app))
    assert found.type.__module__.startswith("schemathesis")
