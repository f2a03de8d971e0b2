"""Tests run on an embedded Postgres: a unit test never waits for a container image."""

from __future__ import annotations

import signal


def pytest_configure(config):
    if config.option.target is None:
        config.option.target = "embedded"
    # In the background of a shell script Ctrl-C is ignored, by children too: those
    # that a test interrupts would go on for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
