"""An embedded Postgres: really TLS, really private, as any user, on a full disk."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness.errors import TargetError
from harness.postgres import embedded as embedded_module
from harness.postgres.account import server_account
from harness.postgres.connect import connect
from harness.postgres.embedded import start_embedded
from harness.postgres.tls import make_certificate

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")


def value(server, name):
    with connect(server.connect_arguments()) as connection:
        return connection.execute(f"SHOW {name}").fetchone()[0]


def folder_of(server):
    return Path(server.connect_arguments()["sslrootcert"]).parent


def postgres_of(server):
    pid = int((folder_of(server) / "data/postmaster.pid").read_text().split()[0])
    return psutil.Process(pid)


def test_connections_are_encrypted_and_the_server_says_so(embedded):
    assert embedded.info.tls in {"TLSv1.2", "TLSv1.3"}
    with connect(embedded.connect_arguments()) as connection:
        ssl, version = connection.execute(
            "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).fetchone()
    assert ssl
    assert version == embedded.info.tls


def test_certificate_of_another_server_is_refused(embedded, tmp_path):
    other = tmp_path / "other.crt"
    other.write_bytes(make_certificate().certificate_pem)
    arguments = embedded.connect_arguments()
    arguments["sslrootcert"] = str(other)
    with pytest.raises(TargetError, match="certificate verify failed"):
        connect(arguments)


def test_connection_in_the_clear_is_refused(embedded):
    arguments = embedded.connect_arguments()
    arguments["sslmode"] = "disable"
    with pytest.raises(TargetError, match=r"no pg_hba.conf entry .* 28000"):
        connect(arguments)


def test_server_listens_on_loopback_only(embedded):
    port = embedded.connect_arguments()["port"]
    sockets = {
        connection.laddr
        for connection in postgres_of(embedded).net_connections(kind="all")
        if connection.status == psutil.CONN_LISTEN
        or connection.family == socket.AF_UNIX
    }
    assert {address for address in sockets if address} == {("127.0.0.1", port)}


def test_commits_are_flushed(embedded):
    """A benchmark of commits on a server without fsync measures something else."""
    assert value(embedded, "fsync") == "on"
    assert value(embedded, "synchronous_commit") == "on"
    assert embedded.info.max_connections == 400


def test_two_servers_share_nothing(embedded, start_own):
    other = start_own()
    assert other.connect_arguments()["port"] != embedded.connect_arguments()["port"]
    assert folder_of(other) != folder_of(embedded)
    wrong = other.connect_arguments() | {
        "password": embedded.connect_arguments()["password"]
    }
    with pytest.raises(TargetError, match="28P01"):
        connect(wrong)


def test_port_taken_in_the_meantime_is_replaced(start_own, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        taken = squatter.getsockname()[1]
        picks = iter([taken])
        pick = embedded_module._free_port
        monkeypatch.setattr(
            embedded_module, "_free_port", lambda: next(picks, None) or pick()
        )
        server = start_own()
    assert server.connect_arguments()["port"] != taken


def test_nothing_of_the_secrets_is_seen_from_outside(start_own, monkeypatch):
    """Any user of the machine reads command lines; root reads environments."""
    monkeypatch.setenv("LAKEBASE_PASSWORD", "canary-password")
    monkeypatch.setenv("PGPASSWORD", "canary-pg")
    server = start_own(LAKEBASE_PASSWORD="canary-password")
    password = server.connect_arguments()["password"]
    seen = [log.read_text() for log in folder_of(server).glob("*.log")]
    children = psutil.Process().children(recursive=True)
    assert postgres_of(server).pid in {child.pid for child in children}
    for child in children:
        with suppress(psutil.NoSuchProcess):  # such as an autovacuum worker
            seen += [" ".join(child.cmdline()), str(child.environ())]
    assert not [text for text in seen if "canary" in text or password in text]
    assert not (folder_of(server) / "password").exists()
    assert password not in repr(server.connect_arguments())


def test_variables_of_libpq_do_not_redirect_us(start_own, monkeypatch):
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert start_own().info.tls


def test_binaries_without_openssl_are_said_to_have_none(start_own, bin_dir):
    (bin_dir / "postgres").write_text(
        "#!/bin/sh\n"
        'case "$*" in *-D*) data=$2; grep -qs "^ssl = on" "$data/lakegauge.conf" && {\n'
        'echo "FATAL:  SSL is not supported by this build"; exit 1; };; esac\n'
        f'exec {bin_dir}/real-postgres "$@"\n'
    )
    server = start_own(LAKEGAUGE_POSTGRES_BIN_DIR=str(bin_dir))
    assert server.info.tls is None
    assert "no OpenSSL" in server.info.reason


def test_server_that_will_not_start_is_quoted(start_own, bin_dir):
    (bin_dir / "postgres").write_text(
        "#!/bin/sh\n"
        '[ "$1" = -D ] || exec ' + f'{bin_dir}/real-postgres "$@"\n'
        'echo "FATAL:  could not map the moon"; exit 1\n'
    )
    with pytest.raises(TargetError, match=r"FATAL:  could not map the moon.*--target"):
        start_own(LAKEGAUGE_POSTGRES_BIN_DIR=str(bin_dir))


@as_root
def test_programs_out_of_reach_are_lent(start_own, bin_dir, tmp_path):
    """A virtual environment under /root is closed to every other user."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.move(bin_dir.parent, closed)
    moved = closed / bin_dir.parent.name / "bin"
    shutil.move(moved / "real-postgres", moved / "postgres")
    server = start_own(LAKEGAUGE_POSTGRES_BIN_DIR=str(moved))
    assert value(server, "server_version")
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_root_lends_the_server_another_user(embedded):
    process = postgres_of(embedded)
    assert process.username() == server_account().name
    assert process.uids().real != 0
    assert process.gids().real != 0


