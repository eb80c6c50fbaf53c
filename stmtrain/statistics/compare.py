"""Shard sets side by side: a summary of each statistic, its distribution, and the distances."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stmtrain.statistics.distance import Floats, by_chance, distance
from stmtrain.statistics.measure import STATISTICS, SetStatistics, Statistic, Values

_TAIL = 0.01
"""Share of the values at either end that a histogram draws at its ends."""

_WHOLE = 40
"""Most bins of a histogram that has one for each whole number."""


@dataclass(frozen=True)
class Summary:
    """A statistic in one set: number of values, mean, standard deviation, percentiles."""

    n: int
    mean: float
    std: float
    p10: float
    p50: float
    p90: float


@dataclass(frozen=True)
class Difference:
    """How far a set is from the first.

    Attributes:
        distance: In [0, 1]; see :mod:`stmtrain.statistics.distance`.
        by_chance: What two samples of one distribution rarely exceed.
    """

    distance: float
    by_chance: float

    @property
    def shown(self) -> bool:
        """Whether the samples show a difference, and not only chance."""
        return self.distance > self.by_chance


@dataclass(frozen=True)
class Histogram:
    """The distributions of a statistic in several sets, over the same bins.

    Attributes:
        edges: Borders of the bins, ascending; the outer bins also hold what is farther out.
        ends: The lowest and the highest value that are not far out.
        shares: By number of the set, the share of its values in each bin.
        log: Whether the bins are equally wide in ratios.
    """

    edges: tuple[float, ...]
    ends: tuple[float, float]
    shares: Mapping[int, tuple[float, ...]]
    log: bool


@dataclass(frozen=True)
class SetComparison:
    """Sets side by side; the first is what the others are compared with.

    Attributes:
        names: A distinct name of each set.
        sets: What was measured.
        summaries: By statistic, of each set; None where a set has no value.
        differences: By statistic, of each set from the first; None for the first itself and where
            one of the two has no value.
    """

    names: tuple[str, ...]
    sets: tuple[SetStatistics, ...]
    summaries: Mapping[str, tuple[Summary | None, ...]]
    differences: Mapping[str, tuple[Difference | None, ...]]

    def to_mapping(self) -> dict[str, Any]:
        """Return everything as JSON values, with a histogram of each statistic."""
        sets = []
        for number, (name, measured) in enumerate(zip(self.names, self.sets, strict=True)):
            sets.append(
                {
                    "name": name,
                    "location": measured.name,
                    "totals": dict(measured.totals),
                    "measured": measured.measured,
                    "skip": measured.skip,
                    "sources": dict(measured.sources),
                    "statistics": {
                        known.name: self._statistic(known, number) for known in STATISTICS
                    },
                }
            )
        return {"sets": sets}

    def _statistic(self, statistic: Statistic, number: int) -> dict[str, Any] | None:
        summary = self.summaries[statistic.name][number]
        if summary is None:
            return None
        drawn, difference = self.histogram(statistic), self.differences[statistic.name][number]
        return {
            "unit": statistic.unit,
            **asdict(summary),
            "histogram": {"edges": list(drawn.edges), "shares": list(drawn.shares[number])},
            "difference": None if difference is None else asdict(difference),
        }

    def histogram(self, statistic: Statistic, bins: int = 24) -> Histogram:
        """Return the distributions of a statistic that at least one set has values of."""
        values = {
            number: _scaled(statistic, measured.values[statistic.name].values)
            for number, measured in enumerate(self.sets)
            if len(measured.values[statistic.name].values)
        }
        low, high = _ends(list(values.values()))
        edges = _edges(low, high, whole=_are_whole(values.values()), bins=bins)
        shares = {}
        for number, own in values.items():
            counts, _ = np.histogram(np.clip(own, edges[0], edges[-1]), edges)
            shares[number] = tuple((counts / len(own)).tolist())
        real = np.exp if statistic.log else np.asarray
        borders, ends = real(edges).tolist(), real([low, high]).tolist()
        return Histogram(tuple(borders), (ends[0], ends[1]), shares, statistic.log)


def compare_sets(sets: Sequence[SetStatistics], seed: int = 0) -> SetComparison:
    """Compare sets with the first of them.

    Args:
        sets: At least one.
        seed: Decides how clips are dealt anew, for the distance that is to be expected by chance.
    """
    return SetComparison(
        _distinct_names(sets),
        tuple(sets),
        {
            known.name: tuple(_summarise(one.values[known.name].values) for one in sets)
            for known in STATISTICS
        },
        {
            known.name: (None, *(_difference(known, sets[0], other, seed) for other in sets[1:]))
            for known in STATISTICS
        },
    )


def _summarise(values: Floats) -> Summary | None:
    if not len(values):
        return None
    p10, p50, p90 = (float(p) for p in np.percentile(values, [10, 50, 90]))
    return Summary(len(values), float(values.mean()), float(values.std()), p10, p50, p90)


def _difference(
    statistic: Statistic, first: SetStatistics, other: SetStatistics, seed: int
) -> Difference | None:
    samples = [
        Values(_scaled(statistic, one.values[statistic.name].values), one.values[statistic.name][1])
        for one in (first, other)
    ]
    if not all(len(sample.values) for sample in samples):
        return None
    rng = np.random.default_rng(seed)
    found = distance(samples[0].values, samples[1].values)
    return Difference(found, by_chance(samples[0], samples[1], rng))


def _scaled(statistic: Statistic, values: Floats) -> Floats:
    return np.log(values) if statistic.log else values


def _ends(values: Sequence[Floats]) -> tuple[float, float]:
    """Return the range of what is not far out in any of the samples."""
    low = min(float(np.quantile(own, _TAIL, method="lower")) for own in values)
    high = max(float(np.quantile(own, 1 - _TAIL, method="higher")) for own in values)
    return low, high


def _are_whole(values: Iterable[Floats]) -> bool:
    return all(bool((own == np.round(own)).all()) for own in values)


def _edges(low: float, high: float, *, whole: bool, bins: int) -> Floats:
    """Return the borders of bins, one for each number if these are whole and few."""
    if whole and high - low < _WHOLE:
        return np.arange(low, high + 2).astype(np.float64) - 0.5
    return np.linspace(low, high if high > low else low + 1, bins + 1).astype(np.float64)


def _distinct_names(sets: Sequence[SetStatistics]) -> tuple[str, ...]:
    """Name sets by their folders; equal ones by their skip or number too."""
    names = [measured.name.rstrip("/").rpartition("/")[2] for measured in sets]
    if len({measured.skip for measured in sets}) > 1:
        names = [f"{name}, skip {one.skip}" for name, one in zip(names, sets, strict=True)]
    return tuple(
        f"{name} ({names[:number].count(name) + 1})" if name in names[:number] else name
        for number, name in enumerate(names)
    )
