"""What a failure of Lakebase means, the workspace's and SQLAlchemy's included."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from harness.errors import Classification, ErrorCategory, Severity, Verdict
from harness.postgres.classify import Phase
from harness.postgres.classify import classify as classify_postgres

if TYPE_CHECKING:
    from types import ModuleType


def classify(error: BaseException, *, phase: Phase = Phase.STATEMENT) -> Classification:
    """Say what kind of failure it was, how bad it is, and whether to try again.

    Knows the exceptions of databricks-sdk by class and those that SQLAlchemy wraps
    by what they wrap; the rest as `harness.postgres.classify` does.

    Args:
        error: What was raised.
        phase: How far the work had come; see `Phase`.
    """
    # Whoever raised one has loaded the library; we need not.
    sdk = sys.modules.get("databricks.sdk.errors")
    if sdk is not None:
        found = classify_workspace(error, sdk)
        if found is not None:
            return found
    sqlalchemy = sys.modules.get("sqlalchemy.exc")
    if sqlalchemy is not None:
        if isinstance(error, sqlalchemy.DBAPIError) and error.orig is not None:
            return classify_postgres(error.orig, phase=phase)
        if isinstance(error, sqlalchemy.TimeoutError):
            return _kind("database_timeout", "high", "retryable")
    return classify_postgres(error, phase=phase)


def classify_workspace(error: BaseException, sdk: ModuleType) -> Classification | None:
    """Say what an exception of databricks-sdk means; None if it is none.

    Args:
        error: What was raised.
        sdk: The module `databricks.sdk.errors`.
    """
    if not isinstance(error, sdk.DatabricksError):
        return None
    # The first class that fits wins; subclasses first. RequestLimitExceeded and
    # ResourceExhausted are among TooManyRequests, AlreadyExists is among conflicts.
    kinds = (
        (sdk.Unauthenticated, _kind("authentication", "critical", "permanent")),
        (sdk.PermissionDenied, _kind("authorization", "high", "permanent")),
        (sdk.NotFound, _kind("configuration", "critical", "permanent")),
        (sdk.TooManyRequests, _kind("rate_limiting", "medium", "retryable")),
        (sdk.ResourceExhausted, _kind("rate_limiting", "medium", "retryable")),
        (sdk.RequestLimitExceeded, _kind("rate_limiting", "medium", "retryable")),
        (sdk.TemporarilyUnavailable, _kind("system", "high", "retryable")),
        (sdk.DeadlineExceeded, _kind("system", "high", "outcome_unknown")),
        (sdk.Cancelled, _kind("system", "medium", "outcome_unknown")),
        (sdk.Aborted, _kind("system", "low", "retryable")),
        (sdk.BadRequest, _kind("validation", "medium", "permanent")),
        (sdk.ResourceConflict, _kind("validation", "medium", "permanent")),
        (sdk.NotImplemented, _kind("configuration", "medium", "permanent")),
        (sdk.InternalError, _kind("system", "high", "outcome_unknown")),
    )
    other = _kind("system", "high", "permanent")
    return next((kind for cls, kind in kinds if isinstance(error, cls)), other)


def _kind(category: str, severity: str, verdict: str) -> Classification:
    return Classification(ErrorCategory(category), Severity(severity), Verdict(verdict))
