"""A video without faults, and faults as people meet them, each put in at a drawn place."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from stmtrain.images.encode import encode_frame, encode_mask

COUNT, HEIGHT, WIDTH = 16, 96, 128
Mask = NDArray[np.uint8]


@dataclass
class Film:
    """A video whose files can be changed before they are written."""

    frames: dict[str, bytes]
    masks: dict[str, bytes]

    def write(self, root: Path, name: str = "film") -> Path:
        for kind, suffix, files in (
            ("JPEGImages", "jpg", self.frames),
            ("Annotations", "png", self.masks),
        ):
            (root / kind / name).mkdir(parents=True)
            for frame, data in files.items():
                (root / kind / name / f"{frame}.{suffix}").write_bytes(data)
        return root

    def mask(self, t: int) -> Mask:
        return np.array(Image.open(io.BytesIO(self.masks[named(t)])))

    def paint(self, t: int, mask: Mask) -> None:
        self.masks[named(t)] = encode_mask(np.ascontiguousarray(mask))


def named(t: int) -> str:
    return f"{t:05d}"


@lru_cache
def _drawn(seed: int) -> tuple[NDArray[np.uint8], Mask]:
    """Draw two discs that pass each other while the camera moves to the right."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (12, 24, 3), dtype=np.uint8)
    wide = np.array(Image.fromarray(noise).resize((2 * WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames = np.stack([wide[:, 5 * t : 5 * t + WIDTH] for t in range(COUNT)])
    masks = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    for t in range(COUNT):
        for i, (row, column) in enumerate(((28, 20 + 3 * t), (68, 108 - 3 * t)), 1):
            disc = np.hypot(y - row, x - column) < 14
            masks[t][disc] = i
            frames[t][disc] = (230, 40, 40) if i == 1 else (40, 40, 230)
    return frames, masks


def clean_film(seed: int = 0) -> Film:
    frames, masks = _drawn(seed)
    return Film(
        {named(t): encode_frame(frame, 90) for t, frame in enumerate(frames)},
        {named(t): encode_mask(mask) for t, mask in enumerate(masks)},
    )


class Fault(NamedTuple):
    """The kind that must be reported, and the change, given a place 1..14 and a generator.

    The change returns a frame that the finding must name, or a text that it must contain.
    """

    kind: str
    inject: Callable[[Film, int, np.random.Generator], str]


def _one_frame(film: Film, t: int, _rng: np.random.Generator) -> str:
    film.frames, film.masks = ({named(t): files[named(t)]} for files in (film.frames, film.masks))
    return "1 of the 3"


def _mask_without_frame(film: Film, t: int, _rng: np.random.Generator) -> str:
    del film.frames[named(t)]
    return named(t)


def _frame_without_mask(film: Film, t: int, _rng: np.random.Generator) -> str:
    del film.masks[named(t)]
    return named(t)


def _small_frame(film: Film, t: int, _rng: np.random.Generator) -> str:
    image = Image.open(io.BytesIO(film.frames[named(t)])).resize((64, 48))
    film.frames[named(t)] = encode_frame(np.array(image), 90)
    return named(t)


def _small_mask(film: Film, t: int, _rng: np.random.Generator) -> str:
    film.paint(t, film.mask(t)[::2, ::2])
    return named(t)


def _deep_ids(film: Film, t: int, _rng: np.random.Generator) -> str:
    out = io.BytesIO()
    Image.fromarray(film.mask(t).astype(np.uint16) * 300).save(out, "PNG")
    film.masks[named(t)] = out.getvalue()
    return named(t)


def _swapped_ids(film: Film, t: int, _rng: np.random.Generator) -> str:
    for later in range(t, COUNT):
        film.paint(later, np.array([0, 2, 1], np.uint8)[film.mask(later)])
    return named(t)


def _new_id(film: Film, t: int, rng: np.random.Generator) -> str:
    object_id = int(rng.integers(3, 255))
    for later in range(t, COUNT):
        film.paint(later, np.array([0, 1, object_id], np.uint8)[film.mask(later)])
    return named(t)


def _specks(film: Film, t: int, rng: np.random.Generator) -> str:
    mask = film.mask(t)
    free = np.argwhere(mask == 0)
    for row, column in free[rng.choice(len(free), 3, replace=False)]:
        mask[row, column : column + 2] = np.maximum(mask[row, column : column + 2], 1)
    film.paint(t, mask)
    return named(t)


def _soft_grey(film: Film, _t: int, _rng: np.random.Generator) -> str:
    for place in range(COUNT):
        image = Image.fromarray(((film.mask(place) > 0) * 255).astype(np.uint8))
        out = io.BytesIO()
        image.filter(ImageFilter.GaussianBlur(2)).save(out, "PNG")
        film.masks[named(place)] = out.getvalue()
    return named(0)


def _no_object(film: Film, _t: int, _rng: np.random.Generator) -> str:
    for place in range(COUNT):
        film.paint(place, 0 * film.mask(place))
    return "no mask shows an object"


def _empty_first(film: Film, t: int, _rng: np.random.Generator) -> str:
    for place in range(t):
        film.paint(place, 0 * film.mask(place))
    return named(t)


def _late(film: Film, t: int, _rng: np.random.Generator) -> str:
    for place in range(t):
        film.paint(place, np.array([0, 1, 0], np.uint8)[film.mask(place)])
    return named(t)


def _truncated_frame(film: Film, t: int, rng: np.random.Generator) -> str:
    data = film.frames[named(t)]
    film.frames[named(t)] = data[: int(rng.integers(0, len(data) - 1))]
    return f"{named(t)}.jpg"


def _truncated_mask(film: Film, t: int, rng: np.random.Generator) -> str:
    data = film.masks[named(t)]
    film.masks[named(t)] = data[: int(rng.integers(0, len(data) - 12))]
    return f"{named(t)}.png"


def _outside(film: Film, t: int, rng: np.random.Generator) -> str:
    mask = film.mask(t)
    height, width = mask.shape
    down, right = (int(i) for i in rng.integers(5, 30, 2))
    mask = np.pad(mask, ((0, 40), (0, 40)))
    mask[height - 20 : height + down, width - 20 : width + right] = 1
    film.paint(t, mask)
    return named(t)


def _order(film: Film, t: int, rng: np.random.Generator) -> str:
    other = (t + int(rng.integers(5, COUNT - 5))) % COUNT
    for files in (film.frames, film.masks):
        files[named(t)], files[named(other)] = files[named(other)], files[named(t)]
    return named(t)


def _order_of_masks(film: Film, t: int, rng: np.random.Generator) -> str:
    other = (t + int(rng.integers(5, COUNT - 5))) % COUNT
    film.masks[named(t)], film.masks[named(other)] = film.masks[named(other)], film.masks[named(t)]
    return named(t)


FAULTS = {
    "one frame": Fault("short", _one_frame),
    "mask without frame": Fault("incomplete", _mask_without_frame),
    "frame without mask": Fault("unmasked", _frame_without_mask),
    "small frame": Fault("size", _small_frame),
    "small mask": Fault("size", _small_mask),
    "16-bit ids": Fault("ids", _deep_ids),
    "swapped ids": Fault("switch", _swapped_ids),
    "new id": Fault("switch", _new_id),
    "specks": Fault("crumbs", _specks),
    "soft grey": Fault("soft", _soft_grey),
    "no object": Fault("invisible", _no_object),
    "empty first mask": Fault("empty-first", _empty_first),
    "late object": Fault("late", _late),
    "truncated frame": Fault("damaged", _truncated_frame),
    "truncated mask": Fault("damaged", _truncated_mask),
    "outside": Fault("outside", _outside),
    "swapped frames": Fault("order", _order),
    "swapped masks": Fault("order", _order_of_masks),
}
"""Every fault by name."""
