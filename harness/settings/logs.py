"""Logging, configured in one place: lines for people, or JSON lines for machines.

Modules log through `logging.getLogger(__name__)`; what belongs to an event goes into
`extra` under the names of `FIELDS`. Nothing is logged per operation of a load.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from pydantic import SecretBytes, SecretStr

from harness.settings.redaction import MASK, redact

if TYPE_CHECKING:
    from harness.settings.monitoring import MonitoringSettings

ROOT = "harness"
# The fields that events have in common; others may be added.
FIELDS = ("operation", "duration_ms", "category", "attempt")
# What every record has; all else came with `extra`.
_OWN = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))


def configure_logging(
    monitoring: MonitoringSettings,
    *,
    stream: TextIO | None = None,
    console: bool = True,
) -> None:
    """Send what the package logs to *stream*, as the settings say.

    Replaces what an earlier call set up. Loggers of other libraries are left alone.

    Args:
        monitoring: Level and format.
        stream: Where to; default is stderr as it is at each line.
        console: Whether to write lines for people; False where something else shows
            them, as pytest does.
    """
    logger = logging.getLogger(ROOT)
    for handler in list(logger.handlers):
        if isinstance(handler.formatter, JsonFormatter | ConsoleFormatter):
            logger.removeHandler(handler)
    logger.setLevel(monitoring.log_level)
    if console or monitoring.log_format == "json":
        logger.addHandler(_handler(monitoring.log_format, stream))


def _handler(log_format: str, stream: TextIO | None) -> logging.Handler:
    handler: logging.Handler
    if log_format == "json":
        handler = _CurrentStderr() if stream is None else logging.StreamHandler(stream)
        handler.setFormatter(JsonFormatter())
        return handler
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(
        console=Console(file=stream, stderr=stream is None),
        show_path=False,
        markup=False,
        rich_tracebacks=False,  # its frames would show values of variables
    )
    handler.setFormatter(ConsoleFormatter())
    return handler


class _CurrentStderr(logging.StreamHandler[TextIO]):
    """Writes to `sys.stderr` as it is now, which pytest replaces for each test."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line to the stream of this moment."""
        self.stream = sys.stderr
        super().emit(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; secrets are masked by their type."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
            **{name: plain(value) for name, value in fields_of(record).items()},
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """The message, then the event's fields as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text; secrets are masked by their type."""
        fields = {name: plain(value) for name, value in fields_of(record).items()}
        parts = [record.getMessage(), *(f"{k}={v}" for k, v in fields.items())]
        if record.exc_info and record.exc_info[0]:
            parts.append("\n" + self.formatException(record.exc_info))
        return redact(" ".join(parts))


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what came with `extra`, the common fields first, without empty ones."""
    extra = {k: v for k, v in vars(record).items() if k not in _OWN and v is not None}
    common = {name: extra.pop(name) for name in FIELDS if name in extra}
    return common | extra


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; a secret type becomes the mask."""
    if isinstance(value, SecretStr | SecretBytes):
        return MASK
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in value]
    return redact(str(value))
