"""What is wrong is told at once: setting, source, value, and what would be right."""

from __future__ import annotations

import json
import traceback

import pytest

from harness import ConfigError
from harness.settings import load_settings
from harness.settings.catalogue import by_path


def problem(tmp_path, overrides=None, **environ):
    with pytest.raises(ConfigError) as caught:
        load_settings(overrides, environ=environ, cwd=tmp_path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("DB_POOL_SIZE", "-1", "a whole number of at least 0"),
        ("DB_POOL_SIZE", "many", "a whole number of at least 0"),
        ("DB_POOL_SIZE", "1.5", "a whole number of at least 0"),
        ("DB_POOL_TIMEOUT", "0", "a number of seconds above 0"),
        ("DB_POOL_TIMEOUT", "nan", "a number of seconds above 0"),
        ("DB_POOL_TIMEOUT", "inf", "a number of seconds above 0"),
        ("LAKEBASE_PORT", "65536", "a port number from 1 to 65535"),
        ("LAKEBASE_TOKEN_TTL_S", "299", "seconds from 300 to 3600"),
        ("LAKEBASE_TOKEN_TTL_S", "3601", "seconds from 300 to 3600"),
        ("DB_POOL_RECYCLE_INTERVAL", "259200", "below 259200: Lakebase ends"),
        ("DB_IDLE_MAX_S", "86400", "below 86400: Lakebase ends an idle"),
        ("DB_IDLE_MAX_S", "0", "above 0 and below 86400"),
        ("DB_LIVENESS_IDLE_S", "-1", "a number of seconds of at least 0"),
        ("DB_LEAK_AFTER_S", "soon", "a number of seconds of at least 0"),
        ("DB_CONNECT_CONCURRENCY", "0", "a whole number of at least 1"),
        ("DB_PROCESSES", "0", "a whole number of at least 1"),
        ("LAKEGAUGE_TARGET", "local", "one of auto, dsn, docker, embedded, lakebase"),
        ("LAKEGAUGE_POOL", "queuepool", "one of psycopg, queue"),
        ("LAKEGAUGE_PRESET", "huge", "one of light, medium, heavy, stress"),
        ("BENCHMARK_THREAD_COUNTS", "10,,20", "such as 10,20,40"),
        ("BENCHMARK_THREAD_COUNTS", "[10", "such as 10,20,40"),
        ("BENCHMARK_THREAD_COUNTS", "[]", "such as 10,20,40"),
        ("BENCHMARK_THREAD_COUNTS", "0", "such as 10,20,40"),
        ("BENCHMARK_TABLE_NAME", "x; drop table y", "a lower-case SQL name"),
        ("SSL_REQUIRE", "maybe", "true or false"),
        ("DATABRICKS_HOST", "https://u:p@host", "without user or password"),
        ("DATABRICKS_BASE_URL", "ftp://host", "an address such as https://host"),
        ("LAKEGAUGE_SPARK_DRIVER_MEMORY", "2 GB", "a size such as 2g or 512m"),
        ("LOG_LEVEL", "loud", "or set LAKEGAUGE_LOG_LEVEL, which is read first"),
    ],
)
def test_a_wrong_value_says_what_would_be_right(name, value, right, tmp_path):
    message = problem(tmp_path, **{name: value})
    assert message.startswith(f"environment variable {name} = ")
    assert right in message
    assert value in message or "it may hold a password" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABRICKS_TOKEN", "<your-token>"),
        ("LAKEBASE_PASSWORD", "your_password_here"),
        ("LAKEBASE_PASSWORD", "changeme"),
        ("LAKEBASE_INSTANCE_NAME", "your-instance-name"),
        ("LAKEBASE_HOST", "${PGHOST}"),
        ("DATABRICKS_HOST", "https://your-workspace.cloud.databricks.com"),
        ("DATABRICKS_HOST", "https://<workspace>.cloud.databricks.com"),
    ],
)
def test_a_template_placeholder_is_refused(name, value, tmp_path):
    """The originals took it, and failed much later with a login error."""
    message = problem(tmp_path, **{name: value})
    assert name in message
    assert "is a template placeholder" in message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LAKEBASE_INSTANCE", "LAKEBASE_INSTANCE_"),
        ("LAKEGAUGE_TARGT", "LAKEGAUGE_TARGET"),
        ("lakegauge_target", "LAKEGAUGE_TARGET"),
        ("LAKEGAUGE_CONFIG_FILE", "LAKEGAUGE_CONFIG"),
        ("AGENTBRICKS_RETRIES", "AGENTBRICKS_MAX_RETRIES"),
        ("BENCHMARK_THREADS", "BENCHMARK_THREAD_COUNTS"),
        ("LAKEGAUGE_QQQ", "lakegauge config help"),
        ("DB_POOLSIZE", "DB_POOL_SIZE"),
        ("DB_MAX_OVERFLOWS", "DB_MAX_OVERFLOW"),
        ("DATABRICKS_WORKSPACE_URI", "DATABRICKS_WORKSPACE_URL"),
        ("DATABRICKS_TOKN", "DATABRICKS_TOKEN"),
    ],
)
def test_a_misspelt_variable_is_refused(name, meant, tmp_path):
    """A silently ignored setting is a benchmark of something else."""
    for layer in ("environment", ".env"):
        environ = {name: "1"}
        if layer == ".env":
            (tmp_path / ".env").write_text(f"{name}=1\n")
            environ = {}
        message = problem(tmp_path, **environ)
        assert name in message
        assert meant in message


