"""How evenly the workers of a run were served."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def jain_index(shares: npt.NDArray[np.int64]) -> float:
    """Return Jain's fairness index of *shares*: 1 is even, 1/n is one takes all.

    (sum x)**2 / (n * sum x**2), Jain, Chiu and Hawe 1984.

    Raises:
        ValueError: If there is no share above 0.
    """
    total = float(shares.sum())
    if total <= 0:
        msg = "needs a share above 0"
        raise ValueError(msg)
    return total**2 / (len(shares) * float((shares.astype(float) ** 2).sum()))
