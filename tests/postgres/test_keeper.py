"""However our process ends, no server, keeper or folder is left behind."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from harness.errors import TargetError
from harness.postgres.keeper import Keeper

# A run that has started its server and says where.
START = """
import json, os, signal
from harness.postgres import embedded
from harness.settings import load_settings

server = embedded.start_embedded(
    load_settings({"--target": "embedded"}), reason="for a test"
)
folder = os.path.dirname(server.connect_arguments()["sslrootcert"])
with open(folder + "/data/postmaster.pid") as file:
    postgres = int(file.readline())
"""
TELL = """
print(json.dumps([server._keeper.pid, postgres, folder]), flush=True)
"""
RUN = START + TELL
WAIT = "signal.pause()"
# A child that was forked and keeps every pipe of its parent open.
FORK = "os.fork() or signal.pause()"
# Killed while initdb is still writing.
DURING_INITDB = """
import json, os, threading
from harness.postgres import embedded, keeper
from harness.settings import load_settings

class Told(keeper.Keeper):
    def run(self, argv, **rest):
        folder = next(a for a in argv if a.startswith("--pgdata=")).split("=")[1]
        def tell():
            while not os.path.exists(folder + "/base"):
                pass
            print(json.dumps([self.pid, self.pid, os.path.dirname(folder)]), flush=True)
        threading.Thread(target=tell).start()
        return super().run(argv, **rest)

embedded.Keeper = Told
embedded.start_embedded(load_settings({"--target": "embedded"}), reason="for a test")
"""


@pytest.mark.parametrize(
    ("script", "number"),
    [
        pytest.param(RUN + WAIT, signal.SIGKILL, id="killed"),
        pytest.param(RUN + WAIT, signal.SIGTERM, id="terminated"),
        pytest.param(
            START + FORK + TELL + WAIT, signal.SIGKILL, id="killed-with-a-forked-child"
        ),
        pytest.param(RUN + "raise SystemError", 0, id="crashed"),
        pytest.param(DURING_INITDB, signal.SIGKILL, id="killed-during-initdb"),
    ],
)
def test_nothing_is_left_when_our_process_ends(
    script, number, run_script, is_running, eventually
):
    process, (keeper, postgres, folder) = run_script(script)
    if number:
        process.send_signal(number)
    process.wait()
    eventually(lambda: not is_running(postgres), what="server stopped")
    eventually(lambda: not is_running(keeper), what="keeper ended")
    assert not Path(folder).exists()
    if FORK in script:
        os.killpg(process.pid, signal.SIGKILL)


def test_nothing_is_left_after_ctrl_c(run_script, is_running):
    """The terminal sends it to every process of the group; ours cleans up first."""
    tell = textwrap.indent(TELL + WAIT, " ")
    script = START + f"try:\n{tell}\nfinally:\n server.close()"
    process, (keeper, postgres, folder) = run_script(script)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert "KeyboardInterrupt" in errors
    assert not is_running(postgres)
    assert not is_running(keeper)
    assert not Path(folder).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_server_does_not_outlive_its_keeper(start_own, is_running, eventually):
    server = start_own()
    folder = Path(server.connect_arguments()["sslrootcert"]).parent
    postgres = int((folder / "data/postmaster.pid").read_text().split()[0])
    psutil.Process(server._keeper.pid).kill()
    eventually(lambda: not is_running(postgres), what="server stopped")
    server.close()
    assert not folder.exists()


def test_a_keeper_that_is_gone_is_said():
    keeper = Keeper({})
    psutil.Process(keeper.pid).kill()
    with pytest.raises(TargetError, match=r"keeper .* is gone"):
        keeper.returncode()
    keeper.close()


def test_close_twice_ends_the_keeper_once(is_running, tmp_path):
    keeper = Keeper({})
    folder = keeper.make_folder(str(tmp_path), "kept-")
    (folder / "file").touch()
    keeper.close()
    keeper.close()
    assert not folder.exists()
    assert not is_running(keeper.pid)


def test_a_forked_child_does_not_stop_the_server_of_its_parent(embedded):
    pid = os.fork()
    if pid == 0:
        try:
            embedded.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert embedded._keeper.returncode() is None
