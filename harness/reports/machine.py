"""The facts of a machine that make two runs comparable, and only those."""

from __future__ import annotations

from typing import Any

# Runs that differ in one of these are different experiments, not a regression.
CHECKED_MACHINE_INFO = (
    "system",
    "machine",
    "cpu_brand",
    "cpu_count",
    "python_implementation",
    "python_minor",
)


def stable_machine_info(full: dict[str, Any]) -> dict[str, Any]:
    """Reduce pytest-benchmark's machine info to facts that do not jitter.

    The clock frequency of the moment (`hz_actual`) differs between two runs on one
    machine, and the node name between two machines of one class. Neither makes
    results incomparable, and a warning that always shows is read by nobody.
    """
    cpu = full.get("cpu") or {}
    version = str(full.get("python_version", ""))
    return {
        "system": full.get("system"),
        "machine": full.get("machine"),
        "cpu_brand": cpu.get("brand_raw", "unknown"),
        "cpu_count": cpu.get("count"),
        "python_implementation": full.get("python_implementation"),
        "python_minor": ".".join(version.split(".")[:2]),
        "python_version": version,
        "release": full.get("release"),
        # Readers of pytest-benchmark's files look for these two.
        "processor": full.get("processor") or "",
        "cpu": {"brand_raw": cpu.get("brand_raw", "unknown")},
    }


def machine_differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Name each checked fact that differs, as "key: saved 'x', now 'y'"."""
    return [
        f"{key}: saved {saved.get(key)!r}, now {now.get(key)!r}"
        for key in CHECKED_MACHINE_INFO
        if saved.get(key) != now.get(key)
    ]
