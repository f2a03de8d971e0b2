"""Settings as a fixture: options on top, loaded once, cheap until asked for."""

from __future__ import annotations

import os
import subprocess
import sys

PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def run(*command, cwd, **environ):
    # The variables of the machine that runs the tests are not under test.
    clean = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG"}}
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_options_win_over_the_environment(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / ".env").write_text("LAKEGAUGE_POOL=queue\nDB_POOL_SIZE=3\n")
    below = tmp_path / "below"
    below.mkdir()
    (below / "test_it.py").write_text(
        "from harness.settings.fixtures import settings_of\n"
        "def test_it(settings, pytestconfig):\n"
        "    assert settings is settings_of(pytestconfig)\n"
        "    assert settings.target.target == 'embedded'\n"
        "    assert str(settings.source_of('target.target')) == '--target'\n"
        "    assert settings.pool.engine == 'queue'\n"
        "    assert (settings.pool.pool_size, settings.pool.max_overflow) == (3, 10)\n"
    )
    done = run(
        *PYTEST,
        "--target=embedded",
        "--preset=light",
        cwd=below,
        LAKEGAUGE_TARGET="docker",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_setting_is_one_message_without_traceback(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it(settings): pass\n")
    done = run(*PYTEST, cwd=tmp_path, DB_POOL_SIZE="x", LAKEBASE_PASSWORD="canary-1")
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "environment variable DB_POOL_SIZE = 'x'" in output
    assert "Traceback" not in output
    assert "canary" not in output


def test_importing_the_fixtures_loads_no_pydantic(tmp_path):
    """The plugin is imported by every pytest run on the machine."""
    code = (
        "import harness.settings.fixtures, sys\n"
        "print({m.split('.')[0] for m in sys.modules}"
        " & {'pydantic', 'pydantic_settings', 'pydantic_core', 'dotenv', 'typer'})"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.stdout.strip() == "set()", done.stderr
