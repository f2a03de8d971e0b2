"""The console command, as a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("lakegauge")
ROOT = Path(__file__).parents[1]
CANARY = "canary-7b1c/+x"
SECRETS = {
    "LAKEGAUGE_POSTGRES_DSN": f"postgresql://u:{CANARY}@h/d",
    "LAKEBASE_PASSWORD": CANARY,
    "DATABRICKS_TOKEN": CANARY,
    "DATABRICKS_OAUTH_TOKEN": CANARY,
    "DATABRICKS_CLIENT_SECRET": CANARY,
    "LAKEGAUGE_SPARK_REMOTE": f"sc://h:443/;token={CANARY}",
}


@pytest.fixture
def lakegauge(tmp_path):
    """Return a function that runs the command in an empty folder."""

    def run(*arguments, **environ):
        path = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "100"}
        return subprocess.run(
            [COMMAND, *arguments],
            cwd=tmp_path,
            env=path | environ,
            check=False,
            capture_output=True,
            text=True,
        )

    return run


def test_current_shows_each_value_with_its_source(lakegauge, tmp_path):
    (tmp_path / ".env").write_text("DB_MAX_OVERFLOW=7\n")
    (tmp_path / "lakegauge.json").write_text('{"lakebase": {"name": "mine"}}')
    done = lakegauge("config", "current", DB_POOL_SIZE="5", LAKEGAUGE_PRESET="light")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in
             done.stdout.splitlines()}  # fmt: skip
    assert lines["pool.pool_size"] == ["5", "environment variable DB_POOL_SIZE"]
    env_file, json_file = tmp_path / ".env", tmp_path / "lakegauge.json"
    assert lines["pool.max_overflow"] == [
        "7",
        f"DB_MAX_OVERFLOW in {env_file} line 1",
    ]
    assert lines["lakebase.instance_name"] == ["mine", f"lakebase.name in {json_file}"]
    assert lines["benchmark.thread_counts"] == ["10,20,40", "preset light"]
    assert lines["lakebase.port"] == ["5432", "default"]


def test_current_as_json_is_for_machines(lakegauge):
    done = lakegauge("config", "current", "--json", BENCHMARK_THREAD_COUNTS="1,2")
    settings = json.loads(done.stdout)["settings"]
    assert settings["benchmark.thread_counts"] == {
        "value": [1, 2],
        "layer": "environment",
        "name": "BENCHMARK_THREAD_COUNTS",
        "file": None,
        "line": None,
    }


def test_show_adds_the_files_and_the_advice(lakegauge, tmp_path):
    (tmp_path / ".env").write_text("SSL_REQUIRE=false\n")
    done = lakegauge("config", "show")
    assert done.returncode == 0
    assert f".env: {tmp_path / '.env'}" in done.stdout
    assert "warning: SSL_REQUIRE is false" in done.stdout
    document = json.loads(lakegauge("config", "show", "--json").stdout)
    assert document["files"] == {".env": str(tmp_path / ".env")}
    assert document["advice"]["warning"][0].startswith("SSL_REQUIRE is false")


def test_show_ends_with_2_when_the_advice_is_an_error(lakegauge):
    assert lakegauge("config", "show", LOG_CREDENTIALS="true").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "environ", "exit_code", "says"),
    [
        ([], {}, 0, "auto needs nothing more"),
        (["--target=embedded"], {}, 0, "embedded needs nothing more"),
        ([], {"LAKEGAUGE_TARGET": "dsn"}, 1, "set LAKEGAUGE_POSTGRES_DSN"),
        (["--target=lakebase"], {}, 1, "set LAKEBASE_ENDPOINT"),
        (["--target=agent"], {"DATABRICKS_MODEL": "m"}, 1, "set DATABRICKS_BASE_URL"),
        (["--target=agent"], SECRETS, 1, "set DATABRICKS_BASE_URL"),
    ],
)
def test_missing_says_what_a_target_still_needs(
    lakegauge, arguments, environ, exit_code, says
):
    done = lakegauge("config", "missing", *arguments, **environ)
    assert done.returncode == exit_code, done.stderr
    assert says in done.stdout
    listed = json.loads(
        lakegauge("config", "missing", "--json", *arguments, **environ).stdout
    )
    assert bool(listed["missing"]) == bool(exit_code)


@pytest.mark.parametrize("command", ["current", "show", "missing"])
def test_a_wrong_setting_ends_with_2_and_one_message(lakegauge, tmp_path, command):
    (tmp_path / "lakegauge.json").write_text('{"lakebase": {"hots": "h"}}')
    done = lakegauge("config", command, DB_POOL_SIZE="x")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("lakegauge: 2 settings are wrong:\n")
    assert "did you mean host?" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_target_is_a_usage_error(lakegauge):
    done = lakegauge("config", "missing", "--target=dns")
    assert done.returncode == 2
    assert "lakebase" in done.stderr


@pytest.mark.parametrize("extra", [{}, {"DB_POOL_SIZE": "x"}], ids=["valid", "wrong"])
@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("command", ["current", "show", "missing", "help"])
def test_no_secret_is_ever_printed(lakegauge, command, as_json, extra):
    done = lakegauge("config", command, *as_json, **SECRETS, **extra)
    assert done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_help_finds_a_setting_by_any_of_its_names(lakegauge):
    for word in ("pool.max_overflow", "db_max_overflow", "production_pool.max_o"):
        printed = lakegauge("config", "help", word).stdout
        assert "variable: DB_MAX_OVERFLOW" in printed
        assert "DB_POOL_SIZE" not in printed
    assert lakegauge("config", "help", "nonsense").returncode == 2


def test_help_is_honest_about_settings_that_nothing_reads(lakegauge):
    listed = json.loads(lakegauge("config", "help", "--json").stdout)
    unused = [entry for entry in listed if not entry["used"]]
    assert unused
    assert all("not used yet" in entry["description"] for entry in unused)


def test_help_and_the_document_agree(lakegauge):
    tables = lakegauge("config", "help", "--markdown").stdout
    assert "DB_POOL_SIZE" in tables
    assert tables.strip() in (ROOT / "docs" / "configuration.md").read_text(), (
        "replace the tables of docs/configuration.md by the output of "
        "`lakegauge config help --markdown`"
    )


@pytest.mark.parametrize(
    "arguments", [[], ["config"], ["--help"], ["config", "--help"]]
)
def test_the_command_explains_itself(lakegauge, arguments):
    done = lakegauge(*arguments)
    assert "config" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_help_names_every_command(lakegauge):
    printed = lakegauge("--help").stdout
    for command in ("config", "compare", "monitor"):
        assert f" {command} " in printed
    assert " serve " in lakegauge("monitor", "--help").stdout
