from __future__ import annotations

import pytest

from harness import ConfigError
from harness.spark.backends import Capability, backend_of, connect_threads, needed_by


@pytest.mark.parametrize(
    ("settings", "name", "lacks"),
    [
        ({"master": "local[*]"}, "LocalClassic", {"pipelines"}),
        ({"master": "local[2]"}, "LocalClassic", {"pipelines"}),
        ({"master": "connect[2]"}, "LocalConnect", {"plans"}),
        ({"master": "local-cluster[2,1,1024]"}, "LocalCluster", {"kills", "pipelines"}),
        (
            {"master": "spark://host:7077"},
            "Cluster",
            {"cpu", "kills", "files", "pipelines"},
        ),
        ({"remote": "sc://h:1"}, "Remote", {"plans", "cpu", "kills", "files"}),
        (
            {"remote": "sc://h:1", "has_storage": True},
            "Remote",
            {"plans", "cpu", "kills"},
        ),
        ({"remote": "databricks"}, "DatabricksConnect", set(Capability)),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_each_kind_of_spark_says_what_it_lacks(settings, name, lacks):
    backend = backend_of(
        **{"master": "local[*]", "remote": None, "has_storage": False} | settings
    )

    assert backend.name == name
    assert {c for c in Capability if backend.missing({c})} == lacks


def test_reason_of_a_skip_names_backend_capability_and_remedy():
    backend = backend_of(master="local", remote="sc://h:1", has_storage=False)

    reason = backend.missing({Capability.FILES, Capability.PLANS})

    assert "Remote lacks files" in reason
    assert "LAKEGAUGE_SPARK_STORAGE" in reason
    assert "plans (executed plans" in reason


def test_capability_that_does_not_exist_is_refused():
    with pytest.raises(
        ConfigError, match=r"'wings'.*there are plans, cpu, kills, files"
    ):
        needed_by(("plans", "wings"))


@pytest.mark.parametrize(
    ("master", "found"),
    [("connect", "*"), ("connect[*]", "*"), ("connect[3]", "3"), ("local[2]", None)],
)
def test_master_connect_is_a_server_of_our_own(master, found):
    assert connect_threads(master) == found