def test_variables_of_other_software_pass(tmp_path):
    config = pytest.importorskip("databricks.sdk.config")
    names = {a.env for a in config.Config.attributes() if a.env}
    assert len(names) > 10
    names |= {
        "DATABRICKS_APP_NAME",
        "DATABRICKS_APP_PORT",
        "DATABRICKS_BUNDLE_ENV",
        "DATABRICKS_RUNTIME_VERSION",
        "DATABRICKS_SERVERLESS_COMPUTE_ID",
        "DATABRICKS_WAREHOUSE_ID",
        "DB_HOST",
        "DB_NAME",
        "DB_PASSWORD",
        "DB_POOL_PRE_PING",
        "DB_PORT",
        "DB_TIMEOUT",
        "DB_URL",
        "DB_USER",
        "PGPASSFILE",
        "PGSERVICE",
    }
    # Of the same address and kind, so that none of ours is wrong or contradicted.
    environ = {n: "x.example.com" for n in names if n != "DATABRICKS_AUTH_TYPE"}
    load_settings(environ=environ, cwd=tmp_path)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        (
            {"DB_POOL_SIZE": "0", "DB_MAX_OVERFLOW": "0"},
            r"pool.pool_size = 0 \(environment variable DB_POOL_SIZE\) and .*least 1",
        ),
        (
            {"LAKEBASE_ENDPOINT": "projects/p", "LAKEBASE_INSTANCE_NAME": "i"},
            "lakebase.endpoint = 'projects/p' .* lakebase.instance_name = 'i' .* one",
        ),
        ({"LAKEGAUGE_TARGET": "dsn"}, "target 'dsn': set LAKEGAUGE_POSTGRES_DSN"),
        ({"LAKEGAUGE_TARGET": "lakebase"}, "LAKEBASE_ENDPOINT .*LAKEBASE_INSTANCE_NA"),
        (
            {"LAKEGAUGE_TARGET": "lakebase", "LAKEBASE_HOST": "h"},
            "(?s)LAKEBASE_USER.*LAKEBASE_PASSWORD",
        ),
        (
            {
                "LAKEGAUGE_TARGET": "lakebase",
                "LAKEBASE_ENDPOINT": "projects/p",
                "PGSSLMODE": "disable",
            },
            r"= 'disable' \(environment variable PGSSLMODE\) and .* = True \(default\)",
        ),
        (
            {"DATABRICKS_HOST": "one", "DATABRICKS_WORKSPACE_URL": "two"},
            "DATABRICKS_WORKSPACE_URL = 'two' and .*DATABRICKS_HOST = 'one' both set",
        ),
        (
            {"HEALTH_CHECK_INTERVAL": "1", "DB_HEALTH_CHECK_INTERVAL": "2"},
            "DB_HEALTH_CHECK_INTERVAL = '2' and .*HEALTH_CHECK_INTERVAL = '1'",
        ),
    ],
)
def test_an_impossible_combination_names_both_and_their_sources(
    environ, says, tmp_path
):
    with pytest.raises(ConfigError, match=says):
        load_settings(environ=environ, cwd=tmp_path)


