"""Many cases are tested at once: one alarm in all of them must stay rare."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def holm(p_values: Sequence[float], *, tests_min: int = 1) -> list[float]:
    """Return the p-values adjusted by Holm's step-down rule, in the same order.

    Rejecting those at or below a level keeps the chance of even one false rejection
    at that level, however the cases depend on each other (Holm 1979).

    Args:
        p_values: One a test.
        tests_min: Fewer tests are adjusted as if there were so many, the others of
            which see nothing.
    """
    tests = max(len(p_values), tests_min)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for step, index in enumerate(order):
        highest = max(highest, min(1.0, (tests - step) * p_values[index]))
        adjusted[index] = highest
    return adjusted
