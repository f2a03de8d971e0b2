"""The real SDK, as a client of the stand-in."""

from __future__ import annotations

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
def shared_standin():
    """A stand-in whose state no test changes."""
    from harness.lakebase.standin.standin import LakebaseStandin

    with LakebaseStandin() as standin:
        yield standin
