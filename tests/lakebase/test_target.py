"""Lakebase from the workspace's answer to a login, with the real SDK."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK, ManualClock
from harness.errors import ConfigError, CredentialError, HarnessError, TargetError
from harness.lakebase.queue_pool import QueuePool
from harness.lakebase.target import is_pooled, start_lakebase
from harness.lakebase.workspace import Workspace
from harness.postgres.connect import connect
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import PsycopgPool

ROOT = Path(__file__).parents[2]


def who(server):
    with connect(server.connect_arguments()) as connection:
        return connection.execute("SELECT current_user").fetchone()[0]


def password(server):
    return server.connect_arguments()["password"]


def test_database_is_found_and_logged_in_to(lakebase_settings, plane):
    server = start_lakebase(lakebase_settings())

    assert who(server) == plane.role
    assert server.info.target == "lakebase"
    assert server.info.tls is not None
    assert server.info.version.split(".")[0].isdigit()
    assert len(plane.mints) == 1


@pytest.mark.parametrize("product", ["endpoint"])
def test_token_lives_as_long_as_the_setting_asks(lakebase_settings, plane):
    start_lakebase(lakebase_settings(lakebase__token_ttl_s=300))

    assert plane.mints == [{"endpoint": plane.endpoint, "ttl": "300s"}]


@pytest.mark.parametrize("product", ["instance"])
def test_instance_is_named_in_the_request(lakebase_settings, plane):
    start_lakebase(lakebase_settings())

    (mint,) = plane.mints
    assert mint["instance_names"] == [plane.instance]
    assert mint["request_id"]


@pytest.mark.parametrize("setting", ["lakebase__user", "databricks__username"])
def test_configured_user_is_not_asked_for(lakebase_settings, plane, setting):
    server = start_lakebase(lakebase_settings(**{setting: plane.role}))

    assert who(server) == plane.role
    assert not [path for _, path, _ in plane.requests if path.endswith("Me")]


def test_server_sent_to_a_process_mints_its_own_tokens(lakebase_settings, plane):
    """A token that is sent along would expire there, with nobody to replace it."""
    server = start_lakebase(lakebase_settings())
    token = password(server)

    message = pickle.dumps(server)
    sent = pickle.loads(message)

    assert token.encode() not in message
    assert sent.info == server.info
    assert len(plane.mints) == 1, "no token is minted before it is needed"
    assert who(sent) == plane.role
    assert len(plane.mints) == 2


def test_many_logins_take_one_token(lakebase_settings, plane):
    server = start_lakebase(lakebase_settings())

    with PsycopgPool(server, PoolConfig(size_min=16, size_max=16)) as pool:
        assert pool.stats().size == 16
    assert len(plane.mints) == 1


@pytest.mark.parametrize("pool_class", [PsycopgPool, QueuePool])
def test_pool_grows_with_the_next_token_and_keeps_its_connections(
    lakebase_settings, plane, pool_class
):
    """Expiry is checked at login only: what is open stays open."""
    clock = plane.clock = ManualClock(SYSTEM_CLOCK.now())
    server = start_lakebase(lakebase_settings(), clock=clock)
    config = PoolConfig(size_min=1, size_max=2)
    with pool_class(server, config) as pool, pool.checkout() as before:
        clock.advance(3599)
        with pool.checkout() as after:
            assert before.execute("SELECT 1").fetchone() == (1,)
            assert after.execute("SELECT 1").fetchone() == (1,)

    first, second = plane.tokens
    assert first != second
    assert password(server) == second


def test_server_refuses_an_expired_token_and_takes_its_successor(
    lakebase_settings, plane
):
    """Real expiry, real clock: tokens of one second, logins until three were needed."""
    plane.enforce_expiry, plane.lifetime = True, timedelta(seconds=1)
    server = start_lakebase(lakebase_settings())

    logins = 0
    while len(plane.tokens) < 4:
        assert who(server) == plane.role
        logins += 1

    assert logins > 4


def test_static_password_needs_no_workspace(lakebase_settings, plane):
    plane.mint(timedelta(hours=1))
    settings = lakebase_settings(
        lakebase__host=plane.host,
        lakebase__user=plane.role,
        lakebase__password=plane.tokens[0],
    )

    assert who(start_lakebase(settings)) == plane.role
    assert plane.requests == []


REFUSALS = {
    401: ("does not accept the identity", "DATABRICKS_PERSONAL_ACCESS_TOKEN"),
    403: ("no permission", "CAN USE"),
    404: ("no such database", "LAKEBASE_"),
    400: ("refused", "BadRequest"),
    500: ("refused", "InternalError"),
}


@pytest.mark.parametrize("path", ["credentials", "Me", "shop"])
@pytest.mark.parametrize("status", REFUSALS)
def test_refusal_says_why_and_what_to_do(lakebase_settings, plane, path, status):
    plane.fail_next(path, status=status)
    reason, advice = REFUSALS[status]

    with pytest.raises(CredentialError) as caught:
        start_lakebase(lakebase_settings())

    message = str(caught.value)
    assert reason in message
    assert advice in message
    assert f"the plane says {status}" in message
    assert plane.workspace_token not in message
    assert "canary" not in message


def test_wrong_workspace_token_is_told_as_such(lakebase_settings):
    settings = lakebase_settings(databricks__personal_access_token="dapi-canary-wrong")

    with pytest.raises(CredentialError, match="does not accept the identity") as caught:
        start_lakebase(settings)

    assert "canary" not in str(caught.value)


def test_short_rate_limit_is_waited_out(lakebase_settings, plane):
    plane.fail_next("credentials", status=429, headers={"Retry-After": "1"})

    server = start_lakebase(lakebase_settings())

    assert who(server) == plane.role
    assert len(plane.mints) == 2


@pytest.mark.parametrize(("status", "reason"), [(429, "limits"), (503, "unavailable")])
def test_long_rate_limit_is_an_error_at_once(lakebase_settings, plane, status, reason):
    """The SDK would sleep for the ten minutes, whatever its own budget says."""
    plane.fail_next("credentials", status=status, headers={"Retry-After": "600"})
    started_ns = SYSTEM_CLOCK.monotonic_ns()

    with pytest.raises(CredentialError, match=reason):
        start_lakebase(lakebase_settings())

    assert SYSTEM_CLOCK.monotonic_ns() - started_ns < 10 * NS_PER_S


def test_silent_workspace_is_given_up_on_in_time(lakebase_settings, plane):
    workspace = Workspace(lakebase_settings(), call_timeout_s=0.5)
    plane.fail_next("Me", status=200, hangs=True)
    started_ns = SYSTEM_CLOCK.monotonic_ns()

    with pytest.raises(CredentialError, match="no workspace answers"):
        workspace.user_name()

    assert SYSTEM_CLOCK.monotonic_ns() - started_ns < 5 * NS_PER_S


def test_closed_port_is_an_error_in_seconds(lakebase_settings):
    settings = lakebase_settings(databricks__workspace_url="http://127.0.0.1:9")

    with pytest.raises(CredentialError, match="DATABRICKS_WORKSPACE_URL"):
        Workspace(settings, call_timeout_s=0.5).user_name()


@pytest.mark.parametrize(
    "payload", [b"<html>log in</html>", b"[]", b"{}", b'{"token": ""}']
)
def test_answer_that_is_no_credential_is_an_error(lakebase_settings, plane, payload):
    plane.fail_next("credentials", status=200, payload=payload)

    with pytest.raises(HarnessError):
        start_lakebase(lakebase_settings())


@pytest.mark.parametrize("product", ["endpoint"])
@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        ({"disabled": True}, CredentialError, "is disabled"),
        ({"hosts": {}, "current_state": "INIT"}, TargetError, "state INIT"),
    ],
    ids=["disabled", "being made"],
)
def test_endpoint_that_takes_no_connection_says_so(
    lakebase_settings, plane, status, error, reason
):
    plane.endpoint_status = status

    with pytest.raises(error, match=reason):
        start_lakebase(lakebase_settings())


POOLED = "ep-sweet-butterfly-123-pooler.database.eu-west-1.example.com"


def test_token_is_never_sent_to_the_pooled_host(lakebase_settings, plane):
    with pytest.raises(ConfigError, match="LAKEBASE_HOST") as caught:
        start_lakebase(lakebase_settings(lakebase__host=POOLED))

    assert "LAKEBASE_PASSWORD" in str(caught.value)
    assert plane.requests == []


@pytest.mark.parametrize(
    ("host", "pooled"),
    [
        (POOLED, True),
        (POOLED.replace("-pooler", ""), False),
        ("ep-1.my-pooler.example.com", False),
    ],
)
def test_pooled_host_is_known_by_its_first_label(host, pooled):
    assert is_pooled(host) is pooled


def test_no_token_in_any_log(lakebase_settings, plane, caplog):
    """At level DEBUG the SDK logs the first 96 characters of every answer."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="databricks.sdk")

    server = start_lakebase(lakebase_settings())
    with PsycopgPool(server, PoolConfig(size_min=1, size_max=1)):
        pass

    assert plane.tokens
    assert "canary" not in caplog.text
    assert "canary" not in repr(server) + repr(server.connect_arguments())


