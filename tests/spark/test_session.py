from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness import ConfigError, SparkError
from harness.spark import python_daemon
from harness.spark.jars import DeltaJars
from harness.spark.java import Java
from harness.spark.remote import check_remote
from harness.spark.session import local_session


def test_address_where_nothing_listens_fails_at_once_without_its_token():
    """pyspark itself would go on trying for ten minutes."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, but not listening
        port = bound.getsockname()[1]
        with pytest.raises(SparkError) as caught:
            check_remote(f"sc://127.0.0.1:{port}/;token=canary")

    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "LAKEGAUGE_SPARK_REMOTE" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("address", ["local[2]", "http://host", "sc://", "sc://h:x"])
def test_remote_that_is_no_connect_address_is_refused(address):
    with pytest.raises(ConfigError, match="must be sc://host:port"):
        check_remote(address)


@pytest.mark.spark
def test_session_writes_delta_and_reads_it_back(spark, tmp_path):
    path = (tmp_path / "table").as_uri()

    spark.range(7).write.format("delta").save(path)

    assert spark.read.format("delta").load(path).count() == 7


@pytest.mark.spark
def test_short_run_compiles_no_plan_and_renames_without_other_processes(
    spark, tmp_path
):
    """This session measures nothing to be compared, so it is one.

    A misspelt setting would be ignored, and only be felt as time.
    """
    frame = spark.range(7).selectExpr("id % 2 AS k").groupBy("k").count()
    plan = frame._jdf.queryExecution().executedPlan().toString()
    path = tmp_path / "table"
    frame.write.format("delta").save(path.as_uri())
    log = spark._jvm.org.apache.spark.sql.delta.DeltaLog.forTable(
        spark._jsparkSession, path.as_uri()
    )
    store = log.store().getDelegate(spark._jvm.org.apache.hadoop.fs.Path("file:/"))

    assert "HashAggregate" in plan
    assert "*(" not in plan, "a star marks what is compiled as one stage"
    assert "AdaptiveSparkPlan" not in plan
    assert store.logStoreImpl().getClass().getSimpleName() == "LocalLogStore"


@pytest.mark.spark
def test_python_workers_run_in_this_environment(spark):
    """By default Spark takes the `python3` on PATH, which lacks our packages."""

    def executable(_rows):
        yield sys.executable

    found = spark.sparkContext.parallelize([0], 1).mapPartitions(executable).collect()

    assert found == [sys.executable]


@pytest.mark.spark
@pytest.mark.usefixtures("spark")
def test_second_session_in_one_process_is_refused():
    java = Java(home=Path("/nonexistent"), version="17", found="a test")
    jars = DeltaJars(paths=(), version="0", found="a test")

    with (
        pytest.raises(SparkError, match="runs a Spark session already"),
        local_session(java=java, jars=jars),
    ):
        pass


@pytest.mark.spark
def test_jvm_and_workers_hold_no_secret(tmp_path):
    """A session of its own: the environment is copied when the JVM starts."""
    script = tmp_path / "start.py"
    script.write_text("""
import os
from pathlib import Path
from harness.spark.jars import find_jars
from harness.spark.java import find_java
from harness.spark import python_daemon
from harness.spark.session import local_session

java = find_java()
with local_session(
    java=java, jars=find_jars(java=java), master="local[1]", driver_memory="1g"
) as running:
    session = running.session
    pid = session.sparkContext._gateway.proc.pid
    folder = session.conf.get("spark.sql.warehouse.dir").removeprefix("file:")
    print("jvm:", Path(f"/proc/{pid}/environ").read_bytes().count(b"canary"))
    print("argv:", Path(f"/proc/{pid}/cmdline").read_bytes().count(b"canary"))
    worker = lambda _rows: [sum("canary" in v for v in os.environ.values())]
    rdd = session.sparkContext.parallelize([0], 1)
    print("worker:", rdd.mapPartitions(worker).collect()[0])
    print("here:", sum("canary" in v for v in os.environ.values()))
print("jvm is gone:", not Path(f"/proc/{pid}").exists())
print("files are gone:", not Path(folder).parent.exists())
""")
    environment = os.environ | {
        "DATABRICKS_TOKEN": "canary-token",
        "PGPASSWORD": "canary-password",
        "SPARK_HOME": "/nonexistent",
    }

    answer = subprocess.run(
        [sys.executable, "-W", "error", script],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert answer.stdout.splitlines() == [
        "jvm: 0",
        "argv: 0",
        "worker: 0",
        "here: 2",
        "jvm is gone: True",
        "files are gone: True",
    ], answer.stderr
    assert answer.stderr == ""
    assert {path.name for path in tmp_path.iterdir()} == {"start.py"}


def test_python_workers_are_forked_with_their_libraries_in_them(spark):
    """A worker that has to import pandas first costs a second, and its memory."""
    import pyarrow as pa

    def look(batches):
        import psutil

        for _ in batches:
            daemon = psutil.Process(psutil.Process().ppid())
            yield pa.RecordBatch.from_pydict(
                {"module": [daemon.cmdline()[2]], "threads": [daemon.num_threads()]}
            )

    frame = spark.range(1).mapInArrow(look, "module STRING, threads BIGINT")

    assert [tuple(row) for row in frame.collect()] == [(python_daemon.MODULE, 1)]
