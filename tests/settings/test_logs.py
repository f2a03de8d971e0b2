"""Logs are fields for machines and lines for people, and never hold a secret."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys

import pytest
from pydantic import SecretBytes, SecretStr

from harness.postgres.server import ConnectArguments
from harness.settings.logs import configure_logging
from harness.settings.monitoring import MonitoringSettings

CANARY = "canary-in-a-log"


@pytest.fixture
def written():
    """Configure the package's logging into a text, and put it back afterwards."""
    logger = logging.getLogger("harness")
    before = (logger.level, list(logger.handlers))

    def configure(**monitoring):
        stream = io.StringIO()
        configure_logging(MonitoringSettings(**monitoring), stream=stream)
        return stream.getvalue

    yield configure
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]


def test_json_line_has_the_event_as_fields(written):
    text = written(log_format="json", log_level="INFO")
    logging.getLogger("harness.lakebase.minting").info(
        "token %s",
        "minted",
        extra={"operation": "mint", "duration_ms": 1.5, "attempt": 2, "category": None},
    )
    (line,) = text().splitlines()
    found = json.loads(line)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "INFO",
        "logger": "harness.lakebase.minting",
        "message": "token minted",
        "operation": "mint",
        "duration_ms": 1.5,
        "attempt": 2,
    }


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secret_is_masked_by_its_type_wherever_it_is(written, log_format):
    text = written(log_format=log_format, log_level="DEBUG")
    secret = SecretStr(CANARY)
    arguments = ConnectArguments(host="h", password=CANARY)
    logger = logging.getLogger("harness.test")
    logger.debug("%s %r %s %s", secret, secret, arguments, {"a": [secret]})
    logger.debug(
        "extra",
        extra={
            "token": secret,
            "raw": SecretBytes(CANARY.encode()),
            "deep": {"list": [secret, {"x": secret}]},
            "arguments": [str(arguments)],
        },
    )
    assert "extra" in text()
    assert CANARY not in text()
    assert "***" in text()


def test_mask_can_fail(written):
    """A plain text that nobody declared secret is shown: the test above can fail."""
    text = written(log_format="json", log_level="DEBUG")
    logging.getLogger("harness.test").debug("%s", CANARY)
    assert CANARY in text()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_exception_is_logged_with_its_class_and_traceback(written, log_format):
    text = written(log_format=log_format, log_level="INFO")
    try:
        raise ValueError("the reason")  # noqa: TRY301 - to have a traceback
    except ValueError:
        logging.getLogger("harness.test").exception("it failed")
    assert "ValueError" in text()
    assert "the reason" in text()


def test_console_line_shows_fields_after_the_message(written):
    text = written(log_format="console", log_level="INFO")
    logging.getLogger("harness.test").warning("slow", extra={"operation": "mint"})
    assert "slow operation=mint" in " ".join(text().split())


def test_level_of_the_settings_decides(written):
    text = written(log_format="json", log_level="WARNING")
    logging.getLogger("harness.test").info("quiet")
    logging.getLogger("harness.test").warning("loud")
    assert [json.loads(line)["message"] for line in text().splitlines()] == ["loud"]


def test_configuring_twice_writes_once_and_keeps_other_handlers(written):
    logger = logging.getLogger("harness")
    own = logging.NullHandler()
    logger.addHandler(own)
    written(log_format="console")
    text = written(log_format="json")
    logging.getLogger("harness.test").warning("once")
    assert len(text().splitlines()) == 1
    assert own in logger.handlers


def test_run_logs_json_lines_at_the_level_of_the_environment(tmp_path):
    """As typed: LOG_LEVEL and LAKEGAUGE_LOG_FORMAT of a pytest run."""
    (tmp_path / "test_it.py").write_text(
        "import logging\n"
        "def test_it():\n"
        "    logging.getLogger('harness.it').debug('seen', extra={'operation': 'x'})\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "LOG_LEVEL": "debug",
            "LAKEGAUGE_LOG_FORMAT": "json",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = [json.loads(x) for x in run.stderr.splitlines() if x.startswith("{")]
    assert [line["operation"] for line in lines if line["message"] == "seen"] == ["x"]