def test_two_logins_in_the_environment_do_not_confuse_the_sdk(
    lakebase_settings, plane, monkeypatch
):
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "somebody")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "canary-secret")

    assert who(start_lakebase(lakebase_settings())) == plane.role


def test_no_login_at_all_names_the_settings(lakebase_settings, monkeypatch, tmp_path):
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    settings = lakebase_settings(
        databricks__personal_access_token=None, databricks__workspace_url=None
    )

    with pytest.raises(HarnessError, match="DATABRICKS_WORKSPACE_URL"):
        start_lakebase(settings)


def test_whole_run_on_tokens_that_expire_under_it(plane, postgres, tmp_path):
    """`--target=lakebase`, as typed: login, seeding, load, proof, and rotation."""
    plane.enforce_expiry, plane.lifetime = True, timedelta(seconds=1)
    arguments = postgres.connect_arguments()
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("DATABRICKS", "LAKE", "PG", "PYTEST", "BENCHMARK"))
    }

    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "benchmarks/test_pool_connect.py",
            "benchmarks/test_postgres_read_write_mix.py",
            "--target=lakebase",
            "--smoke",
            "-p",
            "no:cacheprovider",
            f"--benchmark-json={tmp_path / 'report.json'}",
        ],
        cwd=ROOT,
        env={
            **environment,
            "DATABRICKS_WORKSPACE_URL": plane.url,
            "DATABRICKS_TOKEN": plane.workspace_token,
            "LAKEBASE_ENDPOINT": plane.endpoint,
            "LAKEBASE_PORT": str(arguments["port"]),
            "LAKEBASE_DATABASE": plane.database,
            "BENCHMARK_THREAD_COUNTS": "4,8",
            "DB_POOL_SIZE": "4",
            "DB_MAX_OVERFLOW": "0",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    output = run.stdout + run.stderr
    assert run.returncode == 0, output
    assert "postgres: lakebase" in output
    assert len(plane.tokens) > 1, "the token was replaced during the run"
    written = output + (tmp_path / "report.json").read_text()
    assert "canary" not in written
