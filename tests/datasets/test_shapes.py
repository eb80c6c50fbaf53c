"""Objects as annotation formats store them: drawn in place, and on top by a rule."""

import base64
import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from stmtrain.datasets.shapes import draw_bitmap, draw_boxed_runs, draw_segment, paint
from stmtrain.errors import DataError
from tests.datasets.drawn import compressed, runs

SIZE = (9, 12)
MASKS = hnp.arrays(np.bool_, SIZE)


@given(MASKS)
def test_rle_draws_what_was_encoded(mask: np.ndarray) -> None:
    for counts in (runs(mask), compressed(runs(mask))):
        found = draw_segment({"size": [*SIZE], "counts": counts}, SIZE)
        np.testing.assert_array_equal(found, mask)


@given(hnp.arrays(np.bool_, (3, 4)), st.integers(-2, 8), st.integers(-3, 11))
def test_parts_are_drawn_in_their_place_and_cut_at_the_border(
    part: np.ndarray, top: int, left: int
) -> None:
    wide = np.zeros((9 + 6, 12 + 8), bool)
    wide[3 + top : 6 + top, 4 + left : 8 + left] = part
    data = io.BytesIO()
    Image.fromarray(part).save(data, "PNG")
    text = base64.b64encode(zlib.compress(data.getvalue())).decode()
    for found in (
        draw_bitmap(text, (left, top), SIZE),
        draw_boxed_runs(", ".join(map(str, runs(part, "C"))), (left, top, 4, 3), SIZE),
    ):
        np.testing.assert_array_equal(found, wide[3:12, 4:16])


@pytest.mark.parametrize(
    ("counts", "size"),
    [([5], SIZE), ([-1, 109], SIZE), ("0", SIZE), ("", SIZE), ([108], (12, 9)), ([2**70], SIZE)],
)
def test_rle_that_does_not_fill_its_frame_is_refused(counts: object, size: tuple) -> None:
    with pytest.raises((ValueError, OverflowError)):
        draw_segment({"size": [*size], "counts": counts}, SIZE)


def test_parts_outside_the_frame_and_bombs_are_refused() -> None:
    with pytest.raises(ValueError, match="outside the frame"):
        draw_boxed_runs("0, 12", (12, 0, 4, 3), SIZE)
    for box in ((0, 0, 1 << 20, 1 << 20), (0, 0, 0, 3)):
        with pytest.raises(ValueError, match="box of"):
            draw_boxed_runs("0, 12", box, SIZE)
    cut = base64.b64encode(zlib.compress(bytes(200 << 20))[:-9]).decode()
    with pytest.raises(ValueError, match="cut short, or has more than"):
        draw_bitmap(cut, (0, 0), SIZE)
    with pytest.raises(DataError, match="expected a mask PNG"):
        draw_bitmap(base64.b64encode(zlib.compress(b"x")).decode(), (0, 0), SIZE)


@given(st.dictionaries(st.integers(1, 254), MASKS, max_size=4))
def test_the_rule_decides_which_object_is_on_top(objects: dict[int, np.ndarray]) -> None:
    keys = {
        "higher": lambda i: i,
        "lower": lambda i: -i,
        "smaller": lambda i: (-int(objects[i].sum()), i),
    }
    for rule, key in keys.items():
        label = paint(objects, SIZE, rule)  # type: ignore[arg-type]
        for y, x in np.ndindex(SIZE):
            there = [i for i in objects if objects[i][y, x]]
            assert label[y, x] == (max(there, key=key) if there else 0)
