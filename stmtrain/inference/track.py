"""Track objects through the user's own video: masks in, masks and an overlay film out.

Frames are streamed: one is read while another is segmented and an earlier one is written, and none
is held longer. If the network's memory is limited, an hour of video needs no more memory than a
minute.
"""

import json
import time
from array import array
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stmtrain.errors import DataError, UsageError
from stmtrain.extras import has_extra
from stmtrain.files import remove_temporaries, write_whole
from stmtrain.images.masks import areas
from stmtrain.inference.film import FILM_NAME, FOLDER_NAME, Draw, film, pictures
from stmtrain.inference.options import Inference, options_in_words
from stmtrain.inference.overlap import iterate_ahead, writing_behind
from stmtrain.inference.own_masks import GivenMasks, annotated_size, read_masks
from stmtrain.inference.own_video import OwnFrames, open_frames
from stmtrain.inference.results import write_mask
from stmtrain.inference.segment import segment_video
from stmtrain.model import STM
from stmtrain.processes import Progress
from stmtrain.weights.checkpoint import load_model_and_origin

MASKS_NAME, SUMMARY_NAME = "masks", "summary.json"

_FOLDER_RATE = Fraction(25)

Frame = NDArray[np.uint8]


@dataclass
class Tracked:
    """Where the objects were seen, frame by frame.

    Attributes:
        names: Frame names.
        areas: Object id to its pixels in each frame.
        seconds: Time from the first frame to the last, including reading and writing.
        summary: Content of ``summary.json``.
    """

    names: list[str]
    areas: dict[int, "array[int]"]
    seconds: float = 0.0
    summary: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, mask: Frame) -> None:
        """Count the pixels of every object in one more frame."""
        counts = areas(mask)
        self.names.append(name)
        for object_id, own in self.areas.items():
            own.append(int(counts[object_id]))

    def lines(self) -> list[str]:
        """Describe what was found, one line per object."""
        out = []
        for object_id, found in self.summary["objects"].items():
            runs = found["seen"]
            where = ", ".join(f"{a} to {b}" if a != b else a for a, b in runs[:4]) or "none"
            if len(runs) > 4:
                where += f" and {len(runs) - 4} more times"
            out.append(
                f"object {object_id}: seen in {found['frames_seen']} of {len(self.names)} frames: "
                f"{where}"
            )
        return out


