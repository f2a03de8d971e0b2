"""Benchmarks people can trust for Lakebase, Spark/Delta streams and agent endpoints.

Importing this package imports nothing heavy: each subject loads its driver,
its JVM or its HTTP client when it is first used.
"""

from __future__ import annotations

from harness.errors import (
    AgentError,
    CheckoutTimeoutError,
    ConfigError,
    CredentialError,
    HarnessError,
    LoadError,
    OutcomeUnknownError,
    ReportError,
    SparkError,
    TargetError,
    WorkNotDoneError,
)

__all__ = [
    "AgentError",
    "CheckoutTimeoutError",
    "ConfigError",
    "CredentialError",
    "HarnessError",
    "LoadError",
    "OutcomeUnknownError",
    "ReportError",
    "SparkError",
    "TargetError",
    "WorkNotDoneError",
]
