"""Frames per second and memory of inference, compared with the published method.

1. A video of 1, 3 and 5 objects: the published method, ours, and ours with each option. The label
   maps of both methods in float32 are compared. On a GPU the peak of allocated memory is measured.
2. Memory alone over 5000 frames, on a small grid: bytes, and seconds per frame to write and read.
3. Several videos at once: one forward pass for V videos compared with V passes.
4. With ``--weights`` and ``--davis``: J&F of each option, and its distance from float32.

    python -m benchmarks.bench_infer [--weights FILE --davis DIR --year 2016] [--backbone resnet50]

Without a GPU all sizes are small: ratios and bytes are meaningful then, absolute rates are not.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import report, side_by_side
from benchmarks.reference_inference import ConcatenatedMemory, reference_video
from stmtrain.datasets.dataset import find_dataset
from stmtrain.inference.evaluate import evaluate
from stmtrain.inference.memory_bank import MemoryBank
from stmtrain.inference.options import Inference
from stmtrain.inference.segment import segment_video
from stmtrain.model import STM, read_memory
from stmtrain.training.distributed import usable_device
from stmtrain.weights.checkpoint import load_model

PUBLISHED = "published method"
OPTIONS: Mapping[str, Inference] = {
    "float32": Inference(),
    "memory of 10 frames": Inference(memory_frames=10),
    "top 30": Inference(top_k=30),
    "bfloat16": Inference(precision="bfloat16"),
    "bfloat16, memory of 10 frames": Inference(precision="bfloat16", memory_frames=10),
    "flip": Inference(flip=True),
    "scales 0.75, 1, 1.25": Inference(scales=(0.75, 1.0, 1.25)),
}


def main() -> None:
    """Measure, print, and write the report."""
    options = _arguments().parse_args()
    device = usable_device(options.device)
    small = device.type == "cpu"
    backbone = options.backbone or ("resnet18" if small else "resnet50")
    torch.manual_seed(0)
    model = load_model(options.weights) if options.weights else STM(backbone)
    model.to(device).eval()
    height, width = options.size or ((96, 160) if small else (480, 854))
    frames = options.frames or (16 if small else 100)
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if not small else "cpu",
        "threads": torch.get_num_threads(),
        "backbone": model.backbone.name,
        "size": [height, width],
        "frames": frames,
        "videos": {
            f"{n} objects": speed(model, n, (frames, height, width), options.repeats)
            for n in options.objects
        },
        "memory_alone": memory_alone(options.long_frames, device),
        "videos_at_once": at_once(model, (height, width), options.repeats),
    }
    if options.weights and options.davis:
        results["j_and_f"] = accuracy(options, device)
    print(f"wrote {report('infer', results)}")


def speed(
    model: STM, objects: int, shape: tuple[int, int, int], repeats: int
) -> dict[str, dict[str, Any]]:
    """Segment a drawn video with every contestant, in turns."""
    video, first = drawn_video(objects, shape)
    runs: dict[str, Callable[[], list[NDArray[np.uint8]]]] = {
        PUBLISHED: lambda: list(reference_video(model, video, first)),
    }
    for name, options in OPTIONS.items():
        runs[name] = lambda options=options: list(segment_video(model, video, {0: first}, options))
    published = np.stack(runs[PUBLISHED]())
    table: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        peak, labels = peak_memory(run, model)
        table[name] = {"peak_bytes": peak}
        if name == "float32":
            table[name]["labels_as_published"] = float(np.mean(labels == published))
    for name, seconds in side_by_side(runs, repeats).items():
        table[name]["frames_per_second"] = len(video) / seconds
    baseline = table[PUBLISHED]["frames_per_second"]
    for name, row in table.items():
        row["times_published"] = row["frames_per_second"] / baseline
        same = row.get("labels_as_published")
        print(
            f"{objects} objects, {name:30} {row['frames_per_second']:8.2f} frames/s "
            f"{row['times_published']:6.2f}x"
            + (f"  {row['peak_bytes'] / 2**20:.0f} MiB" if row["peak_bytes"] else "")
            + (f"  {100 * same:.3f} % of labels as published" if same is not None else "")
        )
    return table


def peak_memory(
    run: Callable[[], list[NDArray[np.uint8]]], model: STM
) -> tuple[int | None, NDArray[np.uint8]]:
    """Return the most bytes allocated on the GPU during a run, weights included, and its result."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return None, np.stack(run())
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    labels = np.stack(run())
    return torch.cuda.max_memory_allocated(device), labels


