"""Where the files are looked for, and what a bad one says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from harness import ConfigError
from harness.settings import load_settings


def test_files_are_found_in_the_folder_then_in_the_project_root(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    below = tmp_path / "benchmarks" / "deep"
    below.mkdir(parents=True)
    (tmp_path / ".env").write_text("DB_POOL_SIZE=3\n")
    (tmp_path / "lakegauge.json").write_text('{"lakebase": {"name": "root"}}')

    loaded = load_settings(environ={}, cwd=below)
    assert (loaded.pool.pool_size, loaded.lakebase.instance_name) == (3, "root")
    assert loaded.files() == {
        ".env": tmp_path / ".env",
        "JSON file": tmp_path / "lakegauge.json",
    }

    (below / ".env").write_text("DB_POOL_SIZE=4\n")
    assert load_settings(environ={}, cwd=below).pool.pool_size == 4


def test_variables_name_other_files(tmp_path):
    (tmp_path / "my.env").write_text("DB_POOL_SIZE=5\nLAKEGAUGE_CONFIG=my.json\n")
    (tmp_path / "my.json").write_text('{"lakebase": {"name": "mine"}}')
    (tmp_path / ".env").write_text("DB_POOL_SIZE=6\n")
    (tmp_path / "lakegauge.json").write_text('{"lakebase": {"name": "other"}}')

    loaded = load_settings(environ={"LAKEGAUGE_ENV_FILE": "my.env"}, cwd=tmp_path)

    assert (loaded.pool.pool_size, loaded.lakebase.instance_name) == (5, "mine")


def test_dev_null_switches_the_dotenv_file_off(tmp_path):
    (tmp_path / ".env").write_text("DB_POOL_SIZE=6\n")
    environ = {"LAKEGAUGE_ENV_FILE": os.devnull}
    assert load_settings(environ=environ, cwd=tmp_path).pool.pool_size == 20


def write_bytes(content):
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize("control", ["LAKEGAUGE_ENV_FILE", "LAKEGAUGE_CONFIG"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda _: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (write_bytes(b"DB_POOL_SIZE=\xff\xfe1"), r"not UTF-8 text \(byte 14\)"),
    ],
    ids=["missing", "folder", "latin"],
)
def test_a_named_file_that_cannot_be_read_is_one_error(control, make, says, tmp_path):
    path = tmp_path / "named"
    make(path)
    with pytest.raises(ConfigError, match=says) as caught:
        load_settings(environ={control: str(path)}, cwd=tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [".env", "lakegauge.json"])
def test_a_found_file_that_cannot_be_read_is_never_skipped(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        load_settings(environ={}, cwd=tmp_path)


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="POSIX permissions")
def test_a_file_without_permission_names_the_file_and_the_next_step(tmp_path):
    """As an ordinary user, because root may read everything."""
    path = tmp_path / "locked.env"
    path.write_text("DB_POOL_SIZE=1\n")
    path.chmod(0)
    code = (
        "import os, pathlib\n"
        "from harness.settings import load_settings\n"
        "import harness.settings.loading\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"environ = {{'LAKEGAUGE_ENV_FILE': {str(path)!r}}}\n"
        "try: load_settings(environ=environ, cwd=pathlib.Path('/'))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)

    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert found.startswith(f"ConfigError {path}: no permission to read it; run `chmod")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"lakebase": ', "line 1 column 14: not JSON"),
        ("[]", "must hold one JSON object"),
        ("", "line 1 column 1: not JSON"),
        ('{"pool": {}}', "unknown section 'pool'; did you mean production_pool?"),
        ('{"lakebse": {}}', "unknown section 'lakebse'; did you mean lakebase?"),
        ('{"lakebase": {"hots": 1}}', "lakebase.hots in .*unknown key; .* host?"),
        ('{"lakebase": 3}', "section 'lakebase' must be an object"),
        ('{"lakebase": {}, "lakebase": {}}', "the key 'lakebase' is there twice"),
        (
            '{"lakebase": {"name": "a", "instance_name": "b"}}',
            "lakebase.name .*= 'a' and lakebase.instance_name .* = 'b' both set",
        ),
        ('{"production_pool": {"pool_size": true}}', "= True: must be a whole number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_json_file_names_the_file_and_the_key(text, says, tmp_path):
    path = tmp_path / "lakegauge.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_settings(environ={}, cwd=tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A=1\n\nLAKEBASE_HOST\n", "line 3: not of the form NAME=value"),
        ("='x'\n", "line 1: not of the form NAME=value"),
        ("A=1\nDB_POOLSIZE=3\n", "line 2: .*; did you mean DB_POOL_SIZE?"),
        ("DB_POOL_SIZE=3\nDB_POOL_SIZE=4\n", "line 1 = '3' and .* line 2 = '4'"),
        ("LAKEGAUGE_ENV_FILE=x\n", "has no effect here"),
        ("DB_POOL_SIZE=${SIZE}\n", "must be a whole number"),
    ],
)
def test_a_bad_dotenv_line_is_named(text, says, tmp_path):
    (tmp_path / ".env").write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_settings(environ={}, cwd=tmp_path)
    assert str(tmp_path / ".env") in str(caught.value)


def test_a_dotenv_value_is_taken_as_written(tmp_path):
    """A password may hold anything, so nothing in it is expanded."""
    text = "LAKEBASE_PASSWORD='p$HOME${X}#\"=x'\nOTHER_SOFTWARE=1\n"
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbf" + text.encode())
    loaded = load_settings(environ={"X": "no"}, cwd=tmp_path)
    assert loaded.lakebase.password.get_secret_value() == 'p$HOME${X}#"=x'


def test_json_null_is_not_set(tmp_path):
    document = {"lakebase": {"name": None, "port": None}}
    (tmp_path / "lakegauge.json").write_text(json.dumps(document))
    assert load_settings(environ={}, cwd=tmp_path).lakebase.port == 5432
