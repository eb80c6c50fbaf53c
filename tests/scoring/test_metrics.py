"""J and F against their definitions, the official code's numbers, and the published ones."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stmtrain.images.decode import decode_mask
from stmtrain.scoring.metrics import j_and_f, statistics
from tests.paths import GOLDEN, REAL, real_data
from tests.profiles import examples


def slow_contour(mask):
    """A pixel is contour where its right, lower or lower right neighbour differs."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (mask != right) | (mask != below) | (mask != diagonal)


def slow_j(prediction, truth):
    """Intersection over union; 1 of empty masks."""
    union = (prediction | truth).sum()
    return (prediction & truth).sum() / union if union else 1.0


def slow_f(prediction, truth, tolerance):
    """F from all distances between the contours' pixels."""
    radius = math.ceil(tolerance * np.linalg.norm(truth.shape))
    predicted, true = np.argwhere(slow_contour(prediction)), np.argwhere(slow_contour(truth))
    if not len(predicted) or not len(true):
        return float(len(predicted) == len(true))
    near = ((predicted[:, None] - true[None]) ** 2).sum(-1) <= radius**2
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@st.composite
def some_masks(draw, count=2):
    """Masks of one small shape: a block that may touch or leave the frame, or scattered pixels."""
    height, width = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))

    def block(top, left, rows, columns):
        mask = np.zeros((height, width), bool)
        mask[top : top + rows, left : left + columns] = True
        return mask

    sides = st.integers(0, 20)
    kinds = st.builds(block, sides, sides, sides, sides) | arrays(np.bool_, (height, width))
    return tuple(draw(kinds) for _ in range(count))


@given(masks=some_masks(), tolerance=st.floats(0.01, 0.7))
@examples(300)
def test_j_and_f_equal_their_definitions(masks, tolerance):
    assert j_and_f(*masks, tolerance=tolerance) == pytest.approx(
        (slow_j(*masks), slow_f(*masks, tolerance)), abs=1e-12
    )


@given(masks=some_masks())
@examples(150)
def test_symmetric_in_range_and_one_of_equal_masks(masks):
    prediction, truth = masks
    both = j_and_f(prediction, truth)
    assert both == pytest.approx(j_and_f(truth, prediction))
    assert all(0 <= value <= 1 for value in both)
    assert j_and_f(truth, truth) == (1, 1)


@given(seed=st.integers(0, 2**32 - 1))
@examples(20)
def test_j_and_f_equal_their_definitions_in_wide_and_tall_frames(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 150, 2)
    y, x = np.mgrid[:height, :width]
    centres, sizes = rng.uniform(0, [height, width], (2, 2)), rng.uniform(2, 60, (2, 2))
    masks = [
        ((y - c[0]) / s[0]) ** 2 + ((x - c[1]) / s[1]) ** 2 < 1
        for c, s in zip(centres, sizes, strict=True)
    ]
    expected = slow_j(*masks), slow_f(*masks, 0.03)
    assert j_and_f(*masks, tolerance=0.03) == pytest.approx(expected, abs=1e-12)


def test_empty_and_full_masks():
    empty, full = np.zeros((6, 9), bool), np.ones((6, 9), bool)
    half = full.copy()
    half[:, 4:] = False
    assert j_and_f(empty, empty) == (1, 1)
    assert j_and_f(empty, half) == j_and_f(half, empty) == (0, 0)
    assert j_and_f(full, half) == (4 / 9, 0), "the frame's edge is no contour"
    assert j_and_f(full, empty) == (0, 1), "neither mask has a contour"


def test_inputs_are_not_changed():
    masks = [np.eye(9, dtype=bool), np.tri(9, dtype=bool)]
    copies = [mask.copy() for mask in masks]
    j_and_f(*masks)
    assert all(np.array_equal(a, b) for a, b in zip(masks, copies, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((4, 5), np.uint8), np.ones((4, 5), bool)), r"prediction: .*uint8 \(4, 5\)"),
        ((np.ones((4, 5), bool), np.ones((4, 6), bool)), r"like truth, \(4, 6\), found bool"),
    ],
)
def test_other_arrays_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        j_and_f(*arguments)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 10, 48, 255, 256, 257, 1000])
def test_decay_compares_the_first_and_last_quarter(frames):
    falling = np.linspace(1, 0, frames)
    got = statistics(falling)
    quarters = [round((frames - 1) * part / 4 + 1e-10) for part in (1, 3)]
    expected = falling[: quarters[0] + 1].mean() - falling[quarters[1] :].mean()
    assert got.decay == pytest.approx(expected)
    assert got.decay > 0.6 or frames < 4
    assert got.mean == pytest.approx(falling.mean())
    assert statistics(falling[::-1]).decay == pytest.approx(-expected, abs=2 / frames)


def test_recall_counts_frames_above_one_half():
    assert statistics([0.5, 0.51, 1, 0]).recall == 0.5
    with pytest.raises(ValueError, match="at least one"):
        statistics([])


def check(expected, results, truths, object_id=None):
    """Compare every scored frame and statistic of one object; without an id, of mask > 0."""
    values = []
    for name in sorted(path.name for path in truths.glob("*.png"))[1:-1]:
        masks = [decode_mask((folder / name).read_bytes(), name) for folder in (results, truths)]
        values.append(j_and_f(*(m == object_id if object_id else m > 0 for m in masks)))
    values = np.array(values)
    np.testing.assert_allclose(values, np.transpose([expected["J"], expected["F"]]), atol=1e-6)
    for column, measure in enumerate("JF"):
        for name, value in statistics(values[:, column])._asdict().items():
            assert value == pytest.approx(expected[f"{measure}_{name}"], abs=1e-6)


@pytest.mark.golden
def test_official_numbers_of_several_objects():
    golden = json.loads((GOLDEN / "jf/multi_object.json").read_text())["india"]
    for object_id in (1, 2, 3):
        check(
            golden[str(object_id)],
            GOLDEN / "jf/multi/result/india",
            GOLDEN / "jf/multi/reference/india",
            object_id,
        )


@real_data
@pytest.mark.golden
def test_official_numbers_of_one_object():
    golden = json.loads((GOLDEN / "jf/davis2016_single_object.json").read_text())
    for video in golden:
        results = REAL / "davis2016_osvos_results" / video
        check(golden[video]["1"], results, REAL / "davis2016/Annotations/480p" / video)
