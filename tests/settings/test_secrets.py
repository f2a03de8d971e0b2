"""A secret reaches no text, no message and no child process."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest

from harness import ConfigError
from harness.settings import child_environment, load_settings, redact
from harness.settings.catalogue import by_path, secret_variables
from harness.settings.display import current_json, current_lines

CANARY = "canary-3f9a/+x"
SECRETS = [info for info in by_path().values() if info.secret]
LAYERS = ("command line", "environment", ".env", "JSON file")

# Every way to write a secret wrongly, canary included.
WRONG = {
    "placeholder": f"<{CANARY}>",
    "template": f"your_{CANARY}_here",
    "list": [CANARY],
    "object": {"a": CANARY},
}


def valid(info):
    if info.path == "target.postgres_dsn":
        return f"postgresql://me:{CANARY}@127.0.0.1:5432/db"
    return CANARY


def plant(info, value, layer, folder):
    """Write a secret into one layer; return the arguments of load_settings."""
    overrides, environ = {}, {}
    if layer == "command line":
        overrides[info.path] = value
    elif layer == "environment":
        environ[info.setting.env] = str(value)
    elif layer == ".env":
        (folder / ".env").write_text(f"{info.setting.env}={value}\n")
    else:
        document = {info.section: {info.keys[0]: value}}
        (folder / "lakegauge.json").write_text(json.dumps(document))
    return overrides, environ


def test_the_secret_settings_are_these():
    """A new credential must be a SecretStr; this list makes that a decision."""
    assert {info.path for info in SECRETS} == {
        "target.postgres_dsn",
        "lakebase.password",
        "databricks.personal_access_token",
        "databricks.oauth_token",
        "databricks.client_secret",
        "agent.token",
        "monitoring.monitor_token",
        "spark.remote",
    }


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("info", SECRETS, ids=lambda info: info.path)
def test_a_valid_secret_appears_in_no_text(info, layer, tmp_path):
    overrides, environ = plant(info, valid(info), layer, tmp_path)

    loaded = load_settings(overrides, environ=environ, cwd=tmp_path)

    assert valid(info) in loaded.secrets()
    group = getattr(loaded, info.path.split(".")[0])
    for text in (
        repr(loaded),
        str(loaded),
        f"{loaded.value_of(info.path)!r} {loaded.value_of(info.path)}",
        repr(group),
        str(group.model_dump()),
        loaded.model_dump_json(),
        str(loaded.source_of(info.path)),
        "\n".join(current_lines(loaded)),
        json.dumps(current_json(loaded)),
        redact(f"FATAL: no login with {CANARY} or {valid(info)}"),
    ):
        assert CANARY not in text
    assert loaded.source_of(info.path).layer == layer


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("info", SECRETS, ids=lambda info: info.path)
def test_a_wrong_secret_appears_in_no_message(info, wrong, layer, tmp_path):
    overrides, environ = plant(info, WRONG[wrong], layer, tmp_path)
    # A second problem, so that a message is made even where the text is taken.
    environ["DB_POOL_SIZE"] = "x"

    with pytest.raises(ConfigError) as caught:
        load_settings(overrides, environ=environ, cwd=tmp_path)

    assert "DB_POOL_SIZE" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("info", SECRETS, ids=lambda info: info.path)
def test_a_secret_in_a_lower_layer_is_masked_too(info, tmp_path):
    """The same text, mistakenly given to another setting, is known as a secret."""
    (tmp_path / ".env").write_text(f"{info.setting.env}={valid(info)}\n")
    environ = {info.setting.env: valid(info) + "-2", "DB_POOL_SIZE": valid(info)}
    with pytest.raises(ConfigError) as caught:
        load_settings(environ=environ, cwd=tmp_path)
    assert "environment variable DB_POOL_SIZE = " in str(caught.value)
    assert CANARY not in str(caught.value)


def test_names_that_disagree_are_named_without_their_values(tmp_path):
    environ = {
        "DATABRICKS_TOKEN": CANARY,
        "DATABRICKS_PERSONAL_ACCESS_TOKEN": f"{CANARY}-2",
        "LAKEBASE_PASWORD": CANARY,
    }
    with pytest.raises(ConfigError) as caught:
        load_settings(environ=environ, cwd=tmp_path)
    message = str(caught.value)
    assert "DATABRICKS_TOKEN = *** both set databricks.personal_access" in message
    assert "did you mean LAKEBASE_PASSWORD?" in message
    assert CANARY not in message


@pytest.mark.parametrize(
    ("dsn", "password"),
    [
        ("postgresql://u:s3cr%40t@h/d", "s3cr@t"),
        ("host=h password='s3cr t' dbname=d", "s3cr t"),
        ("host=h password=s3crt dbname=d", "s3crt"),
        ("postgresql://h/d?user=u&password=s3crt", "s3crt"),
    ],
)
def test_the_password_inside_a_dsn_is_masked_alone(dsn, password, tmp_path):
    """A driver's message holds the password, not the connection string."""
    load_settings(environ={"LAKEGAUGE_POSTGRES_DSN": dsn}, cwd=tmp_path)
    assert redact(f"login {password} failed") == "login *** failed"


