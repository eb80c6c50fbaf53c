"""Pictures in character cells: they fit, and every object is seen in them."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.images.draw import COLOURS
from stmtrain.images.masks import ids_present
from stmtrain.preview.cells import GAP, MaskStyle, Picture, draw_cells, fit_cells, symbol
from stmtrain.preview.protocol import Protocol
from tests.profiles import examples

CODES = re.compile(r"\x1b\[[0-9;]*m")
TEXT = (Protocol.BLOCKS, Protocol.BLOCKS_256, Protocol.DIGITS)


def plain(lines: list[str]) -> list[str]:
    return [CODES.sub("", line) for line in lines]


def tiny_objects(count: int, seed: int, shape: tuple[int, int] = (120, 200)) -> np.ndarray:
    """Draw a mask with a large object 1 and ``count`` objects of a few pixels."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    mask[30:, 40:] = 1
    for number in range(count):
        mask[rng.integers(shape[0]), rng.integers(shape[1])] = 12 + number
    return mask


@given(
    st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), min_size=1, max_size=4),
    st.integers(1, 300),
    st.integers(1, 90),
)
@examples(200)
def test_pictures_fit_and_are_equally_high(
    shapes: list[tuple[int, int]], columns: int, rows: int
) -> None:
    sizes = fit_cells(shapes, columns, rows)
    assert len({high for high, _ in sizes}) == 1
    assert 1 <= sizes[0][0] <= rows
    assert all(wide >= 1 for _, wide in sizes)
    if columns >= 2 * len(shapes):
        assert sum(wide for _, wide in sizes) + GAP * (len(sizes) - 1) <= columns


def test_pictures_are_as_large_as_fits() -> None:
    assert fit_cells([(480, 854)], 120, 60) == [(33, 117)]
    assert fit_cells([(480, 854)], 1000, 30) == [(30, 107)]
    assert fit_cells([(100, 100), (100, 200)], 121, 60) == [(20, 40), (20, 80)]


@given(st.integers(0, 8), st.integers(0, 99), st.integers(8, 60), st.sampled_from(TEXT))
@examples(60)
def test_every_object_has_a_mark_at_any_width(
    count: int, seed: int, width: int, protocol: Protocol
) -> None:
    mask = tiny_objects(count, seed)
    frame = np.full((*mask.shape, 3), 90, np.uint8)
    sizes = fit_cells([mask.shape], width, 99)
    lines = plain(draw_cells([Picture(frame, mask)], sizes, protocol))
    assert [len(line) for line in lines] == [sizes[0][1]] * sizes[0][0]
    written = set(re.findall(r"\d+|[a-zA-Z]", " ".join(lines)))
    ids = ids_present(mask)
    for number in ids:
        either = {str(number), symbol(number)}
        one_run = "".join(lines)
        assert either & written or any(text in one_run for text in either), (number, lines)


def test_the_colour_of_a_mark_is_that_of_its_object() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[50, 50] = 3
    drawn = draw_cells([Picture(np.zeros((100, 100, 3), np.uint8), mask)], [(5, 10)],
                       Protocol.BLOCKS)  # fmt: skip
    red, green, blue = COLOURS[3] // 2
    assert f"48;2;{red};{green};{blue}m3" in "".join(drawn)


def test_masks_can_be_drawn_as_contours_or_not_at_all() -> None:
    mask = np.zeros((80, 80), np.uint8)
    mask[20:60, 20:60] = 1
    picture = Picture(np.full((80, 80, 3), 100, np.uint8), mask)
    colours = {}
    for style in MaskStyle:
        lines = draw_cells([picture], [(20, 40)], Protocol.BLOCKS, style)
        middle = lines[8]  # crosses the object, above its id
        colours[style] = len(set(re.findall(r"38;2;[0-9;]+;48;2;[0-9;]+m", middle)))
        assert ("1" in "".join(plain(lines))) == (style is not MaskStyle.OFF)
    assert colours[MaskStyle.OFF] == 1
    assert colours[MaskStyle.CONTOURS] == 2
    assert colours[MaskStyle.FILLED] == 3


@pytest.mark.parametrize("protocol", [*TEXT, Protocol.KITTY, Protocol.ITERM2])
def test_a_frame_without_a_mask_is_shown(protocol: Protocol) -> None:
    picture = Picture(np.full((30, 40, 3), 100, np.uint8), None)
    lines = draw_cells([picture, picture], [(3, 8), (3, 8)], protocol)
    assert len(lines) == 3
    if protocol in TEXT:
        assert [len(line) for line in plain(lines)] == [17] * 3
