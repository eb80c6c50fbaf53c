"""How far two distributions are apart, and how far two samples of one distribution would be.

The distance is the Wasserstein-1 distance, the mean way that one sample's values must move to
become the other's, divided by twice the standard deviation of both samples mixed in equal parts.
It is 0 for equal distributions and 1 for two different constants, whatever the unit. Unlike the
Kolmogorov-Smirnov distance, it still tells near from far where two distributions do not overlap.
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmtrain.statistics.measure import Values

Floats = NDArray[np.float64]

_ROUNDS = 40
_LEVEL = 0.95


def distance(first: Floats, second: Floats) -> float:
    """Return the distance of two samples in [0, 1]; NaN if one of them is empty.

    Example:
        >>> distance(np.array([0.0, 0.0]), np.array([3.0]))
        1.0
    """
    values = np.concatenate([first, second])
    return _distance(values, np.arange(len(values)) < len(first), np.argsort(values))


def by_chance(first: Values, second: Values, rng: Generator) -> float:
    """Return a distance that two samples of one distribution rarely exceed (one in twenty).

    The clips of both are dealt anew into two samples, because the values of one clip belong
    together.

    Args:
        first: The first sample.
        second: The second sample.
        rng: Deals the clips.
    """
    own, other = (len(np.unique(sample.clips)) for sample in (first, second))
    _, left = np.unique(first.clips, return_inverse=True)
    _, right = np.unique(second.clips, return_inverse=True)
    values = np.concatenate([first.values, second.values])
    clips, order = np.concatenate([left, right + own]), np.argsort(values)
    found = []
    for _ in range(_ROUNDS):
        dealt = np.zeros(own + other, np.bool_)
        dealt[rng.permutation(own + other)[:own]] = True
        found.append(_distance(values, dealt[clips], order))
    return float(np.quantile(found, _LEVEL))


def _distance(values: Floats, in_first: NDArray[np.bool_], order: NDArray[np.intp]) -> float:
    """Return the distance between two groups of values, which ``order`` sorts."""
    own = np.count_nonzero(in_first)
    if not 0 < own < len(values):
        return float("nan")
    shares = np.where(in_first, 1 / own, 0.0), np.where(in_first, 0.0, 1 / (len(values) - own))
    mixed = (shares[0] + shares[1]) / 2
    spread = float(np.sqrt(mixed @ (values - mixed @ values) ** 2))
    if spread == 0:
        return 0.0
    ahead = np.cumsum((shares[0] - shares[1])[order])[:-1]
    return float(np.abs(ahead) @ np.diff(values[order])) / (2 * spread)