@as_root
def test_ordinary_user_needs_no_other(run_script):
    account = server_account()
    python, path = python_for(account)
    _, (version, tls, owner) = run_script(
        "import json, os\n"
        "from harness.postgres.embedded import start_embedded\n"
        "from harness.settings import load_settings\n"
        "server = start_embedded(load_settings(environ={}), reason='for a test')\n"
        "folder = os.path.dirname(server.connect_arguments()['sslrootcert'])\n"
        "info = server.info\n"
        "print(json.dumps([info.version, info.tls, os.stat(folder).st_uid]), "
        "flush=True)\n"
        "server.close()\n",
        python=python,
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": path},
        **account.popen_arguments(),
    )
    assert version
    assert tls
    assert owner == account.uid


def python_for(account):
    """An interpreter of our version, and a path of packages, for another user."""
    packages = sysconfig.get_path("purelib")
    name = "python{}.{}".format(*sys.version_info)
    system = shutil.which(name, path="/usr/bin:/usr/local/bin")
    for python in (sys.executable, system):
        if python and account.can_enter(Path(python).resolve().parent):
            if not account.can_enter(Path(packages)):
                break
            return python, f"{ROOT}:{packages}"
    return pytest.skip(f"no {name} with our packages is open to {account.name}")


@as_root
def test_temporary_folder_closed_to_the_server_is_passed_over(
    start_own, monkeypatch, tmp_path
):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(closed))
    assert folder_of(start_own()).parent != closed
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("too_late", [False, True], ids=["before", "during-initdb"])
def test_full_disk_is_one_error_that_names_the_folder(
    too_late, small_disk, make_settings, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    if too_late:
        monkeypatch.setattr(embedded_module, "FREE_SPACE_MIN_MB", 0)
    with pytest.raises(TargetError, match="TMPDIR") as caught:
        start_embedded(make_settings(), reason="for a test")
    assert str(small_disk) in str(caught.value)
    assert ("No space left" if too_late else "MB free") in str(caught.value)
    assert not list(small_disk.iterdir())


def test_limit_on_file_size_is_one_error(run_script):
    """The same for everybody: no root needed to run out of room."""
    _, message = run_script(
        "import json, resource\n"
        "from harness.errors import TargetError\n"
        "from harness.postgres.embedded import start_embedded\n"
        "from harness.settings import load_settings\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
        "try:\n"
        "    start_embedded(load_settings(environ={}), reason='for a test')\n"
        "except TargetError as error:\n"
        "    print(json.dumps(str(error)))\n"
    )
    assert "File too large" in message
    assert "TMPDIR" in message


@pytest.fixture
def bin_dir(embedded):
    """A copy of the programs that a test may replace, where everybody reads it."""
    programs = Path(postgres_of(embedded).exe()).parent
    tree = Path(tempfile.mkdtemp(prefix="programs-"))
    tree.chmod(0o755)
    for name in ("lib", "share", "bin"):
        shutil.copytree(programs.parent / name, tree / name, symlinks=True)
    shutil.move(tree / "bin/postgres", tree / "bin/real-postgres")
    launcher = tree / "bin/postgres"
    launcher.touch()
    launcher.chmod(0o755)
    yield tree / "bin"
    shutil.rmtree(tree, ignore_errors=True)


@pytest.fixture
def small_disk():
    """A file system of 8 MB; making one takes root."""
    folder = Path(tempfile.mkdtemp(prefix="small-"))
    folder.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=1777", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        folder.rmdir()
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()
