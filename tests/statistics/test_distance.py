"""The distance of two distributions: its definition, its range, and what chance alone explains."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.statistics.distance import by_chance, distance
from stmtrain.statistics.measure import Values

values = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=30).map(np.array)


@given(values, values, st.sampled_from([0.5, 1.0, 8.0]), st.integers(-9, 9))
def test_a_distance_is_symmetric_in_0_to_1_and_free_of_units(first, second, factor, offset):
    found = distance(first, second)
    assert 0 <= found <= 1 + 1e-9
    assert found == pytest.approx(distance(second, first))
    assert found == pytest.approx(distance(first * factor + offset, second * factor + offset))
    assert distance(first, first) == pytest.approx(0, abs=1e-12)
    assert found == pytest.approx(distance(np.repeat(first, 3), second))


@given(values, st.randoms(use_true_random=False))
def test_it_is_the_mean_way_between_sorted_values_over_the_spread(first, random):
    second = np.array([value + random.randint(0, 20) for value in first])
    mixed = np.concatenate([first, second])
    way = np.abs(np.sort(first) - np.sort(second)).mean()
    expected = way / (2 * mixed.std()) if mixed.std() else 0
    assert distance(first, second) == pytest.approx(expected)


def test_two_constants_have_the_distance_1_and_nothing_has_none():
    assert distance(np.array([2.0, 2.0]), np.array([7.0])) == pytest.approx(1)
    assert np.isnan(distance(np.array([]), np.array([7.0])))


def clips(rng, count, mean):
    """Ten equal values of each clip: many values, but few clips."""
    return Values(np.repeat(rng.normal(mean, 1, count), 10), np.repeat(np.arange(count), 10))


def test_chance_explains_samples_of_one_distribution_but_not_of_two():
    rng = np.random.default_rng(0)
    exceeded = 0
    for _ in range(40):
        first, second = clips(rng, 30, 0), clips(rng, 20, 0)
        level = by_chance(first, second, rng)
        exceeded += distance(first.values, second.values) > level
    assert exceeded <= 6  # 2 are expected; single values dealt anew would give nearly 40
    first, second = clips(rng, 30, 0), clips(rng, 20, 2)
    assert distance(first.values, second.values) > by_chance(first, second, rng)
