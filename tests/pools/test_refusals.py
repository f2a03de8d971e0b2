"""A refused login is an error with the server's reason."""

from __future__ import annotations

import pytest

from harness.errors import TargetError
from harness.postgres.connect import connect


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"password": "canary-wrong"}, "password authentication failed"),
        ({"user": "nobody_here"}, "nobody_here"),
        ({"dbname": "no_such_db"}, "no_such_db"),
    ],
    ids=["password", "role", "database"],
)
@pytest.mark.parametrize("size_min", [0, 3])
def test_refused_login_is_an_error_at_once_with_the_reason(
    make, arguments, reason, size_min, server_as
):
    """psycopg_pool by itself would retry for 30 s and say only PoolTimeout."""
    refused = server_as(**arguments)

    with (
        pytest.raises(TargetError) as caught,
        make(refused, size_min=size_min, size_max=3).checkout(),
    ):
        pass

    assert reason in str(caught.value)
    assert "canary-wrong" not in str(caught.value)


def test_login_refused_later_is_the_reason_given(make, server_as):
    """The pool is warm, the password changes, and one more connection is needed."""
    server = server_as()
    pool = make(server, size_min=1, size_max=2)
    server.arguments = {"password": "canary-wrong"}

    with pool.checkout(), pytest.raises(TargetError) as caught, pool.checkout():
        pass

    assert "password authentication failed" in str(caught.value)


def test_pool_that_cannot_be_filled_says_why(make, postgres, server_as):
    """One role, two connections allowed, three wanted."""
    with connect(postgres.connect_arguments()) as admin:
        admin.execute("DROP ROLE IF EXISTS two_only")
        admin.execute("CREATE ROLE two_only LOGIN CONNECTION LIMIT 2 PASSWORD 'pw'")
    limited = server_as(user="two_only", password="pw")

    with pytest.raises(TargetError, match="too many connections for role"):
        make(limited, size_min=3, size_max=3)
