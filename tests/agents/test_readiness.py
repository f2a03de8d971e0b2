"""Whether an endpoint can be asked, and waiting until it can."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import SecretStr

from harness.agents import errors
from harness.agents.async_client import AsyncAgentClient
from harness.agents.client import AgentClient
from harness.agents.readiness import AgentEndpointFailedError, read_state
from harness.clock import ManualClock


def state(ready, update="NOT_UPDATING", **more):
    told = {"ready": ready, "config_update": update}
    body = {"name": "ka-1-endpoint", "task": "agent/v1/responses", "state": told}
    return json.dumps({**body, **more}).encode()


def client_of(server, kind=AgentClient, **options):
    return kind(
        base_url=server.base_url,
        token=SecretStr("dapi-canary"),
        model="ka-1-endpoint",
        **options,
    )


def test_endpoint_is_waited_for_and_every_look_is_told(make_server, wire):
    starting = wire.whole("200 OK", state("NOT_READY", "IN_PROGRESS"))
    ready = wire.whole("200 OK", state("READY"))
    server = make_server(starting, starting, ready)
    looks = []
    with client_of(server, clock=ManualClock()) as client:
        client.wait_ready(
            on_progress=lambda s, waited_s: looks.append((s.ready, waited_s))
        )
    assert looks == [(False, 0.0), (False, 2.0), (True, 4.0)]
    assert server.requests[0].startswith(
        b"GET /api/2.0/serving-endpoints/ka-1-endpoint HTTP/1.1"
    )


def test_wait_ends_in_time_with_the_last_state(make_server, wire):
    server = make_server(wire.whole("200 OK", state("NOT_READY", "IN_PROGRESS")))
    with (
        client_of(server, clock=ManualClock()) as client,
        pytest.raises(errors.AgentNotReadyError, match="update in progress"),
    ):
        client.wait_ready(timeout_s=5.0)
    assert len(server.requests) == 3


@pytest.mark.parametrize("update", ["UPDATE_FAILED", "UPDATE_CANCELED"])
def test_endpoint_that_will_not_start_is_not_waited_for(make_server, wire, update):
    server = make_server(wire.whole("200 OK", state("NOT_READY", update)))
    with client_of(server) as client, pytest.raises(AgentEndpointFailedError):
        client.wait_ready()
    assert len(server.requests) == 1


def test_loop_waits_too(make_server, wire):
    server = make_server(wire.whole("200 OK", state("READY")))

    async def run():
        async with client_of(server, AsyncAgentClient) as client:
            return await client.wait_ready()

    assert asyncio.run(run()).ready


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"state": "READY"}', b"<html>"])
def test_what_tells_no_state_is_a_bad_response(body):
    with pytest.raises(errors.AgentBadResponseError):
        read_state(body, model="m")


def test_unknown_endpoint_is_not_found(make_server, wire):
    server = make_server(
        wire.whole("404 Not Found", b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}')
    )
    with client_of(server) as client, pytest.raises(errors.AgentNotFoundError):
        client.state()


def test_scaled_to_zero_is_told():
    entity = {"state": {"deployment_state_message": "Scaled to zero"}}
    told = read_state(state("READY", config={"served_entities": [entity]}), model="m")
    assert told.scaled_to_zero
    assert "first question waits" in told.describe()
