"""Prometheus text read by Prometheus' own parser, OpenTelemetry by its own SDK."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.semconv._incubating.metrics import db_metrics
from prometheus_client.parser import text_string_to_metric_families

from harness.lakebase.monitoring import telemetry
from harness.lakebase.monitoring.exposition import BUCKETS_S, cumulative
from harness.lakebase.monitoring.performance import PerformanceMonitor
from harness.lakebase.monitoring.telemetry import PoolTelemetry
from harness.load.histogram import LogLinearHistogram


def families_of(monitor):
    text = monitor.export_metrics("prometheus")
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples_of(family):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for sample in family.samples
    }


def test_prometheus_reads_the_figures_of_pool_and_operations(figures, clock):
    figures.now(in_use=3, idle=1, waiting=2)
    monitor = PerformanceMonitor(figures, clock=clock)
    figures.count(checkout_waits_ms=[0.3, 3, 30], checkout_timeouts_count=1)
    monitor.record_operation("read", 12.0)
    monitor.record_operation("read", 12.0, success=False, error_category="network")

    families = families_of(monitor)

    connections = samples_of(families["lakegauge_pool_connections"])
    pool = ("pool", "figures")
    assert connections["lakegauge_pool_connections", pool, ("state", "used")] == 3
    assert connections["lakegauge_pool_connections", pool, ("state", "idle")] == 1
    waits = samples_of(families["lakegauge_pool_checkout_wait_seconds"])
    name = "lakegauge_pool_checkout_wait_seconds"
    assert waits[f"{name}_count", pool] == 3
    assert waits[f"{name}_sum", pool] == pytest.approx(0.0333, rel=0.004)
    assert waits[f"{name}_bucket", ("le", "0.005"), pool] == 2
    timeouts = families["lakegauge_pool_checkout_timeouts"]
    assert timeouts.type == "counter"
    assert [sample.value for sample in timeouts.samples] == [1]
    failures = samples_of(families["lakegauge_operation_failures"])
    assert list(failures.values()) == [1]


def test_prometheus_says_nothing_of_what_an_engine_does_not_tell(figures, clock):
    figures.now(waiting=None)

    families = families_of(PerformanceMonitor(figures, clock=clock))

    assert "lakegauge_pool_callers_waiting" not in families


def test_a_name_that_is_no_label_cannot_break_the_text(clock):
    monitor = PerformanceMonitor(clock=clock)
    name = 'read"} 1\n# TYPE evil counter\nevil{x="\\'
    monitor.record_operation(name, 1.0)

    families = families_of(monitor)

    assert families.keys() == {
        "lakegauge_operation_duration_seconds",
        "lakegauge_operation_failures",
    }
    samples = families["lakegauge_operation_duration_seconds"].samples
    assert {sample.labels["operation"] for sample in samples} == {name}


def test_cumulative_counts_are_those_of_the_values():
    values_s = np.random.default_rng(2).lognormal(-5, 2, 20_000)
    histogram = LogLinearHistogram.of((values_s * 1e9).astype(np.int64))

    counts = dict(cumulative(histogram, BUCKETS_S))

    for bound in BUCKETS_S:
        low = np.count_nonzero(values_s <= bound * (1 - 1 / 128))
        assert low <= counts[f"{bound:g}"] <= np.count_nonzero(values_s <= bound)
    assert counts["+Inf"] == 20_000


@pytest.fixture
def reader():
    reader = InMemoryMetricReader()
    yield reader
    reader.shutdown()


def published(pool, reader, *, act):
    provider = MeterProvider([reader])
    exported = PoolTelemetry(pool, meter=provider.get_meter("test"))
    act()
    exported.publish()
    data = reader.get_metrics_data()
    return {
        metric.name: metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_opentelemetry_gets_the_names_units_and_values_of_its_conventions(
    figures, reader
):
    figures.now(in_use=3, idle=1, waiting=2)

    metrics = published(
        figures,
        reader,
        act=lambda: figures.count(
            checkout_waits_ms=[1, 2, 300], checkout_timeouts_count=4
        ),
    )

    conventions = {
        value
        for name, value in vars(db_metrics).items()
        if name.startswith("DB_CLIENT_CONNECTION_") and isinstance(value, str)
    }
    assert conventions - metrics.keys() == {
        # No value yet, so the SDK has nothing to say of them.
        "db.client.connection.create_time",
        "db.client.connection.use_time",
    }
    count = metrics["db.client.connection.count"]
    assert count.unit == "{connection}"
    assert {
        (p.attributes["db.client.connection.state"], p.value)
        for p in count.data.data_points
    } == {("used", 3), ("idle", 1)}
    (wait,) = metrics["db.client.connection.wait_time"].data.data_points
    assert metrics["db.client.connection.wait_time"].unit == "s"
    assert (wait.count, wait.max) == (3, pytest.approx(0.3, rel=0.004))
    assert wait.attributes == {"db.client.connection.pool.name": "figures"}
    values = {
        "max": 10,
        "idle.min": 4,
        "pending_requests": 2,
        "timeouts": 4,
    }
    for name, value in values.items():
        (point,) = metrics[f"db.client.connection.{name}"].data.data_points
        assert point.value == value, name


def test_opentelemetry_gets_each_duration_once(figures, reader):
    provider = MeterProvider([reader])
    exported = PoolTelemetry(figures, meter=provider.get_meter("test"))
    for _ in range(3):
        figures.count(checkout_waits_ms=[1, 1, 1])
        exported.publish()
        exported.publish()

    data = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics

    (wait,) = (m for m in data if m.name == "db.client.connection.wait_time")
    assert wait.data.data_points[0].count == 9


def test_durations_beyond_what_is_handed_over_are_counted(figures, reader, monkeypatch):
    monkeypatch.setattr(telemetry, "VALUES_MAX", 100)

    metrics = published(
        figures,
        reader,
        act=lambda: figures.count(checkout_waits_ms=[1] * 900 + [100] * 100),
    )

    (wait,) = metrics["db.client.connection.wait_time"].data.data_points
    (left_out,) = metrics["lakegauge.telemetry.values_left_out"].data.data_points
    assert wait.count == 100
    assert left_out.value == 900
    # Thinned at random, not cut off: about a tenth are slow.
    assert 0.001 < wait.sum / wait.count < 0.1
    assert math.isclose(wait.max, 0.1, rel_tol=0.004)


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("prometheus_client", "monitor.export_metrics('prometheus')", "monitor"),
        ("opentelemetry", "telemetry._global_meter()", "otel"),
    ],
)
def test_a_missing_library_is_named_with_what_to_install(module, call, extra):
    script = f"""
import sys
sys.modules[{module!r}] = None
from harness.errors import ConfigError
from harness.lakebase.monitoring import telemetry
from harness.lakebase.monitoring.performance import PerformanceMonitor
monitor = PerformanceMonitor()
try:
    {call}
except ConfigError as error:
    print(error)
"""
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout

    assert f"pip install 'lakegauge[{extra}]'" in shown
