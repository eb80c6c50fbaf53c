"""Still images with mask files: ECSSD, DUTS, HRSOD, FSS-1000 and similar data sets.

Pairs the files of an image folder and a mask folder (which may be the same), and reads a pair as an
RGB image and one mask per object.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import DataError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_mask, decode_still
from stmtrain.images.masks import VOID, areas, counts_binary, ids_counted, sharpen
from stmtrain.images.png import png_header

_JPEG = frozenset({".jpg", ".jpeg"})
_IMAGE = _JPEG | {".png", ".bmp", ".webp", ".tif", ".tiff"}
_MASK = frozenset({".png", ".bmp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True)
class Still:
    """An image and its mask; ``name`` is their relative path without suffix, which they share."""

    name: str
    image: Path
    mask: Path


def find_stills(images: Path, masks: Path) -> list[Still]:
    """Pair images and masks by their path below the two folders, without suffix.

    Folders are searched recursively; hidden files and files that are not images are ignored. Both
    may be one folder (FSS-1000, MSRA10K), where JPEGs are the images and all others the masks.

    Returns:
        The pairs, sorted by name; at least one.

    Raises:
        DataError: A folder is missing or empty, a file has no partner, or two share a name.
    """
    shared = images.resolve() == masks.resolve()
    image_files = _by_name(images, _JPEG if shared else _IMAGE, "image")
    mask_files = _by_name(masks, _MASK, "mask")
    _refuse_unpaired(image_files, mask_files, "mask", masks)
    _refuse_unpaired(mask_files, image_files, "image", images)
    return [Still(name, image_files[name], mask_files[name]) for name in sorted(image_files)]


def _by_name(folder: Path, suffixes: frozenset[str], what: str) -> dict[str, Path]:
    """Map relative path without suffix to file."""
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of {what}s, found none; check the path")
    found: dict[str, Path] = {}
    for path in _files(folder):
        if path.suffix.lower() not in suffixes:
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(
                f"{path}: {found[name].name} has the same name; keep one {what} per name"
            )
        found[name] = path
    if not found:
        raise DataError(
            f"{folder}: expected {what}s ({' '.join(sorted(suffixes))}), found none; check the path"
        )
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order; links to folders are not followed."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        elif path.is_file():
            yield path


def _refuse_unpaired(
    files: dict[str, Path], partners: dict[str, Path], what: str, at: Path
) -> None:
    unpaired = sorted(set(files) - set(partners))
    if unpaired:
        name = unpaired[0]
        others = f" (nor do {len(unpaired) - 1} others)" if len(unpaired) > 1 else ""
        raise DataError(
            f"{files[name]}: has no {what} {name!r} in {at}{others}, but images and masks are "
            "paired by name; rename, add or remove files"
        )


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a mask file.

    Attributes:
        masks: One (H, W) uint8 0/1 mask per object, ascending by id.
        unused: What of the mask is not used, if that is not plain; else empty.
    """

    masks: list[NDArray[np.uint8]]
    unused: str = ""


def read_still(still: Still) -> tuple[NDArray[np.uint8], Objects]:
    """Read an image and its objects.

    Returns:
        (H, W, 3) uint8 RGB, and the objects; there are none if the mask file is empty.

    Raises:
        DataError: A file cannot be read, the sizes differ, or the mask is not a label map.
    """
    mask, palette = _read_mask(still.mask)
    size = (mask.shape[0], mask.shape[1])
    image = decode_still(read_file(still.image), str(still.image), size, like=str(still.mask))
    return image, split_objects(mask, palette=palette, where=str(still.mask))


def split_objects(mask: NDArray[np.uint8], *, palette: bool, where: str) -> Objects:
    """Split a mask image into objects.

    A palette mask has object ids, and 255 is void unless it is the only value besides 0. So has a
    grey mask whose areas have the values 1..20 (the classes of PASCAL VOC, with 255 around them).
    Any other grey mask has one object: 0/1, or dark/bright with soft edges, which is thresholded at
    half brightness.

    Args:
        mask: (H, W) uint8 as stored.
        palette: Whether the file has a palette.
        where: The file; opens the error message.

    Raises:
        DataError: A grey mask that is neither 0/1 nor reaches half brightness, or a palette mask
            with smooth edges between several objects.
    """
    smooth = False
    if palette:
        mask, smooth = sharpen(mask, where)
    counts = areas(mask)
    if counts_binary(counts):
        return Objects([(mask == VOID).astype(np.uint8)], _SMOOTH if smooth else "")
    ids = ids_counted(counts)
    filled = _filled(mask)
    labels = ids and ids[-1] <= _MOST_LABELS and 4 * filled[ids].sum() >= counts[ids].sum()
    if palette or labels or mask.max() <= 1:
        note = "255 in a grey mask with labels is void" if counts[VOID] and not palette else ""
        return Objects([(mask == i).astype(np.uint8) for i in ids], _SMOOTH if smooth else note)
    if mask.max() <= _HALF:
        raise DataError(
            f"{where}: expected 0/1 or 0/255 in a grey mask, for one object, found values up to "
            f"{mask.max()}; save object ids as a palette PNG"
        )
    between = filled[_NEAR + 1 : int(mask.max()) - _NEAR].max(initial=0)
    several = between >= _SHARE * mask.size
    return Objects(
        [(mask > _HALF).astype(np.uint8)],
        "grey mask of several levels, cut at half brightness" if several else "",
    )


_HALF, _MOST_LABELS = 127, 20
_SMOOTH = "smooth edges, thresholded at half"
_NEAR, _SHARE = 15, 0.01  # a level of its own: so far from dark and bright, that share of the image


def _filled(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the pixels of each value whose eight neighbours have it too; (256,) int64."""
    square = np.ones((3, 3), np.uint8)
    return areas(mask[cv2.erode(mask, square) == cv2.dilate(mask, square)])


def _read_mask(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """Decode a mask and return whether it has a palette."""
    data = read_file(path)
    header = png_header(data)
    return decode_mask(data, str(path)), header is not None and header.palette
