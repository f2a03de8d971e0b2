"""The real SDK, as a client of the stand-in."""

from __future__ import annotations

import psycopg
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config


@pytest.fixture
def client_of():
    """Return a function that makes a workspace client, by default with the token."""

    def make(standin, *, retry_s=1, answer_s=5, **auth):
        auth = auth or {"token": standin.token.get_secret_value(), "auth_type": "pat"}
        config = Config(
            host=standin.url,
            retry_timeout_seconds=retry_s,
            http_timeout_seconds=answer_s,
            **auth,
        )
        return WorkspaceClient(config=config)

    return make


@pytest.fixture(scope="module")
def shared_standin(standin_postgres):
    """A stand-in whose state no test changes."""
    from harness.lakebase.standin.standin import LakebaseStandin

    with LakebaseStandin(backing=standin_postgres) as standin:
        yield standin


@pytest.fixture
def mint(client_of):
    """Return a function that mints a token of a stand-in's endpoint with the SDK."""

    def make(standin, endpoint=None):
        postgres = client_of(standin).postgres
        return postgres.generate_database_credential(endpoint or standin.endpoint).token

    return make


@pytest.fixture
def log_in(mint):
    """Return a function that opens a connection, by default with a new token."""

    def make(standin, password=None, **arguments):
        password = password or mint(standin)
        return psycopg.connect(
            **standin.connect_arguments(password, **arguments),
            autocommit=True,
            connect_timeout=10,
        )

    return make
