"""Evaluate a checkpoint: videos, inference, palette PNGs, J and F, ``results.json``."""

import hashlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stmtrain.datasets.video import VideoSource
from stmtrain.datasets.video_set import VideoSet, given_objects
from stmtrain.errors import DataError
from stmtrain.images.masks import resample_mask
from stmtrain.inference.options import DEFAULT, Inference
from stmtrain.inference.overlap import decode_ahead, writing_behind
from stmtrain.inference.results import ResultsFolder, VideoRecord, write_mask
from stmtrain.inference.segment import segment_video
from stmtrain.inference.summary import Evaluation, add_up, protocol_of, write_results
from stmtrain.model import STM
from stmtrain.scoring.score import score_results
from stmtrain.scoring.scores import RESULTS_NAME
from stmtrain.scoring.submission import check_export_path, write_submission
from stmtrain.weights.checkpoint import load_model_and_origin

__all__ = ["Tally", "evaluate", "predict_video"]

Report = Callable[[int, int, str], None]
"""Called with (frames done, frames in all, video name)."""


@dataclass
class Tally:
    """Where the time of a video went, seconds: in the network, and waiting for its frames."""

    network: float = 0.0
    waiting: float = 0.0


def evaluate(
    checkpoint: Path,
    videos: VideoSet,
    out: Path,
    *,
    device: torch.device,
    options: Inference = DEFAULT,
    overwrite: bool = False,
    export: Path | None = None,
    workers: int = 1,
    report: Report | None = None,
) -> Evaluation:
    """Segment every video from its given masks, write the PNGs, score them where that is possible.

    ``out`` gets ``<video>/<frame>.png``, the layout that the official tools read, ``results.json``,
    and ``evaluation.json``. An evaluation that was stopped is continued by the same call: videos
    that are finished are kept.

    Args:
        checkpoint: Ours, or published STM weights.
        videos: From :mod:`stmtrain.datasets.video_set`.
        out: Folder of the results.
        device: Where the network runs.
        options: Of inference.
        overwrite: Replace the results of other settings.
        export: Also write the zip that the benchmark's server takes.
        workers: Processes that score.
        report: Told how far it is.

    Raises:
        CheckpointError: The weights do not fit any backbone.
        DataError: A frame or mask is broken, or frames of a video differ in size.
        UsageError: ``out`` holds results of other settings.
    """
    if export is not None:
        check_export_path(export)
    warnings = _warnings(videos)
    model, origin = load_model_and_origin(checkpoint)
    model.to(device).eval()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    settings = {
        "dataset": videos.dataset,
        "videos_sha256": videos.identity(),
        "checkpoint_sha256": _sha256(checkpoint),
        "device": device.type,
        **asdict(options),
    }
    names = [video.name for video in videos.videos]
    with ResultsFolder.begin(out, settings, names, overwrite=overwrite) as folder:
        kept = _segment_all(model, videos, folder, options, device, report)
        why_not = videos.why_not_scored()
        scores = None
        if why_not is None:
            scores = score_results(out, videos, workers)
            scores = replace(scores, memory_every=options.memory_every)
        protocol = protocol_of(videos, options, origin, device, scores, why_not)
        evaluation = add_up(folder.done.values(), scores, protocol, warnings, kept)
        if export is not None:
            write_submission(export, out, videos)
        write_results(out / RESULTS_NAME, evaluation)
    return evaluation


