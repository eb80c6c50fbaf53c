"""Evaluate a checkpoint: segment videos, write palette PNGs, score them, ``results.json``."""

import hashlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stmtrain.datasets.files import some
from stmtrain.datasets.video import VideoSource
from stmtrain.datasets.video_set import VideoSet, given_objects
from stmtrain.errors import DataError
from stmtrain.files import open_regular
from stmtrain.images.masks import resample_mask
from stmtrain.inference.options import DEFAULT, Inference
from stmtrain.inference.overlap import decode_ahead, writing_behind
from stmtrain.inference.results import (
    OBJECT_IDS_NAME,
    ResultsFolder,
    VideoCost,
    write_json,
    write_mask,
)
from stmtrain.inference.segment import segment_video
from stmtrain.inference.summary import Evaluation, add_up, protocol_of
from stmtrain.model import STM
from stmtrain.processes import Progress
from stmtrain.scoring.score import score_results
from stmtrain.scoring.scores import RESULTS_NAME, Scores
from stmtrain.scoring.submission import check_export_path, write_submission
from stmtrain.weights.checkpoint import load_model_and_origin


@dataclass
class Timing:
    """How the time of a video was spent, seconds: in the network, and waiting for its frames."""

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
    progress: Progress | None = None,
    truth: VideoSet | DataError | None = None,
) -> Evaluation:
    """Segment every video from its given masks, write the PNGs, and score them if possible.

    ``out`` gets ``<video>/<frame>.png``, the layout that the official tools read, ``results.json``
    and ``evaluation.json``, and ``object_ids.json`` if the data set has object ids that a PNG
    cannot hold: by video, the ids in the PNGs and what the data set calls them. Run it again to
    resume an interrupted evaluation: finished videos are kept.

    Args:
        checkpoint: Checkpoint of ``stm train``, or published STM weights.
        videos: What to segment, with the protocol to score by.
        out: Folder of the results.
        device: Where the network runs.
        options: Options of inference.
        overwrite: Replace the results of other settings.
        export: Also write the zip for the benchmark's server to this path.
        workers: Processes that score.
        progress: Called after each frame, with the video's name.
        truth: What to score against if not ``videos``, or why that is not there.

    Raises:
        CheckpointError: The weights do not fit any backbone.
        DataError: A frame or mask is damaged, or frames of a video differ in size.
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
        kept = _segment_all(model, videos, folder, options, device, progress)
        scores, why_not = _score(out, truth or videos, workers)
        if scores is not None:
            scores = replace(scores, memory_every=options.memory_every)
        protocol = protocol_of(videos, options, origin, device, scores, why_not)
        evaluation = add_up(folder.done.values(), scores, protocol, warnings, kept)
        if export is not None:
            write_submission(export, out, videos)
        write_json(out / RESULTS_NAME, evaluation.to_mapping())
        _write_object_ids(out, videos)
    return evaluation


def _score(
    out: Path, truth: VideoSet | DataError, workers: int
) -> tuple[Scores | None, str | None]:
    """Return the scores, or why there are none."""
    why_not = str(truth) if isinstance(truth, DataError) else truth.why_not_scored()
    if why_not is not None or isinstance(truth, DataError):
        return None, why_not
    return score_results(out, truth, workers), None


def predict_video(
    model: STM, video: VideoSource, options: Inference = DEFAULT, timing: Timing | None = None
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Segment one video; yields frame name and (H, W) uint8 ids for each frame.

    The network is shown only the masks that give objects, and of these only the objects that they
    give. Frames are decoded ahead, in threads.

    Args:
        model: In eval mode, on the device to use.
        video: What to segment.
        options: Options of inference.
        timing: Updated after each frame.

    Raises:
        DataError: A frame or mask is damaged, or frames differ in size.
    """
    timing = Timing() if timing is None else timing
    names = list(video.frames)
    masks = _given_masks(video, names)
    frames = _timed(decode_ahead(_frame_reader(video), names), timing)
    labels = segment_video(model, frames, masks, options, length=len(names))
    for name in names:
        began, waited = time.perf_counter(), timing.waiting
        mask = next(labels)
        timing.network += time.perf_counter() - began - (timing.waiting - waited)
        yield name, mask


def _given_masks(video: VideoSource, names: Sequence[str]) -> dict[int, NDArray[np.uint8]]:
    """Return frame index to the mask that a method is given there, without any other object."""
    masks = {}
    for t, ids in given_objects(video)[0].items():
        mask = video.read_mask(names[t])
        masks[t] = np.where(np.isin(mask, ids), mask, 0).astype(np.uint8)
    return masks


def _frame_reader(video: VideoSource) -> Callable[[str], NDArray[np.uint8]]:
    """Return a function that decodes a frame by its name and checks its size."""
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


def _timed(frames: Iterator[NDArray[np.uint8]], timing: Timing) -> Iterator[NDArray[np.uint8]]:
    """Yield ``frames`` and add the time spent waiting for them."""
    while True:
        began = time.perf_counter()
        frame = next(frames, None)
        timing.waiting += time.perf_counter() - began
        if frame is None:
            return
        yield frame


def _segment_all(
    model: STM,
    videos: VideoSet,
    folder: ResultsFolder,
    options: Inference,
    device: torch.device,
    progress: Progress | None,
) -> int:
    """Segment the videos that are not finished; return how many were finished before."""
    done = kept = 0
    for video in videos.videos:
        exported = set(videos.protocol.exported(video))
        if folder.finished(video.name, exported):
            done, kept = done + len(video.frames), kept + 1
            continue
        timing, began = Timing(), time.perf_counter()
        size = video.original_size()
        with folder.video(video.name) as part, writing_behind() as later:
            for name, mask in predict_video(model, video, options, timing):
                if name in exported:
                    fitting = mask if mask.shape == size else resample_mask(mask, size)
                    later(write_mask, part / f"{name}.png", fitting)
                done += 1
                if progress is not None:
                    progress(done, videos.frames, video.name)
        seconds = time.perf_counter() - began
        cost = VideoCost(len(video.frames), timing.network, seconds, _peak_memory(device))
        folder.finish(video.name, cost)
    return kept


def _warnings(videos: VideoSet) -> tuple[str, ...]:
    """Check every mask that will be given, before the first frame is segmented."""
    warnings = []
    misfits = videos.misfits
    if misfits:
        warnings.append(
            f"{len(misfits)} masks differ from their frame by a pixel or two and were "
            f"resampled to its size: {some(misfits)}"
        )
    warnings += [f"video {name}: left out, {why}" for name, why in videos.left_out.items()]
    for video in videos.videos:
        given, unseen = given_objects(video)
        names = list(video.frames)
        warnings += [
            f"video {video.name}: mask {names[t]} has smooth edges and was thresholded at half"
            for t in given
            if video.is_smooth(names[t])
        ]
        for object_id in unseen:
            what = f"object {object_id} is in no mask" if object_id else "no object is given"
            warnings.append(f"video {video.name}: {what}; it stays background")
    return tuple(warnings)


def _write_object_ids(out: Path, videos: VideoSet) -> None:
    originals = {v.name: {label: str(i) for i, label in v.labels.items()} for v in videos.videos}
    mapped = {
        name: ids
        for name, ids in originals.items()
        if any(str(label) != text for label, text in ids.items())
    }
    if mapped:
        write_json(out / OBJECT_IDS_NAME, mapped)


def _peak_memory(device: torch.device) -> int:
    """Return the peak memory so far in bytes: of the GPU, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
