"""Sets side by side: summaries, distributions, names."""

from dataclasses import replace

import numpy as np
import pytest

from stmtrain.statistics.compare import compare_sets
from stmtrain.statistics.measure import STATISTICS, SetStatistics, Values

TOTALS = {"samples": 40, "frames": 120, "masks": 120, "objects": 60, "bytes": 8000}
KNOWN = {known.name: known for known in STATISTICS}


def drawn_set(name, seed=0, larger=1.0, **more):
    """Return a set of 40 clips whose objects are ``larger`` times as large."""
    rng, clips = np.random.default_rng(seed), np.arange(40)
    values = {known: Values(np.array([]), np.array([], np.int64)) for known in KNOWN}
    values["objects"] = Values(rng.integers(1, 5, 40).astype(float), clips)
    values["area"] = Values(larger * np.exp(rng.normal(-4, 0.5, 40)), clips)
    return SetStatistics(
        name, TOTALS, 40, **{"skip": 0, "sources": {"drawn": 40}, **more}, values=values
    )


def test_a_difference_is_shown_where_there_is_one():
    found = compare_sets([drawn_set("a", 0), drawn_set("b", 1, larger=8)])
    assert found.differences["area"][0] is None
    assert found.differences["area"][1].shown
    assert not found.differences["objects"][1].shown
    assert found.differences["iou"] == (None, None)
    assert found.summaries["iou"] == (None, None)
    area = found.summaries["area"][1]
    assert area.n == 40
    assert area.p10 < area.p50 < area.p90


def test_distances_of_sizes_are_those_of_ratios():
    sets = [drawn_set("a", 0), drawn_set("b", 1, larger=3)]
    inverse = [
        replace(one, values={**one.values, "area": one.values["area"]._replace(
            values=1 / one.values["area"].values)}) for one in sets
    ]  # fmt: skip
    expected = compare_sets(sets).differences["area"][1].distance
    assert compare_sets(inverse).differences["area"][1].distance == pytest.approx(expected)


def test_histograms_share_bins_and_count_everything():
    found = compare_sets([drawn_set("a", 0), drawn_set("b", 1, larger=8)])
    drawn = found.histogram(KNOWN["area"], 12)
    assert drawn.log
    assert len(drawn.edges) == 13
    assert sum(drawn.shares[0]) == pytest.approx(1)
    assert sum(drawn.shares[1]) == pytest.approx(1)
    far = drawn_set("a", 0)
    values = np.concatenate([np.linspace(1, 2, 998), [0.001, 99]])
    far.values["area"] = Values(values, np.arange(1000))
    histogram = compare_sets([far]).histogram(KNOWN["area"])
    assert sum(histogram.shares[0]) == pytest.approx(1)
    assert histogram.ends[1] < 3
    whole = found.histogram(KNOWN["objects"])
    assert whole.ends == (1, 4)
    assert len(whole.shares[0]) == 4


def test_names_are_distinct():
    sets = [drawn_set("x/davis"), drawn_set("y/davis/"), drawn_set("z")]
    assert compare_sets(sets).names == ("davis", "davis (2)", "z")
    sets[1] = replace(sets[1], skip=5)
    assert compare_sets(sets).names == ("davis, skip 0", "davis, skip 5", "z, skip 0")


def test_the_mapping_has_every_number():
    mapping = compare_sets([drawn_set("a"), drawn_set("b", 1)]).to_mapping()
    first, second = mapping["sets"]
    assert first["totals"]["samples"] == 40
    assert first["statistics"]["iou"] is None
    assert first["statistics"]["area"]["difference"] is None
    assert second["statistics"]["area"]["difference"]["distance"] >= 0
