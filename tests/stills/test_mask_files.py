"""Still images with masks: pairing by name, and what counts as an object."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from stmdata.stills.mask_files import find_stills, read_still, split_objects
from stmtrain.errors import DataError
from stmtrain.images.encode import encode_mask
from stmtrain.images.masks import VOID
from tests.paths import REAL, real_data
from tests.profiles import examples


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def picture(height: int = 6, width: int = 8) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def square(value: int, height: int = 6, width: int = 8) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[1:4, 2:6] = value
    return mask


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("b", "a", "sub/a"):
        save(tmp_path / "images" / f"{name}.jpg", picture())
        save(tmp_path / "masks" / f"{name}.png", square(255))
    return tmp_path / "images", tmp_path / "masks"


def test_pairs_by_relative_name(folders: tuple[Path, Path]) -> None:
    (folders[0] / "Thumbs.db").write_bytes(b"x")
    (folders[0] / "._a.jpg").write_bytes(b"x")
    stills = find_stills(*folders)
    assert [s.name for s in stills] == ["a", "b", "sub/a"]
    assert all(s.image.stem == s.mask.stem for s in stills)


def test_one_folder_for_both(tmp_path: Path) -> None:
    save(tmp_path / "bear" / "1.jpg", picture())
    save(tmp_path / "bear" / "1.png", square(255))
    (still,) = find_stills(tmp_path, tmp_path)
    assert (still.image.suffix, still.mask.suffix) == (".jpg", ".png")


def test_an_image_without_mask_is_named(folders: tuple[Path, Path]) -> None:
    save(folders[0] / "c.jpg", picture())
    save(folders[0] / "d.png", picture())
    with pytest.raises(DataError, match=r"c\.jpg: has no mask 'c' in .*masks \(nor do 1 others\)"):
        find_stills(*folders)


def test_a_mask_without_image_is_named(folders: tuple[Path, Path]) -> None:
    save(folders[1] / "sub" / "z.png", square(255))
    with pytest.raises(DataError, match=r"z\.png: has no image 'sub/z' in .*images, .* rename"):
        find_stills(*folders)


def test_two_images_of_one_name(folders: tuple[Path, Path]) -> None:
    save(folders[0] / "a.png", picture())
    with pytest.raises(DataError, match=r"a\.png: a\.jpg has the same name"):
        find_stills(*folders)


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder of images"):
        find_stills(tmp_path / "none", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected images \(.*found none"):
        find_stills(tmp_path / "empty", tmp_path)


def test_reads_a_pair(folders: tuple[Path, Path]) -> None:
    image, objects = read_still(find_stills(*folders)[0])
    assert image.shape == (6, 8, 3)
    np.testing.assert_array_equal(objects.masks, [square(1)])


def test_palette_ids_become_objects_and_void_none(folders: tuple[Path, Path]) -> None:
    mask = square(3)
    mask[5, :4], mask[0, 0] = 200, 255
    (folders[1] / "a.png").write_bytes(encode_mask(mask))
    _, objects = read_still(find_stills(*folders)[0])
    assert [int(o.sum()) for o in objects.masks] == [12, 4]
    assert all(o.max() == 1 and o.dtype == np.uint8 for o in objects.masks)


def test_a_grey_rgb_mask_is_one_object(folders: tuple[Path, Path]) -> None:
    save(folders[1] / "a.png", np.repeat(square(255)[..., None], 3, axis=2))
    _, objects = read_still(find_stills(*folders)[0])
    np.testing.assert_array_equal(objects.masks, [square(1)])


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_the_alpha_channel_is_the_mask_where_the_colour_says_nothing(
    folders: tuple[Path, Path], level: int, mode: str
) -> None:
    colour = np.full((6, 8, len(mode) - 1), level, np.uint8)
    save(folders[1] / "a.png", np.concatenate([colour, square(255)[..., None]], axis=2))
    _, objects = read_still(find_stills(*folders)[0])
    np.testing.assert_array_equal(objects.masks, [square(1)])


def test_a_palette_mask_with_smooth_edges_is_one_object() -> None:
    image = Image.fromarray(disc(150, 400) * np.uint8(255))
    mask = np.asarray(image.resize((120, 120), Image.Resampling.BOX))
    objects = split_objects(mask, palette=True, where="x")
    np.testing.assert_array_equal(objects.masks, [mask > 127])
    assert objects.unused == "smooth edges, thresholded at half"


def test_a_colour_mask_is_refused(folders: tuple[Path, Path]) -> None:
    colour = np.zeros((6, 8, 3), np.uint8)
    colour[1, 1] = (255, 0, 0)
    save(folders[1] / "a.png", colour)
    with pytest.raises(DataError, match=r"a\.png: expected a palette or grey mask .*RGB"):
        read_still(find_stills(*folders)[0])


def test_a_16_bit_mask_is_refused(folders: tuple[Path, Path]) -> None:
    save(folders[1] / "a.png", np.full((6, 8), 700, np.uint16))
    with pytest.raises(DataError, match=r"a\.png: expected a mask of 8 bits"):
        read_still(find_stills(*folders)[0])


def test_sizes_must_agree(folders: tuple[Path, Path]) -> None:
    save(folders[1] / "a.png", square(255, 8, 6))
    with pytest.raises(DataError, match=r"a\.jpg: expected 6x8 pixels like .*a\.png, found 8x6"):
        read_still(find_stills(*folders)[0])


@pytest.mark.parametrize("side", ["image", "mask"])
def test_a_damaged_file_is_named(folders: tuple[Path, Path], side: str) -> None:
    still = find_stills(*folders)[0]
    path = getattr(still, side)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=path.name):
        read_still(still)


@pytest.mark.parametrize(
    ("levels", "palette", "sums"),
    [
        ((0, 1), False, [1]),  # 0/1 grey
        ((0, 255), True, [1]),  # a saliency mask saved with a palette
        ((0, 127, 128, 255), False, [2]),  # soft edges, cut at half
        ((0, 2, 255), True, [1]),  # an id, and void
        ((0, 1, 2, 254), True, [1, 1, 1]),
        ((0,), False, []),
        ((0,), True, []),
    ],
)
def test_what_counts_as_an_object(levels: tuple[int, ...], palette: bool, sums: list[int]) -> None:
    objects = split_objects(np.array([levels], np.uint8), palette=palette, where="x")
    assert [int(o.sum()) for o in objects.masks] == sums
    assert not objects.unused


def disc(radius: int = 30, size: int = 96) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size] - size / 2
    return (x * x + y * y < radius * radius).astype(np.uint8)


@given(
    st.dictionaries(st.integers(1, 20), st.integers(0, 3), min_size=1, max_size=4),
    st.integers(0, 3),
)
@examples(40)
def test_grey_labels_with_an_outline_are_ids(places: dict[int, int], outline: int) -> None:
    mask = np.zeros((80, 80), np.uint8)
    for label, place in places.items():
        top, left = 40 * (place // 2) + 8, 40 * (place % 2) + 8
        mask[top - outline : top + 24 + outline, left - outline : left + 24 + outline] = VOID
        mask[top : top + 24, left : left + 24] = label
    objects = split_objects(mask, palette=False, where="x")
    ids = [i for i in range(1, 21) if (mask == i).any()]
    np.testing.assert_array_equal(objects.masks, [mask == i for i in ids])
    assert bool(objects.unused) == (outline > 0 and ids != [])


@pytest.mark.parametrize("factor", [0.7, 0.5, 0.3, 1.6])
@pytest.mark.parametrize("how", ["bilinear", "bicubic", "box", "jpeg", "blur", "noise"])
def test_soft_grey_masks_have_one_object(factor: float, how: str) -> None:
    image = Image.fromarray(disc(150, 400) * np.uint8(255))
    size = int(400 * factor)
    if how == "jpeg":
        file = io.BytesIO()
        image.resize((size, size), Image.Resampling.BOX).save(file, "JPEG", quality=60)
        mask = np.asarray(Image.open(file))
    elif how == "blur":
        mask = np.asarray(image.resize((size, size)).filter(ImageFilter.GaussianBlur(4)))
    elif how == "noise":
        noise = np.random.default_rng(0).integers(-6, 7, (400, 400))
        mask = np.clip(np.asarray(image, int) + noise, 0, 255).astype(np.uint8)
    else:
        mask = np.asarray(image.resize((size, size), Image.Resampling[how.upper()]))
    objects = split_objects(mask, palette=False, where="x")
    np.testing.assert_array_equal(objects.masks, [mask > 127])
    assert not objects.unused


def test_a_grey_mask_of_several_levels_is_cut_and_noted() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[10:30, 10:30], mask[10:30, 30:50], mask[30:50, 10:30] = 85, 170, 255
    objects = split_objects(mask, palette=False, where="x")
    np.testing.assert_array_equal(objects.masks, [mask > 127])
    assert objects.unused == "grey mask of several levels, cut at half brightness"


def test_a_dark_grey_mask_is_refused() -> None:
    with pytest.raises(DataError, match=r"m\.png: .*grey mask.* up to 7"):
        split_objects(np.array([[0, 3, 7]], np.uint8), palette=False, where="m.png")


@real_data
def test_ecssd() -> None:
    stills = find_stills(REAL / "ecssd" / "images", REAL / "ecssd" / "masks")
    assert len(stills) == 200
    for still in stills[::25]:
        image, objects = read_still(still)
        assert len(objects.masks) == 1
        assert objects.masks[0].shape == image.shape[:2]
        assert 0.005 < objects.masks[0].mean() < 0.95
