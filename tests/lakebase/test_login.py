"""Which database, which token, and what happens when a token is refused."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from harness.errors import ConfigError, CredentialError, TargetError, Verdict
from harness.lakebase.lookup import database_of
from harness.lakebase.target import start_lakebase
from harness.lakebase.workspace import Workspace
from harness.postgres.connect import connect, connect_async
from harness.settings import load_settings


@pytest.fixture
def standin_settings(lakebase_standin, tmp_path):
    """Settings for the stand-in, from environment variables alone."""

    secret = lakebase_standin.client_secret.get_secret_value()

    def make(**environ):
        environ = {
            "DATABRICKS_HOST": lakebase_standin.url,
            "DATABRICKS_CLIENT_ID": lakebase_standin.client_id,
            "DATABRICKS_CLIENT_SECRET": secret,
            "LAKEGAUGE_TARGET": "lakebase",
            **environ,
        }
        return load_settings(environ=environ, cwd=tmp_path, root=tmp_path)

    return make


def test_refused_token_is_replaced_and_the_login_retried(lakebase_settings, plane):
    """Somebody revoked it: it is refused long before its end."""
    server = start_lakebase(lakebase_settings())
    plane.mint(timedelta(hours=1))  # makes another token the role's password
    before = len(plane.mints)

    with connect(server.connect_arguments()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert len(plane.mints) == before + 1
    assert server.credential_status().invalidated_count == 1


def test_refused_token_is_replaced_for_tasks_too(lakebase_settings, plane):
    server = start_lakebase(lakebase_settings())
    plane.mint(timedelta(hours=1))
    before = len(plane.mints)

    async def log_in():
        async with await connect_async(await server.connect_arguments_async()):
            pass

    asyncio.run(log_in())
    assert len(plane.mints) == before + 1


def test_many_logins_with_a_refused_token_take_one_new_one(lakebase_settings, plane):
    server = start_lakebase(lakebase_settings())
    arguments = [server.connect_arguments() for _ in range(16)]
    plane.mint(timedelta(hours=1))
    before = len(plane.mints)

    def log_in(its_arguments):
        connect(its_arguments).close()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(log_in, arguments))
    assert len(plane.mints) == before + 1


def test_login_is_retried_exactly_once(lakebase_settings, plane, monkeypatch):
    """A server that takes no token at all: two logins, two tokens, the real error."""
    server = start_lakebase(lakebase_settings())
    first = plane.tokens[0]
    mint = plane.mint

    def useless(lifetime):
        token, expiry = mint(lifetime)
        return f"useless-{token}", expiry

    monkeypatch.setattr(plane, "mint", useless)
    plane.mint(timedelta(hours=1))
    before = len(plane.mints)
    with pytest.raises(TargetError, match="28P01") as caught:
        connect(server.connect_arguments())

    assert caught.value.sqlstate == "28P01"
    assert len(plane.mints) == before + 1
    assert first not in str(caught.value)


def test_other_refusals_cost_no_token(lakebase_settings, plane):
    server = start_lakebase(lakebase_settings())
    arguments = server.connect_arguments()
    arguments["dbname"] = "no_such_db"
    before = len(plane.mints)

    with pytest.raises(TargetError, match="3D000"):
        connect(arguments)
    assert len(plane.mints) == before


def test_refresh_in_the_background_is_a_setting(lakebase_settings):
    for wanted in (True, False):
        server = start_lakebase(
            lakebase_settings(pool__enable_background_refresh=wanted)
        )
        assert server.credential_status().refreshes_in_background is wanted
        server.close()
        assert not server.credential_status().refreshes_in_background


def test_endpoint_of_a_project_is_looked_up(standin_settings, lakebase_standin):
    settings = standin_settings(LAKEBASE_PROJECT="shop")
    workspace = Workspace(settings)

    assert database_of(workspace, settings).name == lakebase_standin.endpoint


@pytest.mark.parametrize("parts", [("shop", "nowhere"), ("nothing", "production")])
def test_project_without_such_a_branch_is_an_error(standin_settings, parts):
    project, branch = parts
    settings = standin_settings(LAKEBASE_PROJECT=project, LAKEBASE_BRANCH=branch)
    with pytest.raises(CredentialError, match="LAKEBASE_ENDPOINT") as caught:
        database_of(Workspace(settings), settings)
    assert caught.value.classification.verdict is Verdict.PERMANENT


def test_app_is_known_by_its_host(standin_settings, lakebase_standin):
    """An App is given PGHOST and an identity, and neither password nor endpoint."""
    named = standin_settings(LAKEBASE_ENDPOINT=lakebase_standin.endpoint)
    host = Workspace(named).endpoint_address(lakebase_standin.endpoint).host
    settings = standin_settings(
        PGHOST=host, PGUSER="app", PGDATABASE="d", PGSSLMODE="require", PGPORT="5432"
    )

    settings.check("lakebase")
    assert settings.lakebase.password is None
    workspace = Workspace(settings)
    assert database_of(workspace, settings).name == lakebase_standin.endpoint


def test_host_that_nobody_knows_is_an_error(standin_settings):
    settings = standin_settings(PGHOST="ep-other.example.com")
    with pytest.raises(
        CredentialError, match="no endpoint and no instance with the host"
    ):
        database_of(Workspace(settings), settings)


def test_two_databases_at_once_are_refused(standin_settings):
    with pytest.raises(ConfigError, match=r"LAKEBASE_PROJECT.*keep one"):
        standin_settings(LAKEBASE_PROJECT="p", LAKEBASE_INSTANCE_NAME="i")


@pytest.mark.parametrize(
    ("status", "category", "verdict"),
    [
        (401, "authentication", "permanent"),
        (403, "authorization", "permanent"),
        (404, "configuration", "permanent"),
        (400, "validation", "permanent"),
        (429, "rate_limiting", "retryable"),
        (503, "system", "retryable"),
        (500, "system", "retryable"),
    ],
)
def test_failed_mint_is_classified_by_the_sdks_exception(
    lakebase_settings, plane, status, category, verdict
):
    """The originals called every one of them `system` and retried none."""
    settings = lakebase_settings()
    workspace = Workspace(settings, call_timeout_s=5.0)
    workspace.user_name()
    for _ in range(3):
        plane.fail_next("Me", status=status, headers={"Retry-After": "7"})

    with pytest.raises(CredentialError) as caught:
        workspace.user_name()
    found = caught.value.classification
    assert (found.category, found.verdict) == (category, verdict)
    if status in {429, 503}:
        assert caught.value.retry_after_s == 7
