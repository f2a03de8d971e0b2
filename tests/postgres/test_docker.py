"""Postgres in a container; `LAKEGAUGE_POSTGRES_IMAGE` may name a local image."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from harness.errors import TargetError
from harness.postgres.connect import connect
from harness.postgres.docker import start_docker
from harness.postgres.engine import engine_environment, find_engine
from harness.postgres.targets import start
from harness.settings import load_settings

pytestmark = pytest.mark.docker


def docker(*arguments):
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=True
    ).stdout


def containers():
    return set(docker("ps", "--all", "--quiet", "--filter", "name=lakegauge-").split())


@pytest.fixture(scope="module")
def settings():
    return load_settings({"--target": "docker"})


@pytest.fixture(scope="module")
def server(settings):
    server = start_docker(settings, reason="for a test")
    yield server
    server.close()


@pytest.fixture
def container(server):
    name = server._container.get_wrapped_container().name
    return json.loads(docker("inspect", name))[0]


def test_engine_answers():
    assert find_engine(engine_environment()).url


def test_connections_are_encrypted(server):
    assert server.info.tls in {"TLSv1.2", "TLSv1.3"}
    assert server.connect_arguments()["sslmode"] == "verify-ca"
    with connect(server.connect_arguments()) as connection:
        (fsync,) = connection.execute("SHOW fsync").fetchone()
    assert fsync == "on"
    assert server.info.max_connections == 400


def test_password_is_not_shown_by_the_engine(server, container):
    assert server.connect_arguments()["password"] not in json.dumps(container)


def test_port_is_open_to_this_machine_only(container):
    (binding,) = container["NetworkSettings"]["Ports"]["5432/tcp"]
    assert binding["HostIp"] == "127.0.0.1"


def test_container_and_its_volume_are_removed_at_the_end(settings):
    own = start_docker(settings, reason="for a test")
    identity = own._container.get_container_id()[:12]
    assert identity in containers()
    mounts = json.loads(docker("inspect", identity))[0]["Mounts"]
    volumes = {mount["Name"] for mount in mounts}
    assert volumes
    own.close()
    own.close()
    assert identity not in containers()
    assert not volumes & set(docker("volume", "ls", "--quiet").split())


def test_container_is_removed_when_our_process_is_killed(run_script, eventually):
    process, identity = run_script(
        "import json, signal\n"
        "from harness.postgres.docker import start_docker\n"
        "from harness.settings import load_settings\n"
        "server = start_docker(\n"
        "    load_settings({'--target': 'docker'}), reason='for a test'\n"
        ")\n"
        "print(json.dumps(server._container.get_container_id()[:12]), flush=True)\n"
        "signal.pause()\n"
    )
    assert identity in containers()
    process.send_signal(signal.SIGKILL)
    eventually(lambda: identity not in containers(), what="container removed")


def test_container_that_ends_at_once_is_quoted_and_removed(make_settings, settings):
    """An image whose command fails says so in its last line."""
    image = settings.target.postgres_image
    broken = "lakegauge/broken:test"
    dockerfile = (
        f'FROM {image}\nENTRYPOINT ["sh", "-c", "echo no moon today; exit 3"]\n'
    )
    subprocess.run(
        ["docker", "build", "-q", "-t", broken, "-"],
        input=dockerfile,
        text=True,
        check=True,
        capture_output=True,
    )
    try:
        with pytest.raises(TargetError, match="ended: no moon today"):
            start(
                make_settings({"--target": "docker"}, LAKEGAUGE_POSTGRES_IMAGE=broken)
            )
        assert not docker("ps", "--all", "--quiet", "--filter", f"ancestor={broken}")
    finally:
        docker("image", "rm", broken)


def test_image_that_cannot_be_pulled_is_an_error_by_name(make_settings):
    told = []
    name = "localhost:1/no/such-image:1"
    settings = make_settings({"--target": "docker"}, LAKEGAUGE_POSTGRES_IMAGE=name)
    with pytest.raises(TargetError, match=r"cannot pull .*LAKEGAUGE_POSTGRES_IMAGE"):
        start(settings, notify=told.append)
    assert told == [f"pulling {name}, for at most 120 s"]


def test_image_that_cannot_be_pulled_is_a_warning_under_auto(make_settings):
    settings = make_settings(LAKEGAUGE_POSTGRES_IMAGE="localhost:1/no/such-image:1")
    server, warning = start(settings)
    server.close()
    assert server.info.target == "embedded"
    assert "cannot pull localhost:1/no/such-image:1" in warning
