"""Run-length masks: what is accepted fills its image, and rounded outlines draw the same."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stmdata.stills import rle
from stmtrain.images.rle import draw_runs, read_runs
from tests.profiles import examples


@examples(120)
@given(st.lists(st.integers(0, 60_000 * 5).map(lambda n: n / 50), min_size=1, max_size=20))
def test_float32_draws_as_the_json_number(values: list[float]) -> None:
    exact = np.array(values)
    rounded = rle.round_outline(exact)
    assert np.abs(rounded - exact).max() <= 2 * np.spacing(np.float32(max(values) + 1))
    snapped = np.trunc(5 * rounded.astype(np.float64) + 0.5)
    np.testing.assert_array_equal(snapped, np.trunc(5 * exact + 0.5))


@given(st.binary(max_size=12), st.integers(1, 9), st.integers(1, 9))
@examples(150)
@example(b"0", 4, 4)  # pycocotools would leave pixels unset
@example(b"`0P", 4, 4)  # ... or read past the end
def test_a_bad_compressed_rle_never_reaches_pycocotools(data: bytes, h: int, w: int) -> None:
    accepted = rle.compress_rle(data.decode("latin-1"), (h, w), (h, w))
    assert data not in (b"0", b"`0P") or accepted is None
    if accepted is not None:
        lengths = read_runs(accepted)
        assert lengths.min() >= 0
        assert lengths.sum() == h * w


def compressed(runs: list[int]) -> bytes:
    """Runs in COCO's format: differences to the run before the last, five bits per character."""
    out = bytearray()
    for i, run in enumerate(runs):
        rest, more = run - (runs[i - 2] if i > 2 else 0), True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != (-1 if bits & 16 else 0)
            out.append(48 + bits + 32 * more)
    return bytes(out)


@given(st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=9))
def test_runs_are_read_as_coco_writes_them(runs: list[int]) -> None:
    assert read_runs(compressed(runs)).tolist() == runs


@pytest.mark.parametrize(
    ("runs", "fills"),
    [
        ([16], True),
        ([0, 16], True),
        ([3, 4, 9], True),
        ([3, 4, 8], False),
        ([3, 4, 10], False),
        ([5, -1, 12], False),
        ([17, -1], False),
    ],
)
def test_only_runs_that_fill_the_image_are_accepted(runs: list[int], fills: bool) -> None:
    assert (rle.compress_rle(compressed(runs).decode(), (4, 4), (4, 4)) is not None) == fills
    assert (rle.compress_rle(runs, (4, 4), (4, 4)) is not None) == fills


@pytest.mark.parametrize("data", [b"", b"`0P", b"`0 ", b"`0\xff", b"PPPPPPP0"])
def test_an_unfinished_rle_is_no_rle(data: bytes) -> None:
    np.testing.assert_array_equal(read_runs(b"`0"), [16])
    with pytest.raises(ValueError, match="not a compressed RLE"):
        read_runs(data)


def digits(value: int) -> bytes:
    """Write a number as ``rleToString`` of pycocotools does."""
    out = bytearray()
    while True:
        low, value = value & 31, value >> 5
        more = value != (-1 if low & 16 else 0)
        out.append(48 + low + 32 * more)
        if not more:
            return bytes(out)


@pytest.mark.parametrize("run", [0, 1, 15, 16, 31, 32, 1000, 2**20, 2**29, 2**30, 2**31 - 1])
def test_runs_of_every_length_are_read(run: int) -> None:
    counts = [run, 3, run + 2, 1, 7]  # from the fourth run on, differences to the run two before
    text = b"".join(map(digits, [run, 3, run + 2, 1 - 3, 7 - (run + 2)]))
    np.testing.assert_array_equal(read_runs(text), counts)


def test_a_number_of_eight_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="not a compressed RLE"):
        read_runs(digits(2**35))


def test_a_box_is_drawn_around_its_pixels() -> None:
    box, corner = draw_runs(np.array([7, 2, 4, 1, 16]), height=5)
    assert corner == (2, 1)
    full = np.repeat(np.arange(5) % 2, [7, 2, 4, 1, 16]).reshape(6, 5).T
    np.testing.assert_array_equal(full[2 : 2 + box.shape[0], 1 : 1 + box.shape[1]], box)
    assert box.sum() == 3
    empty, corner = draw_runs(np.array([30]), height=5)
    assert (empty.shape, corner) == ((0, 0), (0, 0))


def test_an_image_too_large_for_pycocotools_is_refused() -> None:
    size = (2**15, 2**16)
    assert rle.compress_rle([2**31], size, size) is None
