"""The masks that a user gives for their own video: which object in which frame. Free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmtrain.datasets.misfit import is_misfit, mask_size
from stmtrain.errors import DataError, UsageError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_mask
from stmtrain.images.masks import MAX_OBJECT_ID, ids_present, is_binary, resample_mask, sharpen
from stmtrain.inference.own_video import OwnFrames


@dataclass(frozen=True)
class GivenMasks:
    """What the network is given.

    Attributes:
        masks: Frame index to (H, W) uint8 ids, in time order.
        given_in: Object id to frame index and mask file that gives it; later ones correct it.
        warnings: Masks that were resampled to the size of their frame, or thresholded.
    """

    masks: dict[int, NDArray[np.uint8]]
    given_in: dict[int, tuple[int, Path]]
    warnings: tuple[str, ...]


def read_masks(texts: Sequence[str], frames: OwnFrames, size: tuple[int, int]) -> GivenMasks:
    """Read masks given as ``FILE`` (of the first frame) or ``FRAME=FILE``.

    In a palette or grey PNG, the value of a pixel is the id of its object. A mask that has only the
    values 0 and 255 is one object, which gets the lowest free id; smooth edges of
    one object are thresholded. Several masks of one frame are combined; where they overlap, the one
    given first wins.

    Args:
        texts: As the user typed them.
        frames: The video.
        size: (height, width) of its frames.

    Raises:
        UsageError: There is no mask, or one of a frame that the video does not have.
        DataError: A mask is damaged, empty, of another size, or gives an object again in a frame.
    """
    read = [(t, path, *_read_mask(path, size)) for t, path in _placed(texts, frames)]
    taken = {i for _, _, mask, _ in read if not is_binary(mask) for i in ids_present(mask)}
    masks: dict[int, NDArray[np.uint8]] = {}
    given_in: dict[int, tuple[int, Path]] = {}
    for t, path, mask, _ in read:
        if is_binary(mask):
            free = _free_id(taken, path)
            taken.add(free)
            mask = np.where(mask > 0, free, 0).astype(np.uint8)
        ids = ids_present(mask)
        if not ids:
            raise DataError(
                f"{path}: expected an object, found background only; paint it with an id from 1"
            )
        above = masks.get(t, np.zeros_like(mask))
        for i in ids:
            if given_in.setdefault(i, (t, path)) != (t, path) and i in ids_present(above):
                raise DataError(
                    f"{path}: gives object {i}, which {given_in[i][1]} gives in the same frame; "
                    "remove that id from one of them"
                )
        masks[t] = np.where(above > 0, above, mask)
    return GivenMasks(masks, given_in, tuple(text for *_, warnings in read for text in warnings))


def annotated_size(texts: Sequence[str], frames: OwnFrames) -> tuple[int, int]:
    """Return (height, width) of the first mask, given and checked as in :func:`read_masks`."""
    return mask_size(_placed(texts, frames)[0][1])


def _placed(texts: Sequence[str], frames: OwnFrames) -> list[tuple[int, Path]]:
    """Return frame indices and mask files, in time order."""
    if not texts:
        raise UsageError("--mask: expected the mask of the first frame, found none")
    return sorted((_split(text, frames) for text in texts), key=lambda item: item[0])


def _split(text: str, frames: OwnFrames) -> tuple[int, Path]:
    """Return the frame index and the file of a mask."""
    name, equals, file = text.partition("=")
    if not equals or "/" in name or Path(text).is_file():
        return 0, Path(text)
    return frames.index(name), Path(file)


def _read_mask(path: Path, size: tuple[int, int]) -> tuple[NDArray[np.uint8], list[str]]:
    """Read a mask at the frames' size; also return warnings if it had to be changed."""
    mask, smooth = sharpen(decode_mask(read_file(path), str(path)), str(path))
    warnings = [f"{path} has smooth edges and was thresholded at half"] if smooth else []
    if is_misfit(path, mask.shape, size):
        found, wanted = (f"{width}x{height}" for height, width in (mask.shape, size))
        warnings.append(f"{path} has {found} pixels and was resampled to {wanted}")
        mask = resample_mask(mask, size)
    return mask, warnings


def _free_id(taken: set[int], path: Path) -> int:
    free = [i for i in range(1, MAX_OBJECT_ID + 1) if i not in taken]
    if not free:
        raise DataError(f"{path}: there are {MAX_OBJECT_ID} objects already and no free ids")
    return free[0]