def test_a_secret_within_a_longer_one_leaves_no_rest(tmp_path):
    environ = {"LAKEBASE_PASSWORD": "abcd", "DATABRICKS_TOKEN": "abcdefgh"}
    load_settings(environ=environ, cwd=tmp_path)
    assert redact("abcdefgh abcd") == "*** ***"


def test_children_get_no_variable_that_holds_a_secret(tmp_path):
    kept = {
        "PATH": f"/opt/{CANARY}/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TOKENIZERS_PARALLELISM": "false",
        "KEYBOARD": "us",
        "DB_POOL_SIZE": "5",
        "https_proxy": "http://u:p@proxy:3128",
        "SPARK_HOME": "/opt/spark",
    }
    dropped = {
        "AWS_SECRET_ACCESS_KEY": "1",
        "API_KEY": "1",
        "OPENAI_APIKEY": "1",
        "GITHUB_TOKEN": "1",
        "SSH_PASSPHRASE": "1",
        "SENTRY_DSN": "1",
        "MYSQL_PASSWD": "1",
        "GOOGLE_APPLICATION_CREDENTIALS": "1",
        "DATABASE_URL": "mysql://u:p@h/d",
        "INNOCENT": f"x{CANARY}y",
        **dict.fromkeys(secret_variables(), "1"),
    }
    loaded = load_settings(environ={"DATABRICKS_TOKEN": CANARY}, cwd=tmp_path)

    assert child_environment(loaded, environ={**kept, **dropped}) == kept
    assert child_environment(environ={**kept, **dropped}) == kept


def test_a_child_process_starts_with_the_filtered_environment(monkeypatch):
    monkeypatch.setenv("LAKEBASE_PASSWORD", CANARY)
    code = "import os; print(sorted(os.environ))"
    command = [sys.executable, "-c", code]
    printed = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, check=True
    ).stdout
    assert "'PATH'" in printed
    assert "LAKEBASE_PASSWORD" not in printed


def test_settings_survive_a_copy_and_a_pickle(tmp_path):
    """Copies keep their sources; a report or a worker may want them."""
    loaded = load_settings(environ={"DB_POOL_SIZE": "5"}, cwd=tmp_path)
    for copy in (pickle.loads(pickle.dumps(loaded)), loaded.model_copy()):
        assert copy.pool.pool_size == 5
        assert copy.source_of("pool.pool_size").name == "DB_POOL_SIZE"


def test_a_secret_too_short_to_be_searched_for_is_masked_where_it_stands(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={"LAKEBASE_PASSWORD": "xxx"}, cwd=tmp_path)
    assert str(caught.value).startswith("environment variable LAKEBASE_PASSWORD = ***:")


def test_a_secret_in_a_name_is_masked(tmp_path):
    """A path or an option may hold by mistake what is a secret elsewhere."""
    environ = {"DATABRICKS_TOKEN": "canary-9", "LAKEGAUGE_CONFIG": "/canary-9.json"}
    with pytest.raises(ConfigError, match=r"^/\*\*\*\.json: no such file"):
        load_settings(environ=environ, cwd=tmp_path)
