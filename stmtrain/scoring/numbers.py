"""The numbers of a protocol: of one object, and their means over objects, seen and unseen ones.

A number is None where it is not defined: no frame to take it from, or no object that has it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stmtrain.datasets.protocol import Protocol
from stmtrain.scoring.metrics import statistics

if TYPE_CHECKING:
    from stmtrain.scoring.scores import ObjectScore, Scores

Numbers = dict[str, float | None]

_PARTIAL = ("_d", "_r")
"""Ends of the measures that some objects do not have."""

_LAST_PART = 0.75
"""J_tr is over the frames from this part of the scored ones on."""


def object_numbers(score: "ObjectScore", rules: Protocol) -> Numbers:
    """Return the protocol's measures of one object by their names, in [0, 1]."""
    return {name: _defined(_measure(name, score, rules)) for name in rules.measures}


def mean_numbers(objects: "Sequence[ObjectScore]", rules: Protocol) -> Numbers:
    """Return the mean of each measure over the objects; J&F is the mean of J's and F's means.

    Objects that never disappear or reappear have no part in the means of ``_d`` and ``_r``.
    """
    names = [part for name in rules.measures for part in _parts(name)]
    table = np.array([[_measure(name, score, rules) for name in names] for score in objects], float)
    means: Numbers = dict.fromkeys(names)
    for column, name in enumerate(names if objects else ()):
        known = ~np.isnan(table[:, column])
        if known.all() or (known.any() and name.endswith(_PARTIAL)):
            means[name] = float(table[known].mean(axis=0)[column])
    return {name: _mean_of_all([means[part] for part in _parts(name)]) for name in rules.measures}


def set_numbers(scores: "Scores") -> Numbers:
    """Return the numbers of a set under the names that its official code gives them.

    If seen and unseen count the same, a measure is the mean of both; the first number is the mean
    of all four of J and F.
    """
    rules = scores.rules
    named = {kind: labels(kind, rules) for kind in ("", "seen", "unseen", "all")}
    over_all = mean_numbers(scores.objects, rules)
    if not rules.seen_unseen:
        return {named[""][name]: value for name, value in over_all.items()}
    groups: dict[str, list[ObjectScore]] = {"seen": [], "unseen": []}
    for score in scores.objects:
        if scores.unseen is not None:
            unseen = (score.video, score.object_id) in scores.unseen
            groups["unseen" if unseen else "seen"].append(score)
    parts = {kind: mean_numbers(group, rules) for kind, group in groups.items()}
    both = {name: _mean_of_all([parts[kind][name] for kind in parts]) for name in rules.measures}
    overall = "G" if rules.names == "plain" else "J&F-Mean"
    numbers: Numbers = {overall: _mean_of_all([both["J"], both["F"]])}
    for name in rules.measures:
        numbers[named[""][name]] = both[name]
        numbers |= {named[kind][name]: parts[kind][name] for kind in parts}
    return numbers | {named["all"][name]: value for name, value in over_all.items()}


def labels(kind: str, rules: Protocol) -> Mapping[str, str]:
    """Return the names of the measures in results: J_seen, J_recall; or J-seen-Mean, J-Recall."""
    if rules.names == "plain":
        return {name: f"{name}_{kind}" if kind else name for name in rules.measures}
    table = {}
    for name in rules.measures:
        measure, _, statistic = name.partition("_")
        table[name] = "-".join(filter(None, (measure, kind, statistic.capitalize() or "Mean")))
    return table


def _measure(name: str, score: "ObjectScore", rules: Protocol) -> float | None:
    """Compute one measure; a name is those of values and of a statistic: ``J``, ``F_dot_d``."""
    if name.startswith("J&"):
        return _mean_of_all([_measure(part, score, rules) for part in _parts(name)])
    if name == "V":
        return _variation(np.add(score.j_values, score.f_values) / 2, rules.rounded_v)
    values = _values(name, score)
    if name.endswith(_PARTIAL):
        return _run_mean(values, _RUNS[name[-1]](score, rules))
    if name.startswith("J_tr"):
        values = values[math.floor(_LAST_PART * len(values)) :]
    if not values:
        return None
    found = statistics(values, rules.short_decay)
    return getattr(found, name.rpartition("_")[2], found.mean)


def _parts(name: str) -> tuple[str, ...]:
    """Return the measures whose mean has a name: J_d and F_dot_d of J&F_dot_d."""
    other = name.removeprefix("J&")
    return (name,) if other == name else (other.replace("F_dot", "J").replace("F", "J"), other)


def _values(name: str, score: "ObjectScore") -> Sequence[float]:
    if name.startswith("F_dot"):
        return score.f_dot_values
    return score.j_values if name.startswith("J") else score.f_values


def _variation(values: NDArray[np.float64], rounded: bool) -> float:
    """Return the standard deviation over time, LVOS's V."""
    variance = float(np.mean((values - values.mean()) ** 2))
    return math.sqrt(round(variance, 4) if rounded else variance)


def _disappearances(score: "ObjectScore", rules: Protocol) -> list[slice]:
    """Return the runs of frames without the object, behind a frame that shows it."""
    before = rules.first_frame_shows and score.shown_first
    return [run for run in _runs(score.visible, False) if run.start or before]


def _reappearances(score: "ObjectScore", rules: Protocol) -> list[slice]:
    """Return the runs of frames that show the object, behind a run without it."""
    before = rules.first_frame_shows and score.shown_first
    return [
        run
        for run in _runs(score.visible, True)
        if run.start and (rules.first_appearance or before or any(score.visible[: run.start]))
    ]


_RUNS: Mapping[str, Callable[["ObjectScore", Protocol], list[slice]]] = {
    "d": _disappearances,
    "r": _reappearances,
}


def _runs(flags: Sequence[bool], wanted: bool) -> list[slice]:
    """Return the longest runs of equal flags with the wanted value."""
    ends = [t for t in range(1, len(flags)) if flags[t] != flags[t - 1]]
    runs = [slice(*ends) for ends in zip([0, *ends], [*ends, len(flags)], strict=True)]
    return [run for run in runs if run.start < run.stop and flags[run.start] == wanted]


def _run_mean(values: Sequence[float], runs: Sequence[slice]) -> float | None:
    return float(np.mean([np.mean(values[run]) for run in runs])) if runs else None


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
