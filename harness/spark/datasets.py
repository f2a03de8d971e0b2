"""The data sets streams are fed with: sensors, orders, ads, energy, customers, changes.

Each is a few columns computed from the row's place; see `harness.spark.feed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.spark.noise import Keys, UniformKeys, bits

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from harness.spark.feed import Rows

CITIES = ("Lima", "Oslo", "Rome", "Kyoto", "Accra", "Quito", "Turku", "Bergen")
STATUSES = ("new", "paid", "shipped", "returned")
METHODS = ("card", "transfer", "invoice")
_THOUSAND = UniformKeys(1000)
_CUSTOMERS = UniformKeys(10_000)
_ADS = UniformKeys(100)
_METERS = UniformKeys(5000)
INSERTS_SHARE = 0.5
INSERT, UPDATE, DELETE = "insert", "update", "delete"


def _schema(**columns: str) -> pa.Schema:
    import pyarrow as pa

    types = {
        "bigint": pa.int64(),
        "double": pa.float64(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorReadings:
    """Devices that measure the weather (IoT).

    Attributes:
        devices: Which devices report how often.
        stream_id: Number of the stream, a column of each row.
        stream_type: What kind of load it is, a column of each row.
    """

    devices: Keys = _THOUSAND
    stream_id: int = 1
    stream_type: str = "baseline"

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return _schema(
            device_id="bigint",
            event_time="timestamp",
            temperature="double",
            humidity="double",
            pressure="double",
            stream_type="string",
            stream_id="bigint",
        )

    def columns(self, rows: Rows) -> Mapping[str, Any]:
        """Return the columns."""
        return {
            "device_id": rows.keys("device", self.devices),
            "event_time": rows.time_us,
            "temperature": rows.between("temperature", -20, 45, digits=2),
            "humidity": rows.between("humidity", 0, 100, digits=1),
            "pressure": rows.between("pressure", 950, 1050, digits=1),
            "stream_type": rows.choice("stream type", (self.stream_type,)),
            "stream_id": np.full(len(rows.index), self.stream_id),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorDocuments:
    """The same devices, each reading as a JSON document whose shape drifts.

    Attributes:
        devices: Which devices report how often.
        drift_share: Share of documents of a newer firmware, 0-1: they have one field
            more, and give the temperature as an object.
    """

    devices: Keys = _THOUSAND
    drift_share: float = 0.2

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return _schema(device_id="bigint", event_time="timestamp", document="string")

    def columns(self, rows: Rows) -> Mapping[str, Any]:
        """Return the columns."""
        import pyarrow as pa
        import pyarrow.compute as pc

        celsius = pa.array(np.round(rows.uniform("temperature") * 650 - 200)).cast(
            pa.int64()
        )
        tenths = pc.cast(celsius, pa.string())
        humidity = pc.cast(
            pa.array((rows.uniform("humidity") * 100).astype(np.int64)), pa.string()
        )
        old = pc.binary_join_element_wise(
            '{"tenths": ', tenths, ', "humidity": ', humidity, "}", ""
        )
        new = pc.binary_join_element_wise(
            '{"tenths": {"value": ', tenths, '}, "humidity": ', humidity,
            ', "battery": ', humidity, "}", "",
        )  # fmt: skip
        drifted = rows.uniform("drift") < self.drift_share
        return {
            "device_id": rows.keys("device", self.devices),
            "event_time": rows.time_us,
            "document": pc.if_else(pa.array(drifted), new, old),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """Orders of customers; `order_id` is the row, so a duplicate repeats it."""

    customers: Keys = _CUSTOMERS

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return _schema(
            order_id="bigint",
            customer_id="bigint",
            event_time="timestamp",
            amount="bigint",
            status="string",
        )

    def columns(self, rows: Rows) -> Mapping[str, Any]:
        """Return the columns; amounts are in cents, so that sums are exact."""
        return {
            "order_id": rows.index,
            "customer_id": rows.keys("customer", self.customers),
            "event_time": rows.time_us,
            "amount": (rows.uniform("amount") * 100_000).astype(np.int64),
            "status": rows.choice("status", STATUSES),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Customers:
    """Who the customers of the other data sets are, by the common key."""

    customers: Keys = _CUSTOMERS

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return _schema(
            customer_id="bigint",
            changed_at="timestamp",
            city="string",
            tax_number="string",
        )

    def columns(self, rows: Rows) -> Mapping[str, Any]:
        """Return the columns."""
        import pyarrow as pa

        number = bits(rows.seed, "tax number", rows.index) % np.uint64(10**9)
        return {
            "customer_id": rows.keys("customer", self.customers),
            "changed_at": rows.time_us,
            "city": rows.choice("city", CITIES),
            "tax_number": pa.array(number.astype(np.int64)).cast(pa.string()),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Payments:
    """What customers paid, by the common key."""

    customers: Keys = _CUSTOMERS

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return _schema(
            payment_id="bigint",
            customer_id="bigint",
            paid_at="timestamp",
            amount="bigint",
            method="string",
        )

    def columns(self, rows: Rows) -> Mapping[str, Any]:
        """Return the columns."""
        return {
            "payment_id": rows.index,
            "customer_id": rows.keys("customer", self.customers),
            "paid_at": rows.time_us,
            "amount": (rows.uniform("amount") * 100_000).astype(np.int64),
            "method": rows.choice("method", METHODS),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Impressions:
    """Advertisements that were shown."""

    ads: Keys = _ADS

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return _schema(
            impression_id="bigint",
            ad_id="bigint",
            shown_at="timestamp",
            cost="bigint",
        )

    def columns(self, rows: Rows) -> Mapping[str, Any]:
        """Return the columns."""
        return {
            "impression_id": rows.index,
            "ad_id": rows.keys("ad", self.ads),
            "shown_at": rows.time_us,
            "cost": (rows.uniform("cost") * 1000).astype(np.int64),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Clicks:
    """Clicks on impressions: row i is on one of impressions i*n to (i+1)*n - 1.

    Fed at a rate n times lower, a click is due when its impression is, and happens
    up to *delay_max_s* later.

    Attributes:
        impressions_per_click: The n above.
        delay_max_s: Longest time from impression to click, in seconds.
    """

    impressions_per_click: int = 10
    delay_max_s: float = 60.0

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return _schema(
            click_id="bigint", impression_id="bigint", clicked_at="timestamp"
        )

    def columns(self, rows: Rows) -> Mapping[str, Any]:
        """Return the columns."""
        n = self.impressions_per_click
        which = (rows.uniform("impression") * n).astype(np.int64)
        delay_us = (rows.uniform("click delay") * self.delay_max_s * 1e6).astype(
            np.int64
        )
        return {
            "click_id": rows.index,
            "impression_id": rows.index * n + which,
            "clicked_at": rows.time_us + delay_us,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class MeterReadings:
    """Electricity meters."""

    meters: Keys = _METERS

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return _schema(
            meter_id="bigint",
            event_time="timestamp",
            watt_hours="bigint",
            voltage="double",
        )

    def columns(self, rows: Rows) -> Mapping[str, Any]:
        """Return the columns."""
        return {
            "meter_id": rows.keys("meter", self.meters),
            "event_time": rows.time_us,
            "watt_hours": (rows.uniform("watt hours") * 5000).astype(np.int64),
            "voltage": rows.between("voltage", 218, 242, digits=1),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What happened to the rows of a table, as change data capture sends it.

    `sequence` is the order in which the changes were made: unique, and not the order
    in which they come where the feed has disorder.

    Attributes:
        customers: Which rows change how often.
        deletes_share: Share of changes that delete, 0-1.
    """

    customers: Keys = _THOUSAND
    deletes_share: float = 0.1

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return _schema(
            customer_id="bigint",
            sequence="bigint",
            changed_at="timestamp",
            operation="string",
            city="string",
            balance="bigint",
        )

    def columns(self, rows: Rows) -> Mapping[str, Any]:
        """Return the columns."""
        drawn = rows.uniform("operation")
        others = self.deletes_share + (1 - self.deletes_share) * INSERTS_SHARE
        names = np.array([DELETE, INSERT, UPDATE])
        kind = np.searchsorted([self.deletes_share, others], drawn, side="right")
        return {
            "customer_id": rows.keys("customer", self.customers),
            "sequence": rows.index,
            "changed_at": rows.time_us,
            "operation": names[kind],
            "city": rows.choice("city", CITIES),
            "balance": (rows.uniform("balance") * 1_000_000).astype(np.int64),
        }
