from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from harness import ConfigError, SparkError
from harness.settings import child_environment
from harness.spark import jars as jars_module
from harness.spark.jars import SUMS_NAME, Versions, find_jars
from harness.spark.java import Java
from harness.spark.resolver import artifact_of

VERSIONS = Versions(spark="4.2.0", delta="9.9.9")
NO_JAVA = Java(home=Path("/nonexistent"), version="17", found="a test")


def write_jars(folder, *, prefix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*VERSIONS.needed, "unitycatalog-client-0.6.0.jar"):
        with zipfile.ZipFile(folder / f"{prefix}{name}", "w") as jar:
            jar.writestr("name", name)
    return folder


@pytest.fixture
def resolver(monkeypatch):
    """Stand in for the network: counts its calls and delivers tiny jars."""

    class Resolver:
        calls = 0
        offline = False

        def __call__(self, coordinate, *, folder, **_):
            self.calls += 1
            if self.offline:
                msg = f"{coordinate}: no network"
                raise SparkError(msg)
            write_jars(folder / "jars", prefix="io.delta_")
            return tuple((folder / "jars").glob("*.jar"))

    stand_in = Resolver()
    monkeypatch.setattr(jars_module, "resolve", stand_in)
    return stand_in


def find(cache, **options):
    return find_jars(java=NO_JAVA, cache=cache, versions=VERSIONS, **options)


@pytest.mark.parametrize(
    ("name", "artifact"),
    [
        ("io.delta_delta-spark_4.2_2.13-4.4.0.jar", "delta-spark_4.2_2.13"),
        ("delta-spark_4.2_2.13-4.4.0.jar", "delta-spark_4.2_2.13"),
        ("org.slf4j_slf4j-api-2.0.13.jar", "slf4j-api"),
        ("scala-library-2.13.17.jar", "scala-library"),
        ("commons-pool_commons-pool-1.6.jar", "commons-pool_commons-pool"),
    ],
)
def test_artifact_is_told_from_group_and_version(name, artifact):
    assert artifact_of(Path(name)) == artifact


def test_folder_of_the_user_is_used_and_nothing_else_is_tried(tmp_path, resolver):
    folder = write_jars(tmp_path / "jars")

    found = find(tmp_path / "cache", folder=folder)

    assert {path.parent for path in found.paths} == {folder}
    assert found.found == str(folder)
    assert resolver.calls == 0


def test_missing_folder_names_the_setting_and_the_folder(tmp_path, resolver):
    with pytest.raises(ConfigError) as caught:
        find(tmp_path, folder=tmp_path / "gone")

    message = str(caught.value)
    assert "spark.delta_jars" in message
    assert "LAKEGAUGE_SPARK_DELTA_JARS" in message
    assert str(tmp_path / "gone") in message
    assert resolver.calls == 0


def test_incomplete_folder_names_the_missing_jar(tmp_path):
    folder = write_jars(tmp_path / "jars")
    (folder / "delta-storage-9.9.9.jar").unlink()

    with pytest.raises(ConfigError, match=r"lacks delta-storage-9\.9\.9\.jar"):
        find(tmp_path, folder=folder)


def test_folder_with_jars_of_another_version_is_refused_by_name(tmp_path):
    folder = write_jars(tmp_path / "jars")
    wanted = folder / "delta-storage-9.9.9.jar"
    wanted.rename(folder / "delta-storage-9.9.8.jar")

    with pytest.raises(ConfigError) as caught:
        find(tmp_path, folder=folder)

    assert "delta-storage-9.9.9.jar" in str(caught.value)
    assert "delta-storage-9.9.8.jar" in str(caught.value)


def test_truncated_jar_in_the_folder_is_named(tmp_path):
    folder = write_jars(tmp_path / "jars")
    (folder / "delta-kernel-api-9.9.9.jar").write_bytes(b"PK\x03\x04 cut off")

    with pytest.raises(ConfigError, match=r"not a whole jar: delta-kernel-api-9"):
        find(tmp_path, folder=folder)


def test_second_run_takes_the_cache_and_asks_nobody(tmp_path, resolver):
    first = find(tmp_path)
    resolver.offline = True
    second = find(tmp_path)

    assert (first.found, second.found) == ("Spark's resolver", "cache")
    assert first.paths == second.paths
    assert resolver.calls == 1


def test_jar_that_was_changed_in_the_cache_is_fetched_again(tmp_path, resolver):
    jar = find(tmp_path).paths[0]
    good = jar.read_bytes()
    jar.write_bytes(b"something else")
    told = []

    found = find(tmp_path, tell=told.append)

    assert resolver.calls == 2
    assert found.paths[0].read_bytes() == good
    assert any(f"{jar} does not match its checksum" in line for line in told)


@pytest.mark.parametrize("lost", ["jar", "checksums"])
def test_incomplete_cache_is_fetched_again(tmp_path, resolver, lost):
    jar = find(tmp_path).paths[0]
    (jar if lost == "jar" else jar.parent / SUMS_NAME).unlink()

    found = find(tmp_path)

    assert resolver.calls == 2
    assert all(path.is_file() for path in found.paths)


def test_failed_fetch_leaves_no_half_filled_cache(tmp_path, resolver):
    resolver.offline = True

    with pytest.raises(SparkError, match="no network"):
        find(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_jars_that_spark_brings_are_left_out(tmp_path):
    folder = write_jars(tmp_path / "jars")
    with zipfile.ZipFile(folder / "jackson-core-2.13.5.jar", "w") as jar:
        jar.writestr("name", "an older one than Spark's")

    found = find(tmp_path, folder=folder)

    assert "jackson-core-2.13.5.jar" not in {path.name for path in found.paths}


def test_cache_that_cannot_be_written_is_one_clear_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")

    with pytest.raises(SparkError, match="cannot write to the cache"):
        find(blocked / "jars")


@pytest.mark.spark
def test_resolver_without_a_network_says_so_and_what_to_do(tmp_path):
    """Spark's real resolver, pointed at a repository that does not exist."""
    from harness.spark.java import find_java

    settings = tmp_path / "ivysettings.xml"
    settings.write_text(
        '<ivysettings><settings defaultResolver="none"/><resolvers>'
        f'<filesystem name="none" m2compatible="true"><artifact pattern="{tmp_path}'
        '/none/[artifact].[ext]"/></filesystem></resolvers></ivysettings>'
    )

    with pytest.raises(SparkError) as caught:
        find_jars(
            java=find_java(environ=child_environment()),
            cache=tmp_path / "cache",
            versions=VERSIONS,
            ivy_settings=settings,
        )

    message = str(caught.value)
    assert "io.delta:delta-spark_4.2_2.13:9.9.9" in message
    assert "-m harness.spark.jars" in message
    assert "LAKEGAUGE_SPARK_DELTA_JARS" in message
    log = Path(message.rpartition("log: ")[2])
    assert "UNRESOLVED DEPENDENCIES" in log.read_text()