def memory_alone(frames: int, device: torch.device, grid: tuple[int, int] = (2, 3)) -> Any:
    """Write and read the memory of a long video with three objects, without a network.

    Bytes at 480p are for as many frames with ResNet-50's channels on a grid of 30x54.
    """
    objects, ck, cv = 3, 32, 128
    banks: dict[str, Any] = {
        PUBLISHED: ConcatenatedMemory(5),
        "ours, no limit, length unknown": MemoryBank(5),
        "ours, no limit, length known": MemoryBank(5, length=frames),
        "ours, 30 frames": MemoryBank(5, 30),
        "ours, 30 frames, top 30": MemoryBank(5, 30, top_k=30),
    }
    to_480p = (128 + 512) * 30 * 54 / ((ck + cv) * grid[0] * grid[1])
    marks = sorted({1, min(100, frames), min(1000, frames), frames})
    table = {}
    for name, bank in banks.items():
        rows, seconds = {}, []
        for t in range(frames):
            key, value = torch.randn(objects, ck, *grid), torch.randn(objects, cv, *grid)
            key, value = key.to(device), value.to(device)
            began = time.perf_counter()
            bank.write(t, key, value)
            _read(bank, key[:1], objects).sum().item()  # waits for the GPU too
            seconds.append(time.perf_counter() - began)
            if t + 1 in marks:
                rows[f"{t + 1} frames"] = {
                    "bytes": bank.nbytes,
                    "gigabytes_at_480p": bank.nbytes * to_480p / 1e9,
                    "milliseconds_per_frame": 1e3 * statistics.median(seconds[-50:]),
                }
        table[name] = rows
        last = rows[f"{frames} frames"]
        print(
            f"memory of {frames} frames, {name:32} {last['gigabytes_at_480p']:8.3f} GB at 480p, "
            f"{last['milliseconds_per_frame']:.3f} ms per frame on the small grid"
        )
    return table


def _read(memory: MemoryBank | ConcatenatedMemory, query: torch.Tensor, objects: int) -> Any:
    if isinstance(memory, MemoryBank):
        return memory.read(query)
    return memory.read(query, objects)


def at_once(model: STM, size: tuple[int, int], repeats: int) -> dict[str, float]:
    """Return frames per second when V videos of one object share each pass, five memory frames."""
    rates = {}
    runs = {}
    for videos in (1, 2, 4):
        runs[videos] = _pass_of(model, videos, size)
    for videos, seconds in side_by_side(runs, repeats).items():  # type: ignore[type-var]
        rates[f"{videos} videos"] = int(videos) / seconds
        print(f"{videos} videos at once: {rates[f'{videos} videos']:.2f} frames/s")
    return rates


@torch.inference_mode()
def _pass_of(model: STM, videos: int, size: tuple[int, int]) -> Callable[[], float]:
    device = next(model.parameters()).device
    frames = torch.rand(videos, 3, *size, device=device)
    masks, owner = (frames[:, 0] > 0.5).float(), torch.arange(videos)
    key, value = model.memorize(frames, masks, owner)
    keys, values = (x.unsqueeze(2).expand(-1, -1, 5, -1, -1).contiguous() for x in (key, value))

    @torch.inference_mode()
    def run() -> float:
        model.memorize(frames, masks, owner)
        query = model.encode_query(frames)
        logits = model.decode(query, read_memory(query.key, keys, values), owner)
        return logits.argmax(dim=1).sum().item()

    return run


def accuracy(options: argparse.Namespace, device: torch.device) -> dict[str, dict[str, float]]:
    """Evaluate a DAVIS split with each option; J&F in percent, and the change from float32."""
    videos = find_dataset(f"davis{options.year}").open(options.davis, options.split)
    table: dict[str, dict[str, float]] = {}
    for name, inference in OPTIONS.items():
        with tempfile.TemporaryDirectory() as out:
            evaluation = evaluate(
                options.weights, videos, Path(out) / "out", device=device, options=inference
            )
        scores = evaluation.scores
        assert scores is not None, "the split has no public masks"
        row = {"j_and_f": 100 * scores.j_and_f, "j": 100 * scores.j.mean, "f": 100 * scores.f.mean}
        table[name] = row
        row["from_float32"] = row["j_and_f"] - table["float32"]["j_and_f"]
        print(f"J&F {row['j_and_f']:.2f} ({row['from_float32']:+.2f})  {name}")
    return table


def drawn_video(
    objects: int, shape: tuple[int, int, int], seed: int = 0
) -> tuple[list[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Draw coloured boxes drifting over noise, (H,W,3) each, and the first mask (H,W), ids 1..N."""
    rng = np.random.default_rng(seed)
    frames, height, width = shape
    noise = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
    colours = rng.integers(100, 256, (objects, 3), dtype=np.uint8)
    edges = np.linspace(0, width, objects + 1, dtype=int)
    video, first = [], np.zeros((height, width), np.uint8)
    for t in range(frames):
        picture = noise.copy()
        top = height // 4 + (2 * t) % (height // 4)
        for o, (left, right) in enumerate(pairwise(edges)):
            box = np.s_[top : top + height // 3, left + 4 : right - 4]
            picture[box] = colours[o] - noise[box] // 8
            if t == 0:
                first[box] = o + 1
        video.append(picture)
    return video, first


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--backbone", help="resnet18 without a GPU, else resnet50")
    parser.add_argument("--size", type=int, nargs=2, help="height and width, pixels")
    parser.add_argument("--frames", type=int, help="of the drawn video; 16 without a GPU, else 100")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--long-frames", type=int, default=5000, help="written to memory alone")
    parser.add_argument("--weights", type=Path, help="ours or published; random by default")
    parser.add_argument("--davis", type=Path, help="DAVIS tree, for J&F with --weights")
    parser.add_argument("--year", type=int, default=2017)
    parser.add_argument("--split", default="val")
    return parser


if __name__ == "__main__":
    main()
