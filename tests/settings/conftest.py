from __future__ import annotations

import pytest

from harness.settings import redaction


@pytest.fixture(autouse=True)
def no_secret_of_another_test(monkeypatch):
    """What a process has read it masks for ever; tests must not share that."""
    monkeypatch.setattr(redaction, "_loaded", set())