def predict_video(
    model: STM, video: VideoSource, options: Inference = DEFAULT, tally: Tally | None = None
) -> Iterator[tuple[str, NDArray[np.uint8], float]]:
    """Segment one video; yields frame name, (H, W) uint8 ids, and the network's seconds.

    Masks are read only in the frames that give objects, and of each only the objects that it gives:
    those that the protocol does not show to a method stay unread. Frames are decoded ahead, in
    threads; waiting for them is not counted as the network's time.

    Raises:
        DataError: A frame or mask is broken, or frames differ in size.
    """
    tally = Tally() if tally is None else tally
    names = list(video.frames)
    masks = _GivenMasks(video, given_objects(video)[0])
    frames = _timed(decode_ahead(_frame_reader(video), names), tally)
    labels = segment_video(model, frames, masks, options, length=len(names))
    for name in names:
        began, waited = time.perf_counter(), tally.waiting
        mask = next(labels)
        seconds = time.perf_counter() - began - (tally.waiting - waited)
        tally.network += seconds
        yield name, mask, seconds


@dataclass(frozen=True)
class _GivenMasks(Mapping[int, NDArray[np.uint8]]):
    """The masks that a method is given, by frame index; read when they are asked for."""

    video: VideoSource
    given: Mapping[int, tuple[int, ...]]
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", list(self.video.frames))

    def __getitem__(self, t: int) -> NDArray[np.uint8]:
        ids = self.given[t]
        mask = self.video.read_mask(self.names[t])
        return np.where(np.isin(mask, ids), mask, 0).astype(np.uint8)

    def __contains__(self, t: object) -> bool:
        return t in self.given  # without reading the mask, as the mapping's own would

    def __iter__(self) -> Iterator[int]:
        return iter(self.given)

    def __len__(self) -> int:
        return len(self.given)


def _frame_reader(video: VideoSource) -> Callable[[str], NDArray[np.uint8]]:
    """Return what decodes a frame by its name and checks its size."""
    size = video.size()

    def read(name: str) -> NDArray[np.uint8]:
        frame = video.read_frame(name)
        if frame.shape[:2] != size:
            raise DataError(
                f"video {video.name!r}, frame {name!r}: expected {size[1]}x{size[0]} pixels like "
                f"the first frame, found {frame.shape[1]}x{frame.shape[0]}; the frames of a video "
                "must have one size"
            )
        return frame

    return read


def _timed(frames: Iterator[NDArray[np.uint8]], tally: Tally) -> Iterator[NDArray[np.uint8]]:
    while True:
        began = time.perf_counter()
        frame = next(frames, None)
        tally.waiting += time.perf_counter() - began
        if frame is None:
            return
        yield frame


def _segment_all(
    model: STM,
    videos: VideoSet,
    folder: ResultsFolder,
    options: Inference,
    device: torch.device,
    report: Report | None,
) -> int:
    """Segment the videos that are not finished; return how many were."""
    done = kept = 0
    for video in videos.videos:
        exported = videos.protocol.exported(video)
        if folder.finished(video.name, exported):
            done, kept = done + len(video.frames), kept + 1
            continue
        tally, began = Tally(), time.perf_counter()
        size = video.original_size()
        with folder.video(video.name) as part, writing_behind() as later:
            wanted = set(exported)
            for name, mask, _ in predict_video(model, video, options, tally):
                if name in wanted:
                    fitting = mask if mask.shape == size else resample_mask(mask, size)
                    later(write_mask, part / f"{name}.png", fitting)
                done += 1
                if report is not None:
                    report(done, videos.frames, video.name)
        seconds = time.perf_counter() - began
        folder.record(
            video.name,
            VideoRecord(len(video.frames), tally.network, seconds, _peak_memory(device)),
        )
    return kept


def _warnings(videos: VideoSet) -> tuple[str, ...]:
    """Look at every mask that will be given, before the first frame is segmented."""
    warnings = []
    misfits = videos.misfits
    if misfits:
        warnings.append(
            f"{len(misfits)} masks differ from their frame by a pixel or two and were "
            f"sampled at its size: {', '.join(misfits)}"
        )
    for video in videos.videos:
        for object_id in given_objects(video)[1]:
            what = f"object {object_id} is in no mask" if object_id else "no object is given"
            warnings.append(f"video {video.name}: {what}; it stays background")
    return tuple(warnings)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
