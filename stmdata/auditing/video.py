"""Check one video: every frame and every mask is read once."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np

from stmdata.auditing.duplicates import evenly
from stmdata.auditing.finding import ERROR, NOTE, WARNING, Finding
from stmdata.auditing.fingerprint import SIDE, Thumbs, misplaced
from stmdata.auditing.mask_checks import MaskChecks
from stmdata.auditing.outlines import outside
from stmdata.auditing.places import Places
from stmdata.auditing.reading import AnyVideo, Size, deep_values, mask_bytes, read_thumb
from stmtrain.datasets.files import natural_key
from stmtrain.datasets.packed import ShardVideo
from stmtrain.datasets.video import Video
from stmtrain.errors import DataError
from stmtrain.images.decode import decode_mask
from stmtrain.images.masks import sharpen
from stmtrain.streaming.clips import ClipRecipe

_REGULAR = 0.8
"""Least share of equal steps by which the others are gaps."""


@dataclass(frozen=True)
class VideoAudit:
    """What was found in a video.

    Attributes:
        where: Set and video.
        split: The split that it belongs to; empty if unknown.
        source: What it was made from, if several videos are made from one image.
        findings: What is wrong.
        frames: Frames that were read.
        masks: Masks that were read.
        thumbs: Thumbnails of frames spread over the video.
    """

    where: str
    split: str
    source: str
    findings: tuple[Finding, ...]
    frames: int
    masks: int
    thumbs: Thumbs

    @classmethod
    def unread(cls, where: str, split: str, finding: Finding) -> "VideoAudit":
        """Return the result of a video that cannot be opened."""
        return cls(where, split, "", (finding,), 0, 0, np.empty((0, SIDE, SIDE), np.uint8))


def audit_video(
    video: AnyVideo, where: str, split: str, *, late_expected: bool, own: bool
) -> VideoAudit:
    """Check a video.

    Args:
        video: Of a tree or of shards.
        where: Set and video, for the findings.
        split: The split that it belongs to; empty if unknown.
        late_expected: Whether objects may appear after the first mask in this data set.
        own: Whether masks of 0 and 255 show one object.
    """
    places = Places()
    thumbs, size = _check_frames(video, places)
    size = _annotated_size(video, size)
    checks = MaskChecks(places, binary=video.binary, own=own)
    for name in video.masks:
        _check_mask(video, name, size, checks, places)
    checks.finish(_listed_ids(video), late_expected=late_expected)
    _check_names(list(video.frames), list(video.masks), places)
    return VideoAudit(
        where,
        split,
        _source(video),
        places.findings(where),
        len(video.frames),
        len(video.masks),
        thumbs[evenly(len(thumbs))],
    )


def _check_frames(video: AnyVideo, places: Places) -> tuple[Thumbs, Size | None]:
    """Return the thumbnails of the frames that can be read, and the size of most of them."""
    names, sizes, thumbs = [], [], []
    for name in video.frames:
        try:
            size, thumb = read_thumb(video, name)
        except DataError as error:
            places.add("damaged", str(error), [name])
            continue
        names.append(name)
        sizes.append(size)
        thumbs.append(thumb)
    if not thumbs:
        return np.empty((0, SIDE, SIDE), np.uint8), None
    usual = Counter(sizes).most_common(1)[0][0]
    for name, size in zip(names, sizes, strict=True):
        if size != usual:
            text = f"frames of {size[1]}x{size[0]} px, most have {usual[1]}x{usual[0]}"
            places.add("size", text, [name])
    stacked = np.stack(thumbs)
    _check_order(stacked, names, places)
    return stacked, usual


def _annotated_size(video: AnyVideo, size: Size | None) -> Size | None:
    """Return the size that masks must have: that of frames as stored if only that fits."""
    try:
        return size[::-1] if size is not None and video.size() == size[::-1] else size
    except DataError:  # of the first frame, and reported
        return size


def _check_order(thumbs: Thumbs, names: Sequence[str], places: Places) -> None:
    found = misplaced(thumbs)
    for what, wrong, severity in (
        ("each looks like the neighbours of another of them", found.swapped, ERROR),
        ("looks like frames farther away, unlike its neighbours", found.single, WARNING),
    ):
        if wrong:
            places.add("order", what, [names[i] for i in wrong], severity)


def _check_mask(
    video: AnyVideo, name: str, size: Size | None, checks: MaskChecks, places: Places
) -> None:
    data, where = b"", ""
    try:
        data, where = mask_bytes(video, name)
        shapes = video.masks[name]
        if isinstance(shapes, Mapping) and size is not None:
            for kind, what in outside(shapes, size):
                places.add(kind, what, [name])
        mask = decode_mask(data, where) if data else video.read_mask(name)
    except DataError as error:
        largest = deep_values(data)
        if largest is None:
            places.add("damaged", str(error), [name])
        else:
            text = f"masks of more than 8 bits, with values up to {largest}, expected 1 to 254"
            places.add("ids", text, [name])
        return
    try:
        mask, smooth = sharpen(mask, where) if data else (mask, False)
    except DataError:
        text = "grey edges between several objects, whose ids are lost there"
        places.add("soft", text, [name], ERROR)
        return
    if smooth:
        places.add("soft", "grey edges", [name])
    checks.add(name, mask, size)


def _check_names(frames: Sequence[str], masks: Sequence[str], places: Places) -> None:
    """Check what the names of frames and masks state about time."""
    if frames != sorted(frames, key=natural_key):
        wrong = [b for a, b in pairwise(frames) if natural_key(a) > natural_key(b)]
        places.add("order", "frames that are not in the order of their numbers", wrong)
    fewest = ClipRecipe.frames
    if len(frames) < fewest:
        places.add("short", f"{len(frames)} of the {fewest} frames that a clip needs")
    elif len(masks) < fewest:
        text = f"{len(masks)} of the {fewest} masks that a clip needs"
        places.add("short", text, severity=NOTE)
    bare = _unmasked(frames, masks)
    if bare:
        places.add("unmasked", "no mask, unlike others", bare)
    numbers = [int(found[-1]) for name in frames if (found := re.findall("[0-9]+", name))]
    jumps = _gaps(numbers) if len(numbers) == len(frames) else []
    if jumps:
        places.add("gap", "numbers are missing after", [frames[place] for place in jumps])


def _unmasked(frames: Sequence[str], masks: Sequence[str]) -> list[str]:
    """Return the frames that lack a mask where nearly all have one, or one in so many."""
    masked = set(masks)
    if len(masks) >= _REGULAR * len(frames):
        return [name for name in frames if name not in masked]
    places = [place for place, name in enumerate(frames) if name in masked]
    ends = [(places[gap], places[gap + 1]) for gap in _gaps(places)]
    return [name for first, last in ends for name in frames[first + 1 : last]]


def _gaps(numbers: Sequence[int]) -> list[int]:
    """Return the places after which more is missing than elsewhere, if steps are else regular."""
    steps = np.diff(numbers)
    if len(steps) < 3:
        return []
    usual = int(median(steps))
    regular = float((steps == usual).mean())
    return np.flatnonzero(steps > usual).tolist() if regular >= _REGULAR else []


def _listed_ids(video: AnyVideo) -> list[int]:
    """Return the ids of the objects as the data set lists them; empty if it does not."""
    if video.binary:
        return []
    if isinstance(video, Video):
        return sorted({*video.first_seen, *video.required, *video.labels.values()})
    return sorted(video.first_seen) if "first_seen" in video.record.origin else []


def _source(video: AnyVideo) -> str:
    """Return the image that a pseudo-video was made from; empty for a real video."""
    origin = video.record.origin if isinstance(video, ShardVideo) else {}
    return f"{origin.get('dataset')} {origin['image']}" if "image" in origin else ""
