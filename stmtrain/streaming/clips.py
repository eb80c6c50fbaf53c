"""From a sample to a training clip: which frames and objects are used, and how they may vary.

Pure functions of a record and an rng; no pixel is touched. ``warps.py`` and ``colour.py`` draw the
warps and colours of a clip, and ``augment.py`` applies them.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise

import numpy as np

from stmtrain.images.masks import MAX_OBJECT_ID
from stmtrain.settings import setting
from stmtrain.shards.sample import SampleRecord

REFERENCE_SIZE = 384
"""Training crop of the paper, pixels. Recipes state lengths at this size; others scale them."""

NO_CLIP = "no training clip"
"""How the notes on samples begin from which no clip can be cut."""

MASK_STRIDE = "mask_stride"
"""Key of a record's ``origin`` that states :func:`mask_stride`."""

_TRIES = 8
_NUMBERED = re.compile(r"(|.*[^0-9])([0-9]{1,12})")
"""A frame name that ends in a number, of fewer digits than a time stamp in nanoseconds."""


@dataclass(frozen=True)
class ClipRecipe:
    """How a clip is drawn from a sample; "px" is a pixel of a 384 crop and scales with the crop.

    The defaults are stage 2 of the published re-training of STM. It does not change colours; the
    light colour jitter is that of STCN (Cheng et al. 2021).
    """

    frames: int = setting(3, "frames of a clip (paper, section 3.4)")
    max_objects: int = setting(5, "objects of a clip, chosen at random (published re-training)")
    min_area: int = setting(100, "px that an object has in the first frame to be chosen")
    reverse: float = setting(0.0, "probability of reversed time (0.5 in STCN, XMem and Cutie)")
    flip: float = setting(0.5, "probability of a horizontal flip, all frames alike")
    warp: float = setting(0.5, "probability of each warp below, per frame, in random order")
    rotate: float = setting(30.0, "largest rotation about the frame's centre, degrees")
    shear: float = setting(15.0, "largest shear, degrees")
    translate: float = setting(15.0, "largest shift in x and in y, px")
    scale: tuple[float, float] = setting((0.8, 1.2), "range of the factor on both axes")
    short_side: float = setting(1.25, "short side of the frame in crop sides: 480 px for 384")
    rescale: tuple[float, float] = setting((0.8, 1.1), "range of a factor common to all frames")
    drift: float = setting(20.0, "largest shift of a later frame's crop in x and in y, px")
    brightness: float = setting(0.1, "largest relative change, all frames alike (STCN)")
    contrast: float = setting(0.03, "largest relative change about mid grey, all frames alike")
    saturation: float = setting(0.03, "largest relative change, all frames alike (STCN)")
    hue: float = setting(0.0, "largest rotation about the grey axis, degrees, all frames alike")
    frame_jitter: float = setting(0.01, "the first three again, drawn for each frame (STCN)")
    greyscale: float = setting(0.05, "probability of a clip without colour (STCN)")

    def __post_init__(self) -> None:
        """Raise ValueError for values outside their ranges."""
        for name in ("flip", "reverse", "warp", "greyscale"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in 0..1, found {getattr(self, name)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and not 0 < value[0] <= value[1]:
                raise ValueError(f"{field.name} must be two ascending positive numbers: {value}")
            if not isinstance(value, tuple) and not 0 <= value < math.inf:
                raise ValueError(f"{field.name} must not be negative, found {value}")
        if self.frames < 1 or not 1 <= self.max_objects <= MAX_OBJECT_ID or self.short_side <= 0:
            raise ValueError("frames, max_objects (to 254) and short_side must be positive")


VIDEO = ClipRecipe()
"""Stage 2: clips of real videos (DAVIS 480p, YouTube-VOS at short side 480)."""

PSEUDO = ClipRecipe(
    min_area=350,  # the rule by which the published re-training chooses objects in stage 1
    reverse=0.5,
    warp=0.0,
    short_side=1.0,
    rescale=(1.0, 1.0),
    drift=0.0,
)
"""Stage 1: clips that were warped when they were packed; flip, direction of time, light colour."""


@dataclass(frozen=True)
class ClipChoice:
    """The frame names of a clip in training order, and the object ids of slots 1, 2, ..."""

    frames: tuple[str, ...]
    object_ids: tuple[int, ...]


class NoClipError(ValueError):
    """No clip can be cut from a sample, which is sound otherwise."""


def why_no_clip(record: SampleRecord, frames: int = ClipRecipe.frames) -> str | None:
    """Return why no clip of so many frames can be cut from a sample; None if one can.

    A clip starts in a frame that shows an object, and runs forward or backward through frames with
    a mask. Packing names the samples of which this is not possible, and training passes over them.
    """
    last = len(record.mask_frames) - 1
    if last + 1 < frames:
        return f"{NO_CLIP}: fewer than {frames} frames with a mask"
    starts = (t for areas in record.areas for t, area in enumerate(areas) if area)
    if any(max(t, last - t) >= frames - 1 for t in starts):
        return None
    return f"{NO_CLIP}: no object in a frame that a clip can start with"


def choose_clip(
    record: SampleRecord, recipe: ClipRecipe, max_skip: int, rng: np.random.Generator
) -> ClipChoice:
    """Choose the frames and objects of one clip; only frames with a mask are used.

    ``max_skip`` counts frames of the video at its own rate, using :func:`mask_stride`: YouTube-VOS
    has a mask on every fifth frame, so a ``max_skip`` of 25 skips up to 4 masks there (the
    published re-training divides by 5 and skips 5 masks, which are 29 frames). Neighbouring masks
    are always allowed.

    At least one object is visible in the first frame: :func:`sample_frames` draws frames a few
    times; if none of these clips starts with an object, the start is drawn among the frames that
    show one. Objects that are not visible in the first frame with an area of at least
    ``recipe.min_area`` become background in the complete clip. If no frame shows an object of that
    size, any visible object counts.

    Raises:
        NoClipError: No clip can be cut from the sample; see :func:`why_no_clip`.

    Example:
        >>> record = SampleRecord("a", 9, 9, ("0", "1", "2"), ("0", "1", "2"), (4, 7),
        ...                   ((0, 9, 9), (9, 9, 0)), (9, 9))
        >>> choose_clip(record, VIDEO, 0, np.random.default_rng(0))
        ClipChoice(frames=('0', '1', '2'), object_ids=(7,))
    """
    reason = why_no_clip(record, recipe.frames)
    if reason is not None:
        raise NoClipError(reason)
    if max_skip:
        max_skip = max(0, (max_skip + 1) // mask_stride(record) - 1)
    in_crop = min(record.height, record.width) / (recipe.short_side * REFERENCE_SIZE)
    largest = [max(areas) for areas in zip(*record.areas, strict=True)]  # of each frame's objects
    for least in (max(1.0, recipe.min_area * in_crop**2), 1.0):
        visible = [area >= least for area in largest]
        frames = _frames_from_visible(visible, recipe, max_skip, rng)
        if frames is not None:
            areas = [row[frames[0]] for row in record.areas]
            chosen = choose_objects(areas, recipe.max_objects, least, rng)
            return ClipChoice(
                tuple(record.mask_frames[f] for f in frames),
                tuple(record.object_ids[o] for o in chosen),
            )
    raise AssertionError("a frame with an object can start a clip")


def sample_frames(
    num_frames: int,
    clip_length: int,
    *,
    max_skip: int,
    rng: np.random.Generator,
    reverse: float = 0.0,
) -> list[int]:
    """Choose the frames of one training clip.

    The gap between neighbours is uniform in ``[1, 1 + max_skip]``. If a video is too short for the
    longest clip, the upper end is lowered until every clip fits. The start is uniform.
    Reference: Oh et al. 2019, section 3.4 ("maximum of 25 frames to be skipped").

    Args:
        num_frames: Frames in the video, >= ``clip_length``.
        clip_length: Frames of the clip, >= 1.
        max_skip: Most frames skipped between neighbours, >= 0; 0 takes consecutive frames.
        rng: Source of every random choice; the caller owns the seed.
        reverse: Probability of backward time.

    Returns:
        ``clip_length`` positions in ``[0, num_frames)``, strictly increasing, or strictly
        decreasing if time is reversed.

    Raises:
        ValueError: The video is shorter than the clip.

    Example:
        >>> sample_frames(5, 5, max_skip=9, rng=np.random.default_rng(0))
        [0, 1, 2, 3, 4]
    """
    if num_frames < clip_length:
        raise ValueError(f"expected at least {clip_length} frames, found {num_frames}")
    gaps = _draw_gaps(num_frames - 1, clip_length, max_skip, rng)
    start = int(rng.integers(num_frames - sum(gaps)))
    frames = list(accumulate(gaps, initial=start))
    return frames[::-1] if rng.random() < reverse else frames


def mask_stride(record: SampleRecord) -> int:
    """Return the median distance from one mask to the next, in frames of the video.

    It is stated where only frames with a mask were packed. Otherwise it is that of
    :func:`median_stride`.

    Example:
        >>> names = ("00000", "00005", "00010")
        >>> mask_stride(SampleRecord("a", 9, 9, names, names, (), (), (9, 9)))
        5
    """
    stated = record.origin.get(MASK_STRIDE)
    if isinstance(stated, int) and stated >= 1:
        return stated
    return median_stride(record.mask_frames, record.frames)


def median_stride(masked: Sequence[str], frames: Sequence[str]) -> int:
    """Return the median distance from one masked frame to the next, at least 1.

    Names that differ in one number at their end are frame numbers, even where the frames between
    the masks are not distributed. The distance of other names, time stamps among them, is that of
    their positions in ``frames``.
    """
    found = [_NUMBERED.fullmatch(name) for name in masked]
    if all(found) and len({match[1] for match in found if match}) == 1:
        places = [int(match[2]) for match in found if match]
    else:
        place = {name: i for i, name in enumerate(frames)}
        places = [place[name] for name in masked]
    gaps = sorted(later - earlier for earlier, later in pairwise(places))
    return max(1, gaps[len(gaps) // 2]) if gaps else 1


def choose_objects(
    areas: Sequence[int], max_objects: int, min_area: float, rng: np.random.Generator
) -> list[int]:
    """Choose at most ``max_objects`` positions with ``areas >= min_area``, in ascending order."""
    large = [number for number, area in enumerate(areas) if area >= min_area]
    if len(large) > max_objects:
        large = sorted(rng.choice(large, max_objects, replace=False).tolist())
    return large


def _frames_from_visible(
    visible: Sequence[bool], recipe: ClipRecipe, max_skip: int, rng: np.random.Generator
) -> list[int] | None:
    """Draw frames so that the first is visible; None if no clip can start with a visible frame."""
    last, clip = len(visible) - 1, recipe.frames
    if not any(visible):
        return None
    for _ in range(_TRIES):
        frames = sample_frames(last + 1, clip, max_skip=max_skip, rng=rng, reverse=recipe.reverse)
        if visible[frames[0]]:
            return frames
    # Objects are rarely visible: draw the start first. Time runs against the drawn direction only
    # where objects appear so late, or vanish so early, that no clip could start with one otherwise.
    backward = rng.random() < recipe.reverse
    for direction in (-1, 1) if backward else (1, -1):
        room = np.arange(last + 1) if direction < 0 else np.arange(last, -1, -1)
        starts = np.flatnonzero(np.array(visible) & (room >= clip - 1))
        if len(starts):
            start = int(rng.choice(starts))
            gaps = _draw_gaps(int(room[start]), clip, max_skip, rng)
            return list(accumulate((direction * gap for gap in gaps), initial=start))
    return None


def _draw_gaps(room: int, clip_length: int, max_skip: int, rng: np.random.Generator) -> list[int]:
    """Draw uniform gaps from 1 to the largest with which every clip fits into ``room`` frames."""
    widest = min(1 + max_skip, room // max(1, clip_length - 1))
    if widest <= 1:  # NumPy would take 7 µs for the same result, and draw no random bits either
        return [1] * (clip_length - 1)
    return [int(gap) for gap in rng.integers(1, widest, clip_length - 1, endpoint=True)]
