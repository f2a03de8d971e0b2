"""Every setting is layered by itself: the highest layer that sets it wins."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from harness import ConfigError
from harness.settings import load_settings
from harness.settings.catalogue import by_path

LAYERS = ("command line", "environment", ".env", "JSON file")

PRESETS = {"light": (5, 10), "heavy": (50, 100)}
SIZES = ("pool.pool_size", "pool.max_overflow")


def write_layers(folder, where, preset):
    """Give each setting in each of its layers another value; return the arguments."""
    given = {layer: {} for layer in LAYERS}
    for path, layers in where.items():
        for layer in layers:
            given[layer][path] = value_in(layer, path)
    environ = {
        by_path()[path].setting.env: str(value)
        for path, value in given["environment"].items()
    }
    if preset:
        environ["LAKEGAUGE_PRESET"] = preset
    lines = [f"{by_path()[p].setting.env}={v}" for p, v in given[".env"].items()]
    (folder / ".env").write_text("\n".join(lines))
    section = {path.split(".")[1]: v for path, v in given["JSON file"].items()}
    (folder / "lakegauge.json").write_text(json.dumps({"production_pool": section}))
    return given["command line"], environ


def value_in(layer, path):
    return 11 + 10 * LAYERS.index(layer) + SIZES.index(path)


LAYER_SETS = st.sets(st.sampled_from(LAYERS))


@given(
    where=st.fixed_dictionaries(dict.fromkeys(SIZES, LAYER_SETS)),
    preset=st.sampled_from([None, *PRESETS]),
)
@hypothesis_settings(deadline=None, max_examples=100)
def test_the_highest_layer_that_sets_a_value_wins(where, preset, tmp_path_factory):
    """For every subset of layers, per field, whatever its neighbour is set in."""
    folder = tmp_path_factory.mktemp("layers")
    overrides, environ = write_layers(folder, where, preset)

    loaded = load_settings(overrides, environ=environ, cwd=folder)

    for path, layers in where.items():
        winner = next((layer for layer in LAYERS if layer in layers), None)
        if winner:
            expected = value_in(winner, path), winner
        elif preset:
            expected = PRESETS[preset][SIZES.index(path)], "preset"
        else:
            expected = by_path()[path].default, "default"
        assert (loaded.value_of(path), loaded.source_of(path).layer) == expected


# What a person may write for each setting, and the value that is meant.
WRITTEN = {
    "security.plaintext_hosts": ("a.example,10.0.0.7", ("a.example", "10.0.0.7")),
    "target.target": ("docker", "docker"),
    "target.postgres_dsn": ("postgresql://h/d", "postgresql://h/d"),
    "target.docker_pull_timeout_s": ("7.5", 7.5),
    "pool.engine": ("queue", "queue"),
    "verdict.environment_guard": ("note", "note"),
    "benchmark.preset": ("light", "light"),
    "benchmark.thread_counts": ("10,20,40", (10, 20, 40)),
    "benchmark.table_name": ("a_table", "a_table"),
    "lakebase.token_ttl_s": ("300", 300),
    "lakebase.sslmode": ("verify-full", "verify-full"),
    "databricks.workspace_url": ("host.example.com", "https://host.example.com"),
    "agent.base_url": ("http://127.0.0.1:8080/x/", "http://127.0.0.1:8080/x"),
    "monitoring.log_level": ("debug", "DEBUG"),
    "monitoring.log_format": ("json", "json"),
    "spark.driver_memory": ("512m", "512m"),
}


def written(info):
    if info.path in WRITTEN:
        return WRITTEN[info.path]
    default = info.default
    if isinstance(default, bool):
        return str(not default).lower(), not default
    if isinstance(default, int):
        return "77", 77
    if isinstance(default, float):
        return "7.5", 7.5
    return "abc-value", "abc-value"


def plain(value):
    value = getattr(value, "get_secret_value", lambda: value)()
    return value if isinstance(value, (int, float, tuple)) else str(value)


VARIABLES = [
    pytest.param(info, name, id=f"{info.path}-{name}")
    for info in by_path().values()
    for name in (*info.variables, *info.setting.fallbacks)
]


@pytest.mark.parametrize(("info", "name"), VARIABLES)
def test_every_documented_variable_works(info, name, tmp_path):
    text, meant = written(info)

    loaded = load_settings(environ={name: text}, cwd=tmp_path, check=False)

    assert plain(loaded.value_of(info.path)) == meant
    assert loaded.source_of(info.path).name == name
    (tmp_path / ".env").write_text(f"# a comment\n\nexport {name}='{text}'\n")
    loaded = load_settings(environ={}, cwd=tmp_path, check=False)
    assert plain(loaded.value_of(info.path)) == meant
    assert loaded.source_of(info.path).line == 3


@pytest.mark.parametrize("info", by_path().values(), ids=list(by_path()))
def test_every_json_key_works(info, tmp_path):
    text, meant = written(info)
    for key in info.keys:
        document = {info.section: {key: text}}
        (tmp_path / "lakegauge.json").write_text(json.dumps(document))

        loaded = load_settings(environ={}, cwd=tmp_path, check=False)

        assert plain(loaded.value_of(info.path)) == meant
        assert loaded.source_of(info.path).name == f"{info.section}.{key}"


def test_lakebase_instance_name_variable_works(tmp_path):
    """The original read only a variable literally called NAME."""
    environ = {"LAKEBASE_INSTANCE_NAME": "mine", "NAME": "not this"}
    assert load_settings(environ=environ, cwd=tmp_path).lakebase.instance_name == "mine"


@pytest.mark.parametrize("text", ["10,20,40", "[10, 20, 40]", " 10 , 20,40 "])
def test_thread_counts_are_read_with_and_without_brackets(text, tmp_path):
    """The original raised on `10,20,40`, the form it documented."""
    loaded = load_settings(environ={"BENCHMARK_THREAD_COUNTS": text}, cwd=tmp_path)
    assert loaded.benchmark.thread_counts == (10, 20, 40)


def test_json_never_overrides_the_environment(tmp_path):
    """In the original it did, and one bad variable discarded the others."""
    document = {"production_pool": {"pool_size": 7}, "lakebase": {"name": "json"}}
    (tmp_path / "lakegauge.json").write_text(json.dumps(document))
    loaded = load_settings(environ={"DB_POOL_SIZE": "8"}, cwd=tmp_path)
    assert loaded.pool.pool_size == 8
    assert loaded.lakebase.instance_name == "json"


@pytest.mark.parametrize("name", ["HEALTH_CHECK_INTERVAL", "DB_HEALTH_CHECK_INTERVAL"])
def test_health_check_interval_works_under_both_names(name, tmp_path):
    loaded = load_settings(environ={name: "42"}, cwd=tmp_path)
    assert loaded.pool.health_check_interval == 42


def test_app_variables_are_read_after_ours(tmp_path):
    environ = {"PGHOST": "app", "LAKEBASE_HOST": "ours", "PGPORT": "6432"}
    loaded = load_settings(environ=environ, cwd=tmp_path)
    assert (loaded.lakebase.host, loaded.lakebase.port) == ("ours", 6432)


def test_an_empty_variable_is_not_set(tmp_path):
    (tmp_path / ".env").write_text("DB_POOL_SIZE=9\n")
    environ = {"DB_POOL_SIZE": "", "LAKEGAUGE_ENV_FILE": ""}
    assert load_settings(environ=environ, cwd=tmp_path).pool.pool_size == 9


@pytest.mark.parametrize(
    ("preset", "sizes"),
    [
        ("light", (5, 10, (10, 20, 40))),
        ("medium", (20, 30, (20, 40, 80, 100))),
        ("heavy", (50, 100, (50, 100, 200, 300))),
        ("stress", (100, 200, tuple(range(100, 1001, 100)))),
    ],
)
def test_presets_size_the_pool_and_the_threads(preset, sizes, tmp_path):
    for environ, overrides in (
        ({"LAKEGAUGE_PRESET": preset}, None),
        ({"LAKEGAUGE_PRESET": "light"}, {"--preset": preset}),
    ):
        loaded = load_settings(overrides, environ=environ, cwd=tmp_path)
        pool = loaded.pool
        found = (pool.pool_size, pool.max_overflow, loaded.benchmark.thread_counts)
        assert found == sizes
        assert str(loaded.source_of("pool.pool_size")) == f"preset {preset}"


def test_a_dsn_without_password_is_short_for_target_dsn(tmp_path):
    override = {"--target": "postgresql://me@host:5433/db?sslmode=require"}
    loaded = load_settings(override, environ={}, cwd=tmp_path)
    assert loaded.target.target == "dsn"
    assert loaded.target.postgres_dsn.get_secret_value() == override["--target"]


def test_settings_are_frozen(tmp_path):
    loaded = load_settings(environ={}, cwd=tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        loaded.pool = None
    with pytest.raises(ValueError, match="frozen"):
        loaded.pool.pool_size = 1


def test_source_of_an_unknown_setting_is_a_key_error(tmp_path):
    with pytest.raises(KeyError, match=r"pool\.size"):
        load_settings(environ={}, cwd=tmp_path).source_of("pool.size")


def test_default_environment_is_that_of_the_process(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DB_POOL_SIZE", "13")
    assert load_settings().pool.pool_size == 13
    monkeypatch.setenv("DB_POOL_SIZE", "none")
    with pytest.raises(ConfigError, match="DB_POOL_SIZE"):
        load_settings()