def test_two_names_that_agree_are_no_problem(tmp_path):
    environ = {"DATABRICKS_HOST": "w.x", "DATABRICKS_WORKSPACE_URL": "https://w.x/"}
    loaded = load_settings(environ=environ, cwd=tmp_path)
    assert loaded.databricks.workspace_url == "https://w.x"


def test_a_name_in_a_higher_layer_is_no_conflict(tmp_path):
    (tmp_path / ".env").write_text("DATABRICKS_HOST=low\n")
    environ = {"DATABRICKS_WORKSPACE_URL": "high"}
    loaded = load_settings(environ=environ, cwd=tmp_path)
    assert loaded.databricks.workspace_url == "https://high"


def test_check_asks_for_what_the_resolved_target_needs(tmp_path):
    """`auto` needs nothing; what it becomes may."""
    loaded = load_settings(environ={"PGSSLMODE": "prefer"}, cwd=tmp_path)
    loaded.check()
    loaded.check("embedded")
    with pytest.raises(ConfigError, match="LAKEGAUGE_POSTGRES_DSN"):
        loaded.check("dsn")
    with pytest.raises(ConfigError, match="use require, verify-ca or verify-full"):
        loaded.check("lakebase")


def test_all_problems_come_at_once_each_with_its_source(tmp_path):
    (tmp_path / ".env").write_text("DB_MAX_OVERFLOW=-2\nLAKEBASE_HOTS=h\n")
    document = {"benchmark": {"table_rows": "x", "tabel_name": 1}, "agnet": {}}
    (tmp_path / "lakegauge.json").write_text(json.dumps(document))

    message = problem(
        tmp_path,
        {"--target": "loca", "no.such": 1},
        DB_POOL_TIMEOUT="soon",
        LAKEBASE_ENDPOINT="e",
        LAKEBASE_INSTANCE_NAME="i",
    )

    assert message.startswith("9 settings are wrong:\n")
    for part in (
        "--target = 'loca': must be one of",
        "no.such: no such setting",
        "environment variable DB_POOL_TIMEOUT = 'soon'",
        f"DB_MAX_OVERFLOW in {tmp_path / '.env'} line 1 = '-2'",
        f"LAKEBASE_HOTS in {tmp_path / '.env'} line 2: there is no such setting",
        f"benchmark.table_rows in {tmp_path / 'lakegauge.json'} = 'x'",
        f"benchmark.tabel_name in {tmp_path / 'lakegauge.json'}: unknown key",
        "unknown section 'agnet'; did you mean agent?",
        "lakebase.endpoint = 'e'",
    ):
        assert part in message
    assert len(message.splitlines()) == 10


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:canary-secret@host/db",
        "postgres://user:canary-secret@host",
        "postgresql://host/db?user=u&password=canary-secret",
        "host=h password=canary-secret",
        "host=h password = 'canary-secret'",
        "postgresql://user:canary/se@cret@host/db",
    ],
)
@pytest.mark.parametrize("where", ["--target", "target.target", "LAKEGAUGE_TARGET"])
def test_a_password_in_target_is_refused_unseen(dsn, where, tmp_path):
    """Every user of the machine can read a command line."""
    if where == "LAKEGAUGE_TARGET":
        message = problem(tmp_path, LAKEGAUGE_TARGET=dsn)
    else:
        message = problem(tmp_path, {where: dsn})
    assert "LAKEGAUGE_POSTGRES_DSN" in message
    assert "canary" not in message
    assert "cret" not in message.replace("secret", "")


def test_a_token_in_an_option_is_refused_unseen(tmp_path):
    address = "sc://host:443/;token=canary-secret"
    message = problem(tmp_path, {"--spark-remote": address})
    assert "LAKEGAUGE_SPARK_REMOTE" in message
    assert "canary" not in message
    load_settings({"spark.remote": address}, environ={}, cwd=tmp_path)


def test_no_error_carries_the_value_in_its_chain(tmp_path):
    """pydantic's error and the JSON parser's hold the whole input."""
    (tmp_path / "lakegauge.json").write_text('{"lakebase": {"password": canary')
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={"LAKEBASE_TOKEN_TTL_S": "1"}, cwd=tmp_path)
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    assert "canary" not in "".join(traceback.format_exception(error))


def test_every_setting_says_what_it_is():
    for info in by_path().values():
        assert info.description.endswith((".", ".)")), info.path
        assert info.kind