def track(
    checkpoint: Path,
    source: Path,
    masks: Sequence[str],
    out: Path,
    *,
    device: torch.device,
    options: Inference,
    overlay: bool = True,
    rate: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Tracked:
    """Segment a video from the masks of some of its frames.

    ``out`` gets ``masks/<frame>.png``, the overlay (``overlay.mp4``, or ``overlay/<frame>.jpg`` if
    PyAV is not installed) and, last, ``summary.json``: if that exists, the rest is complete. An
    interrupted run leaves the masks that it has written, each complete; its film is removed. It
    cannot be resumed, since the network's memory is lost: run it again with ``overwrite``.

    Args:
        checkpoint: Checkpoint of ``stm train``, or published STM weights.
        source: Folder of images or video file.
        masks: ``FILE`` for the first frame, ``FRAME=FILE`` for another.
        out: Folder of the results.
        device: Where the network runs.
        options: Options of inference; a video smaller than ``size`` is not enlarged.
        overlay: Whether to draw the overlay.
        rate: Frames per second of the film; ``None`` is the video's own, 25 for a folder.
        overwrite: Replace an earlier run's results.
        progress: Called after each frame, with its name.

    Raises:
        UsageError: ``out`` is not empty, or a mask's frame is not in the video.
        DataError: Frames or masks are missing, damaged or do not fit each other.
    """
    if rate is not None and not 0 < rate <= 1000:
        raise UsageError(f"--fps {rate}: expected frames per second, above 0 and up to 1000")
    frames = open_frames(source)
    pairs = frames.open(annotated_size(masks, frames))
    first = next(pairs)
    size = (first[1].shape[0], first[1].shape[1])
    given = read_masks(masks, frames, size)
    options = _never_larger(options, size)
    model, origin = load_model_and_origin(checkpoint)
    model.to(device).eval()
    _prepare(out, overwrite)
    drawing = _drawing(out, frames, rate) if overlay else nullcontext(None)
    tracked = Tracked([], {i: array("Q") for i in sorted(given.given_in)})
    began = time.perf_counter()
    with drawing as draw, writing_behind(most=4) as later:
        pairs = chain([first], pairs)
        for name, frame, mask in _segmented(model, pairs, given, options, frames.length):
            later(write_mask, out / MASKS_NAME / f"{name}.png", mask)
            if draw is not None:
                later(draw, name, frame, mask)
            tracked.add(name, mask)
            if progress is not None:
                progress(len(tracked.names), frames.length or 0, name)
    tracked.seconds = time.perf_counter() - began
    _refuse_unreached(given, tracked, source)
    tracked.summary = _summary(tracked, frames, given, size, options, origin, rate)
    _write_summary(out / SUMMARY_NAME, tracked.summary)
    return tracked


def _segmented(
    model: STM,
    pairs: Iterator[tuple[str, Frame]],
    given: GivenMasks,
    options: Inference,
    length: int | None,
) -> Iterator[tuple[str, Frame, Frame]]:
    """Yield name, frame and mask; frames are held only while the network works on them."""
    inside: deque[tuple[str, Frame]] = deque()

    def pixels() -> Iterator[Frame]:
        for pair in iterate_ahead(pairs):
            inside.append(pair)
            yield pair[1]

    for mask in segment_video(model, pixels(), given.masks, options, length=length):
        yield (*inside.popleft(), mask)


def _never_larger(options: Inference, size: tuple[int, int]) -> Inference:
    """Remove a size that would enlarge the video."""
    if options.size is None or options.size < min(size):
        return options
    return replace(options, size=None)


def _drawing(out: Path, frames: OwnFrames, rate: float | None) -> AbstractContextManager[Draw]:
    if not has_extra("video"):
        return pictures(out)
    return film(out, _rate(frames, rate))


def _rate(frames: OwnFrames, rate: float | None) -> Fraction:
    chosen = frames.rate or _FOLDER_RATE if rate is None else Fraction(rate)
    return chosen.limit_denominator(1001)


def _prepare(out: Path, overwrite: bool) -> None:
    """Create the folders and remove the files of an earlier run, and no others."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: expected a folder for the results, found a file")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        complete = (out / SUMMARY_NAME).exists()
        what = "an earlier run is already complete here" if complete else "the folder is not empty"
        raise UsageError(
            f"{out}: {what}; choose another one, or replace an earlier run's results with "
            "--overwrite"
        )
    for pattern in (f"{MASKS_NAME}/*.png", f"{FOLDER_NAME}/*.jpg", FILM_NAME, SUMMARY_NAME):
        for path in out.glob(pattern):
            path.unlink()
    (out / MASKS_NAME).mkdir(parents=True, exist_ok=True)
    for folder in (out, out / MASKS_NAME):
        remove_temporaries(folder)


def _refuse_unreached(given: GivenMasks, tracked: Tracked, source: Path) -> None:
    """Refuse masks of frames after the end, which may be known only then."""
    late = [(t, path) for t, path in given.given_in.values() if t >= len(tracked.names)]
    if late:
        raise DataError(
            f"{source}: has {len(tracked.names)} frames, and {late[0][1]} is for frame "
            f"{late[0][0]}; frames are numbered from 0"
        )


def _summary(
    tracked: Tracked,
    frames: OwnFrames,
    given: GivenMasks,
    size: tuple[int, int],
    options: Inference,
    origin: Mapping[str, Any],
    rate: float | None,
) -> dict[str, Any]:
    count = len(tracked.names)
    inference = asdict(options)
    return {
        "source": frames.path.name,
        "frames": count,
        "width": size[1],
        "height": size[0],
        "fps": float(_rate(frames, rate)),
        "frames_per_second": count / tracked.seconds,
        "inference": {**inference, "in_words": options_in_words(inference)},
        "checkpoint": dict(origin),
        "warnings": [*given.warnings, *frames.notes],
        "objects": {
            str(i): {
                "given_in": tracked.names[given.given_in[i][0]],
                "mask": given.given_in[i][1].name,
                "frames_seen": sum(area > 0 for area in own),
                "seen": [(tracked.names[a], tracked.names[b]) for a, b in _runs(own)],
                "areas": list(own),
            }
            for i, own in tracked.areas.items()
        },
    }


def _write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write JSON with one line per entry: an hour has a hundred thousand areas per object."""
    objects = ",\n".join(f'  "{i}": {json.dumps(found)}' for i, found in summary["objects"].items())
    others = [f' "{key}": {json.dumps(v)}' for key, v in summary.items() if key != "objects"]
    text = "{\n" + ",\n".join([*others, f' "objects": {{\n{objects}\n }}']) + "\n}\n"
    write_whole(path, text)


def _runs(areas: Sequence[int]) -> list[tuple[int, int]]:
    """Return first and last index of each run of frames in which an object has pixels.

    Example:
        >>> _runs([0, 3, 1, 0, 2])
        [(1, 2), (4, 4)]
    """
    edges = np.flatnonzero(np.diff(np.array([0, *(area > 0 for area in areas), 0])))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]
