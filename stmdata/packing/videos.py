"""Data sets of videos to shards: which videos go into which shard, and what decides their bytes.

A shard takes several complete videos. The files of a data set are looked at one video after
another, so that memory does not grow with them; workers list them again when they pack a video.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from stmdata.packing.names import sample_keys
from stmdata.packing.pack import FaultyInputsError, Job, SetPlan
from stmdata.packing.video_samples import (
    ADVICE,
    JPEG_QUALITY,
    Frames,
    ManyObjects,
    NamedEntry,
    OnBadVideo,
    VideoMaker,
    is_jpeg,
)
from stmtrain.datasets.listing import Entry
from stmtrain.datasets.shapes import Overlap
from stmtrain.datasets.tree import open_dataset
from stmtrain.datasets.video import FilmFrame, Video
from stmtrain.errors import DataError, UsageError
from stmtrain.extras import require
from stmtrain.shards.sample import Skipped, canonical_json

SHARD_BYTES = 64 << 20
"""Source bytes after which a shard takes no further video; a longer video has its own shard."""
_FILM_GROWTH = 10
"""How many times larger the JPEGs of a video file are, about."""
_RESIZE_RANGE = (16, 8192)

_Files = list[tuple[str, str, int]]


def prepare_videos(
    layout: str,
    root: Path | str,
    split: str | None = None,
    resize: int | None = None,
    *,
    overlap: Overlap = "smaller",
    frames: Frames = "all",
    many_objects: ManyObjects = "refuse",
    options: Mapping[str, str] | None = None,
    shard_bytes: int = SHARD_BYTES,
    on_bad_video: OnBadVideo = "raise",
) -> SetPlan:
    """Plan the shards of a data set; :func:`~stmdata.packing.pack.pack` makes them.

    Frames without a mask and objects that appear late stay as they are. In a binary data set, any
    mask pixel above 0 is object 1. Object ids in 1..254 are kept; others get such ids, and the
    record has both.

    Args:
        layout: ``davis2017``, ``mose-v2``, ...: a name in
            :data:`stmtrain.datasets.dataset.DATASETS`, or ``auto`` to recognise it.
        root: The folder of the data set.
        split: One of its splits; ``None`` for everything that has masks.
        resize: Short side of the packed frames, pixels; ``None`` keeps size and JPEG bytes. STM
            trains at 480.
        overlap: Which object is on top where objects overlap.
        frames: Whether frames without a mask are packed.
        many_objects: What to do with a video of more than 254 objects: refuse it, or make several
            samples with some of them each.
        options: Options of the data set that differ from its defaults.
        shard_bytes: Size at which a shard is full, bytes of its source files.
        on_bad_video: Report all videos that cannot be used in one error: incomplete ones here,
            those with damaged files once all others are packed. Or skip and count them. This is
            no part of the configuration: a set that an error stopped resumes with ``skip``.

    Raises:
        UsageError: A value is out of range, or there is no such data set or split.
        DataError: The tree is incomplete, or not of this layout.

    Example:
        >>> plan = prepare_videos("davis2017", "DAVIS", "train")  # doctest: +SKIP
        >>> pack(plan, "shards/davis", workers=8).totals["samples"]  # doctest: +SKIP
        60
    """
    _check_options(resize, overlap, frames, many_objects, on_bad_video)
    root = Path(root)
    known = open_dataset(root, layout).dataset
    chosen = {**known.options, **(options or {})}
    listing = known.listing(root, split, overlap=overlap, options=chosen)
    survey = _survey(listing.entries)
    faults = survey.faults
    if faults and on_bad_video == "skip":
        survey = _survey(survey.usable)
    if faults and (on_bad_video == "raise" or not survey.usable):
        raise FaultyInputsError(faults, ADVICE if on_bad_video == "raise" else "no other is left")
    config: dict[str, Any] = {
        "dataset": known.name,
        "split": split,
        **chosen,
        "resize": resize,
        "jpeg_quality": JPEG_QUALITY if resize is not None or survey.others else None,
        "shard_bytes": shard_bytes,
        "source": _source(survey, faults, {p.relative_to(root): p for p in listing.sources}),
    }
    # Choices without which older sets were made are named only where they matter.
    config |= {"overlap": overlap} if known.form.overlaps else {}
    config |= {"frames": frames} if frames != "all" else {}
    config |= {"many_objects": many_objects} if many_objects != "refuse" else {}
    make = VideoMaker(known.name, known.own, resize, root, on_bad_video, frames, many_objects)
    notes = [make.left_out(name, fault) for name, fault in sorted(faults.items())]
    notes += [Skipped(name, why) for name, why in sorted(listing.left_out.items())]
    name = known.name if split is None else f"{known.name}-{split}"
    return SetPlan(config, _jobs(name, survey, shard_bytes, notes), make)


def _source(
    survey: "_Survey", faults: Mapping[str, str], annotations: Mapping[Path, Path]
) -> dict[str, Any]:
    """Return what a set is made of; any change of the tree shows in it."""
    sizes = {place.as_posix(): path.stat().st_size for place, path in annotations.items()}
    return {
        "videos": len(survey.usable),
        "frames": survey.frames,
        "masks": survey.masks,
        "sha256_of_names_and_sizes": survey.digest,
        **({"left_out": sorted(faults)} if faults else {}),
        **({"annotations": sizes} if sizes else {}),
    }


def _check_options(
    resize: int | None, overlap: str, frames: str, many_objects: str, on_bad_video: str
) -> None:
    low, high = _RESIZE_RANGE
    if resize is not None and not low <= resize <= high:
        raise UsageError(f"--resize: expected a short side of {low} to {high}, found {resize}")
    if resize is not None:
        require("cv2", "--resize")
    for option, kind, value in (
        ("overlap", Overlap, overlap),
        ("frames", Frames, frames),
        ("many-objects", ManyObjects, many_objects),
        ("on-bad-video", OnBadVideo, on_bad_video),
    ):
        if value not in get_args(kind):
            expected = " or ".join(get_args(kind))
            raise UsageError(f"--{option}: expected {expected}, found {value!r}")


@dataclass
class _Survey:
    """What there is to pack: small values per video, so that any number of them can be held."""

    usable: list[Entry] = field(default_factory=list)
    names: list[tuple[str, str]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    frames: int = 0
    masks: int = 0
    others: bool = False
    digest: str = ""
    faults: dict[str, str] = field(default_factory=dict)


def _survey(entries: Sequence[Entry]) -> _Survey:
    """Look at the files of all videos, one after another."""
    out = _Survey()
    digest = hashlib.sha256(b"[" + canonical_json([entry.name for entry in entries]) + b",[")
    for entry in entries:
        try:
            video = entry.open()
            files = _list_files(video)
        except DataError as error:
            out.faults[entry.name] = str(error)
            continue
        digest.update((b"," if out.usable else b"") + canonical_json(files))
        out.usable.append(entry)
        out.names.append((entry.split, video.name))
        out.sizes.append(sum(size * (_FILM_GROWTH if k == "film" else 1) for k, _, size in files))
        out.frames += len(video.frames)
        out.masks += len(video.masks)
        out.others |= not all(is_jpeg(place) for place in video.frames.values())
    digest.update(b"]]")
    out.digest = digest.hexdigest()
    return out


def _jobs(name: str, survey: _Survey, shard_bytes: int, notes: Sequence[Skipped]) -> list[Job]:
    """Put the videos into shards, and the notes into the first one."""
    keys = sample_keys(survey.names, reserve=4)
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in name)[:70]
    groups = _group(survey.sizes, shard_bytes)
    jobs = [
        Job(f"{plain}-{number:06d}", tuple(NamedEntry(survey.usable[i], keys[i]) for i in group))
        for number, group in enumerate(groups)
    ]
    jobs[0] = replace(jobs[0], items=(*notes, *jobs[0].items))
    return jobs


def _group(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Cut ``0..len(sizes)`` into runs of at most ``limit`` bytes, or of one that is larger."""
    if limit <= 0:
        raise UsageError(f"shard size: expected more than 0 bytes, found {limit}")
    groups: list[list[int]] = []
    total = 0
    for i, size in enumerate(sizes):
        if not groups or total + size > limit:
            groups.append([])
            total = 0
        groups[-1].append(i)
        total += size
    return groups


def _list_files(video: Video) -> _Files:
    """Return (kind, name, bytes) of a video's files; any change of the tree shows in these."""
    return [(kind, name, _bytes(path)) for kind, name, path in _paths(video)]


def _paths(video: Video) -> Iterator[tuple[str, str, Path]]:
    films: set[Path] = set()
    for name, place in video.frames.items():
        if isinstance(place, FilmFrame):
            films.add(place.path)
        else:
            yield "frame", name, place
    for name, mask in video.masks.items():
        if isinstance(mask, Path):
            yield "mask", name, mask
    yield from (("film", path.name, path) for path in sorted(films))
    yield from (("source", path.name, path) for path in video.sources)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the file") from None
