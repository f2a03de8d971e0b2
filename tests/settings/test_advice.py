"""What is allowed and yet unwise."""

from __future__ import annotations

import pytest

from harness.settings import load_settings
from harness.settings.advice import check_security_status, validate_configuration
from harness.settings.checks import missing_for, workspace_missing


def loaded(tmp_path, **environ):
    return load_settings(environ=environ, cwd=tmp_path)


def test_the_defaults_are_sound(tmp_path):
    status = validate_configuration(loaded(tmp_path))
    assert status.valid
    assert (status.errors, status.warnings, status.recommendations) == ((), (), ())


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("LOG_CREDENTIALS", "true", "errors"),
        ("SSL_REQUIRE", "false", "warnings"),
        ("DB_POOL_RECYCLE_INTERVAL", "3601", "warnings"),
        ("DB_POOL_SIZE", "9", "recommendations"),
        ("ENABLE_HEALTH_CHECKS", "false", "recommendations"),
        ("ENABLE_PERFORMANCE_MONITORING", "false", "recommendations"),
    ],
)
def test_each_rule_names_its_setting(name, value, kind, tmp_path):
    status = validate_configuration(loaded(tmp_path, **{name: value}))
    told = [*status.errors, *status.warnings, *status.recommendations]
    assert told == list(getattr(status, kind))
    assert len(told) == 1
    assert name in told[0]
    assert status.valid == (kind != "errors")


@pytest.mark.parametrize(
    ("name", "value"), [("DB_POOL_RECYCLE_INTERVAL", "3600"), ("DB_POOL_SIZE", "10")]
)
def test_the_bounds_themselves_are_sound(name, value, tmp_path):
    status = validate_configuration(loaded(tmp_path, **{name: value}))
    assert not status.warnings
    assert not status.recommendations


def test_a_file_with_secrets_that_others_may_read_is_an_issue(tmp_path):
    path = tmp_path / ".env"
    path.write_text("LAKEBASE_PASSWORD=p4ssw0rd\n")
    path.chmod(0o644)
    status = check_security_status(loaded(tmp_path), root=tmp_path)
    assert not status.secure
    assert status.issues[0].endswith(f"run `chmod 600 {path}`")

    path.chmod(0o600)
    assert check_security_status(loaded(tmp_path), root=tmp_path).secure


def test_a_file_without_secrets_may_be_read_by_all(tmp_path):
    (tmp_path / ".env").write_text("DB_POOL_SIZE=20\n")
    (tmp_path / ".env").chmod(0o644)
    assert check_security_status(loaded(tmp_path), root=tmp_path).secure


def test_what_git_should_ignore_is_told(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("/.env\n*.conf\nresults/\n")
    status = check_security_status(loaded(tmp_path), root=tmp_path)
    (told,) = status.recommendations
    assert told.endswith(".gitignore: lakegauge.json benchmark_results/")


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({}, ["lakebase.endpoint", "workspace_url", "personal_access_token"]),
        ({"LAKEBASE_ENDPOINT": "e", "DATABRICKS_CONFIG_PROFILE": "p"}, []),
        ({"LAKEBASE_ENDPOINT": "e", "DATABRICKS_HOST": "h"}, ["personal_access_token"]),
        (
            {
                "LAKEBASE_ENDPOINT": "e",
                "DATABRICKS_HOST": "h",
                "DATABRICKS_CLIENT_SECRET": "s",
            },
            ["databricks.client_id"],
        ),
        (
            {"LAKEBASE_HOST": "h", "LAKEBASE_USER": "u", "LAKEBASE_PASSWORD": "p"},
            [],
        ),
        ({"LAKEBASE_HOST": "h", "LAKEBASE_PASSWORD": "p"}, ["lakebase.user"]),
    ],
)
def test_what_lakebase_needs(environ, missing, tmp_path):
    settings = load_settings(environ=environ, cwd=tmp_path)
    found = missing_for(settings, "lakebase")
    found += workspace_missing(settings, environ={}, home=tmp_path)
    assert len(found) == len(missing)
    for need, name in zip(found, missing, strict=True):
        assert any(path.endswith(name) for path in need.need)


def test_an_identity_found_by_databricks_own_tools_is_not_missing(tmp_path):
    settings = load_settings(environ={"LAKEBASE_ENDPOINT": "e"}, cwd=tmp_path)
    on_a_cluster = {"DATABRICKS_RUNTIME_VERSION": "17.0"}
    assert not workspace_missing(settings, environ=on_a_cluster, home=tmp_path)
    (tmp_path / ".databrickscfg").touch()
    assert not workspace_missing(settings, environ={}, home=tmp_path)
