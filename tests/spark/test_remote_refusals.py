"""Spark Connect servers, and Databricks Connect, that refuse to be used."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

pytest.importorskip("grpc", reason="the extra `spark` brings grpcio")

# In a process of its own: one that has a regular session cannot have a remote one.
SCRIPT = """
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from harness import HarnessError
from harness.spark.remote import remote_session


class Refusing(grpc.GenericRpcHandler):
    def service(self, details):
        sent = dict(details.invocation_metadata).get("authorization", "nothing")

        def refuse(_request, context):
            code = grpc.StatusCode[sys.argv[2]]
            context.abort(code, f"not for {sent}")

        return grpc.unary_unary_rpc_method_handler(refuse)


server = grpc.server(ThreadPoolExecutor(2), handlers=[Refusing()])
port = server.add_secure_port("localhost:0", grpc.local_server_credentials())
server.start()
try:
    with remote_session(sys.argv[1].replace("PORT", str(port))):
        print("connected")
except HarnessError as error:
    print(type(error).__name__, error, "cause:", error.__cause__)
server.stop(None).wait()
"""


def refused(address, code="UNAUTHENTICATED"):
    """Ask for a session; return what the error says, once the process has ended."""
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, address, code],
        check=False,
        capture_output=True,
        text=True,
        # The client retries for ten minutes at exit, unless it was closed.
        timeout=240,
    )
    assert answer.returncode == 0, answer.stderr
    assert "canary" not in answer.stdout + answer.stderr
    return answer.stdout


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_token_that_is_refused_is_told_without_the_token(code):
    """The server says the token back; the client ends with the refusal."""
    said = refused("sc://localhost:PORT/;token=canary%2Dtoken", code)

    assert said.startswith("SparkError spark.remote (LAKEGAUGE_SPARK_REMOTE or")
    assert f"{code}: not for Bearer ***" in said
    assert said.rstrip().endswith("cause: None")


@pytest.mark.skipif(
    importlib.util.find_spec("databricks") is not None
    and importlib.util.find_spec("databricks.connect") is not None,
    reason="databricks-connect is installed here, in the place of pyspark",
)
def test_databricks_connect_that_is_not_installed_is_told_with_the_setting():
    said = refused("databricks")

    assert said.startswith("ConfigError spark.remote (LAKEGAUGE_SPARK_REMOTE or")
    assert "databricks-connect is not installed" in said
