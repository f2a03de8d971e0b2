"""Delta's jars: a folder of the user's, the checked cache, or Spark's resolver."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError, SparkError
from harness.spark.cache import cache_folder, write_atomically
from harness.spark.resolver import artifact_of, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness.spark.java import Java

SETTING = "spark.delta_jars (LAKEGAUGE_SPARK_DELTA_JARS or --delta-jars)"
SCALA = "2.13"
SUMS_NAME = "SHA256SUMS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Versions:
    """The pair that must match: Delta is built against one minor of Spark."""

    spark: str
    delta: str

    @property
    def spark_minor(self) -> str:
        """Such as "4.2", as it stands in the artifact's name."""
        return ".".join(self.spark.split(".")[:2])

    @property
    def artifact(self) -> str:
        """The artifact that pulls in all others."""
        return f"delta-spark_{self.spark_minor}_{SCALA}"

    @property
    def coordinate(self) -> str:
        """What Spark's resolver is asked for."""
        return f"io.delta:{self.artifact}:{self.delta}"

    @property
    def folder_name(self) -> str:
        """Name of the folder in the cache."""
        return f"delta-{self.delta}-spark-{self.spark_minor}"

    @property
    def needed(self) -> tuple[str, ...]:
        """Jars without which Delta does not load; the rest comes along."""
        return tuple(
            f"{artifact}-{self.delta}.jar"
            for artifact in (
                self.artifact,
                "delta-storage",
                "delta-kernel-api",
                "delta-kernel-defaults",
                "delta-kernel-unitycatalog",
            )
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaJars:
    """Jars to start Spark with.

    Attributes:
        paths: The jars, without those Spark brings itself.
        version: Version of Delta.
        found: Where they came from, for the header.
    """

    paths: tuple[Path, ...]
    version: str
    found: str


def installed_versions() -> Versions:
    """Return the versions of Spark and Delta in this environment.

    Raises:
        SparkError: If one of them is not installed.
    """
    try:
        return Versions(spark=version("pyspark"), delta=version("delta-spark"))
    except PackageNotFoundError as error:
        msg = f"{error.name} is not installed; run `pip install 'lakegauge[spark]'`"
        raise SparkError(msg) from error


def find_jars(
    *,
    java: Java,
    folder: Path | None = None,
    cache: Path | None = None,
    ivy_settings: Path | None = None,
    versions: Versions | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> DeltaJars:
    """Return Delta's jars, fetching them once if they are nowhere yet.

    Args:
        java: The Java that runs the resolver.
        folder: The user's own folder of jars; nothing else is tried then.
        cache: Folder that holds one folder for each pair of versions.
        ivy_settings: Ivy settings file for a repository of one's own.
        versions: The pair wanted; default what is installed.
        tell: Called with a line of progress now and then.

    Raises:
        ConfigError: If *folder* is missing, incomplete or damaged.
        SparkError: If the jars are not cached and cannot be fetched.
    """
    versions = versions or installed_versions()
    if folder is not None:
        jars = _from_folder(folder, versions)
        return DeltaJars(paths=jars, version=versions.delta, found=f"{folder}")

    home = (cache or cache_folder() / "jars") / versions.folder_name
    reason = _damage(home, versions)
    if reason is None:
        return DeltaJars(paths=_jars_in(home), version=versions.delta, found="cache")
    if home.exists():
        tell(f"the cache is fetched again: {reason}")
    _fill(home, versions, java=java, ivy_settings=ivy_settings, tell=tell)
    return DeltaJars(
        paths=_jars_in(home), version=versions.delta, found="Spark's resolver"
    )


def _from_folder(folder: Path, versions: Versions) -> tuple[Path, ...]:
    if not folder.is_dir():
        msg = f"{SETTING}: {folder} is not a folder; give the folder of Delta's jars"
        raise ConfigError(msg)
    jars = _jars_in(folder)
    missing = _missing(jars, versions)
    if missing:
        present = ", ".join(j.name for j in jars if "delta" in j.name) or "none"
        msg = (
            f"{SETTING}: {folder} lacks {', '.join(missing)} (Delta's jars there: "
            f"{present}); copy {versions.coordinate} and its dependencies there"
        )
        raise ConfigError(msg)
    damaged = [jar.name for jar in jars if not zipfile.is_zipfile(jar)]
    if damaged:
        msg = f"{SETTING}: in {folder}, not a whole jar: {', '.join(damaged)}"
        raise ConfigError(msg)
    return _not_in_spark(jars)


def _damage(home: Path, versions: Versions) -> str | None:
    """Return why the cached jars cannot be used, or None if they can."""
    sums = home / SUMS_NAME
    if not sums.is_file():
        return f"{home} holds no {SUMS_NAME}"
    recorded = {
        name: digest
        for digest, _, name in (
            line.partition("  ") for line in sums.read_text().splitlines()
        )
    }
    for name, digest in recorded.items():
        jar = home / name
        if not jar.is_file():
            return f"{jar} is missing"
        if _digest(jar) != digest:
            return f"{jar} does not match its checksum"
    missing = _missing(_jars_in(home), versions)
    return f"{home} lacks {', '.join(missing)}" if missing else None


def _fill(
    home: Path,
    versions: Versions,
    *,
    java: Java,
    ivy_settings: Path | None,
    tell: Callable[[str], None],
) -> None:
    """Fetch into a folder beside the cache and move it there when it is whole."""
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
    except OSError as error:
        msg = f"cannot write to the cache of Delta's jars, {home.parent}: {error}"
        raise SparkError(msg) from error
    try:
        tell(f"fetching {versions.coordinate} through Spark's resolver")
        fetched = resolve(
            versions.coordinate,
            java=java,
            folder=work / "ivy",
            log=home.parent / "resolver.log",
            ivy_settings=ivy_settings,
            setting=SETTING,
            tell=tell,
        )
        whole = work / home.name
        whole.mkdir()
        for jar in _not_in_spark(fetched):
            shutil.copyfile(jar, whole / jar.name)
        missing = _missing(_jars_in(whole), versions)
        if missing:
            msg = f"{versions.coordinate} came without {', '.join(missing)}"
            raise SparkError(msg)
        sums = "".join(f"{_digest(j)}  {j.name}\n" for j in _jars_in(whole))
        write_atomically(whole / SUMS_NAME, sums.encode(), mode=0o644)
        if home.exists():
            home.rename(work / "damaged")
        try:
            whole.rename(home)
        except OSError:
            # Another process was first: then its jars must be whole.
            if _damage(home, versions) is not None:
                raise
    except OSError as error:
        msg = f"cannot fill the cache of Delta's jars, {home}: {error}"
        raise SparkError(msg) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _jars_in(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.jar")))


def _missing(jars: Iterable[Path], versions: Versions) -> list[str]:
    # Spark's resolver puts the group before the name, Maven does not.
    names = [jar.name for jar in jars]
    return [
        needed
        for needed in versions.needed
        if not any(n == needed or n.endswith(f"_{needed}") for n in names)
    ]


def _not_in_spark(jars: Iterable[Path]) -> tuple[Path, ...]:
    """Leave out what Spark brings: its own would win, and each start copies them."""
    import pyspark

    own = {
        artifact_of(jar) for jar in (Path(pyspark.__file__).parent / "jars").iterdir()
    }
    return tuple(jar for jar in jars if artifact_of(jar) not in own)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Fetch the jars if they are not there yet; 1 if they cannot be had."""
    from harness.errors import HarnessError
    from harness.settings import load_settings
    from harness.spark.java import find_java

    def tell(line: str) -> None:
        sys.stderr.write(f"  {line}\n")
        sys.stderr.flush()

    try:
        spark = load_settings().spark
        jars = find_jars(
            java=find_java(),
            folder=spark.delta_jars,
            cache=spark.ivy_cache,
            ivy_settings=spark.ivy_settings,
            tell=tell,
        )
    except HarnessError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    size_mb = sum(jar.stat().st_size for jar in jars.paths) / 1e6
    sys.stdout.write(
        f"Delta {jars.version}: {len(jars.paths)} jars, {size_mb:.0f} MB "
        f"({jars.found}), in {jars.paths[0].parent}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
