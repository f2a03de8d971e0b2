"""When a token ends is the service's own word, in either product's form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from harness.errors import CredentialError
from harness.lakebase.credentials import LIFETIME_MIN, expiry_of

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-01T01:00:00Z", START + timedelta(hours=1)),
        ("2026-01-01T02:00:00.250+01:00", START + timedelta(hours=1, seconds=0.25)),
        ("2026-01-01T01:00:00", START + timedelta(hours=1)),
        (Timestamp(seconds=int(START.timestamp())), START),
        (None, START + LIFETIME_MIN),
    ],
    ids=["utc", "offset", "naive", "protobuf", "absent"],
)
def test_expiry_of_either_product_is_an_aware_time_in_utc(value, expected):
    found = expiry_of(value, minted_at=START)

    assert found == expected
    assert found.tzinfo is UTC


@pytest.mark.parametrize("value", ["soon", 12345, b"2026"], ids=repr)
def test_unknown_expiry_is_refused(value):
    with pytest.raises(CredentialError, match="expiry"):
        expiry_of(value, minted_at=START)


def test_expiry_is_compared_across_time_zones():
    tokyo = timezone(timedelta(hours=9))
    value = (START + timedelta(hours=1)).astimezone(tokyo).isoformat()

    assert expiry_of(value, minted_at=START) == START + timedelta(hours=1)
