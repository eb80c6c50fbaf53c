"""Clips per second from shards to batches: our loader, the bare decoders, webdataset + DataLoader.

All make the same batches, (B, 3, 384, 384, 3) uint8 frames and (B, 3, 384, 384) uint8 masks, from
the same shards on a warm page cache. Each run starts afresh, waits for its first batch, and then
times the next ones; runs take turns, and the median counts. Run with

    python -m benchmarks.bench_stream [--shards DIR] [--clips 240] [--repeats 5]

The default set is drawn: noise with the spectrum of photographs, whose JPEGs have the size of real
ones (about 40 kB a frame). The bare decode is the limit: bytes in memory, nothing but the decoders.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
import webdataset
from torch.utils.data import DataLoader, default_collate

from benchmarks.common import report
from stmdata.pack import Job, pack
from stmtrain.clips import PSEUDO
from stmtrain.decode import decode_frame, decode_mask
from stmtrain.loader import Loader
from stmtrain.palette import encode_mask
from stmtrain.plan import Plan
from stmtrain.shards import ShardSet
from stmtrain.spec import Sample, SampleMeta

SIZE, BATCH, WARM_UP = 384, 8, 2


@dataclass(frozen=True)
class DrawClips:
    """Make clips of moving discs on noise with a 1/f spectrum, quality 90."""

    quality: int = 90

    def __call__(self, job: Job) -> Iterator[Sample]:
        """Draw one clip per item, an integer seed."""
        for seed in job.items:
            rng = np.random.default_rng(seed)
            scene = photo_noise(rng, SIZE + 40)
            frames, masks = {}, {}
            for t, name in enumerate(("00000", "00001", "00002")):
                mask = discs(rng.spawn(1)[0], t)
                image = scene[10 * t : 10 * t + SIZE, 15 * t : 15 * t + SIZE].copy()
                image[mask > 0] = 255 - image[mask > 0]
                frames[name] = simplejpeg.encode_jpeg(image, self.quality)
                masks[name] = encode_mask(mask)
            areas = [[int((decode_mask(m, "") == o).sum()) for m in masks.values()] for o in (1, 2)]
            names = tuple(frames)
            record = SampleMeta(
                f"clip-{seed:06d}", SIZE, SIZE, names, names, (1, 2),
                tuple(map(tuple, areas)), (SIZE, SIZE),
            )  # fmt: skip
            yield Sample(record, frames, masks)


def photo_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return (size, size, 3) uint8: random phases under the 1/f amplitude of photographs."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    noise = [np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) / frequency**1.7)
             for _ in range(3)]  # fmt: skip
    grey = noise[0]
    image = np.stack([grey + 0.3 * noise[1], grey, grey + 0.3 * noise[2]], axis=-1)
    return (128 + 45 * image / image.std()).clip(0, 255).astype(np.uint8)


def discs(rng: np.random.Generator, t: int) -> np.ndarray:
    """Return a (384, 384) uint8 label map of two discs that move with t."""
    y, x = np.mgrid[:SIZE, :SIZE]
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for slot in (1, 2):
        cx, cy = rng.uniform(100, 280, 2) + 12 * t
        mask[(x - cx) ** 2 + (y - cy) ** 2 < rng.uniform(30, 80) ** 2] = slot
    return mask


def ours(shards: Path, clips: int, threads: int) -> float:
    """Time our loader."""
    shard_set = ShardSet.open(shards)
    plan = Plan((shard_set.shard_sizes,), (1.0,), 0, BATCH)
    with Loader([shard_set], plan, PSEUDO, size=SIZE, threads=threads) as loader:
        return clips_per_second(loader, clips)


def bare(samples: list[Sample], clips: int, threads: int) -> float:
    """Time the decoders alone, on bytes in memory."""

    def decode(sample: Sample) -> None:
        for name in sample.meta.frames:
            decode_frame(sample.frames[name], "")
            decode_mask(sample.masks[name], "")

    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(decode, (samples[i % len(samples)] for i in range(clips))))
        return clips / (time.perf_counter() - began)


def webdataset_loader(shards: Path, clips: int, workers: int, fast: bool) -> float:
    """Time webdataset with DataLoader processes; ``fast`` gives it our JPEG decoder."""
    urls = sorted(str(path) for path in shards.glob("*.tar"))
    stream = webdataset.WebDataset(urls * 2, shardshuffle=False, empty_check=False).shuffle(100)
    stream = stream.map(partial(decode_sample, fast=fast)).repeat()
    loader = DataLoader(
        stream.batched(BATCH, collation_fn=default_collate), batch_size=None, num_workers=workers
    )
    return clips_per_second(loader, clips)


def decode_sample(sample: dict[str, Any], fast: bool) -> tuple[np.ndarray, np.ndarray]:
    """Decode a webdataset sample; masks through Pillow, because its own decoder colours them."""
    names = sorted(name[:-4] for name in sample if name.endswith(".jpg"))
    rgb = webdataset.autodecode.imagehandler("rgb8")
    frames = [
        decode_frame(sample[f"{n}.jpg"], "") if fast else rgb("jpg", sample[f"{n}.jpg"])
        for n in names
    ]
    return np.stack(frames), np.stack([decode_mask(sample[f"{n}.png"], "") for n in names])


def clips_per_second(loader: Any, clips: int) -> float:
    """Time ``clips`` clips after the first batches."""
    batches = iter(loader)
    for _ in range(WARM_UP):
        next(batches)
    began = time.perf_counter()
    for _ in range(clips // BATCH):
        next(batches)
    return clips / (time.perf_counter() - began)


def main() -> None:
    """Measure, print a table, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shards", type=Path, help="set of 3x384x384 clips; drawn by default")
    parser.add_argument("--clips", type=int, default=240, help="clips per timed run")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        shards = options.shards or Path(temporary) / "set"
        if options.shards is None:
            jobs = [Job(f"drawn-{j:06d}", tuple(range(60 * j, 60 * j + 60))) for j in range(4)]
            pack(shards, jobs, DrawClips(), {"drawn": 1})
        results = measure(shards, options.clips, options.repeats)
    print(f"wrote {report('stream', results)}")


def measure(shards: Path, clips: int, repeats: int) -> dict[str, Any]:
    """Run everything in turns; return medians, spreads and ratios."""
    shard_set = ShardSet.open(shards)
    samples = [shard_set.read(index) for index in range(min(len(shard_set), 120))]
    runs: dict[str, Callable[[], float]] = {}
    for n in (1, 2):
        runs[f"bare decode, {n} thread(s)"] = partial(bare, samples, clips, n)
        runs[f"stm loader, {n} thread(s)"] = partial(ours, shards, clips, n)
        runs[f"webdataset rgb8, {n} worker(s)"] = partial(
            webdataset_loader, shards, clips, n, False
        )
        runs[f"webdataset simplejpeg, {n} worker(s)"] = partial(
            webdataset_loader, shards, clips, n, True
        )
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            rates[name].append(run())
    results: dict[str, Any] = {}
    for name, values in rates.items():
        middle = statistics.median(values)
        results[name] = {"clips_per_second": round(middle, 1), "lowest": round(min(values), 1),
                         "highest": round(max(values), 1)}  # fmt: skip
        print(f"{name:34}{middle:8.1f} clips/s   ({min(values):.1f} to {max(values):.1f})")
    for n in (1, 2):
        mine = statistics.median(rates[f"stm loader, {n} thread(s)"])
        for other in ("bare decode", "webdataset rgb8", "webdataset simplejpeg"):
            name = next(k for k in rates if k.startswith(f"{other}, {n}"))
            ratio = mine / statistics.median(rates[name])
            results[f"loader / {other}, {n}"] = round(ratio, 3)
            print(f"{'loader / ' + other + ', ' + str(n):34}{ratio:8.2f}")
    results["bytes_per_clip"] = sum(
        len(b) for s in samples for b in (*s.frames.values(), *s.masks.values())
    ) // len(samples)  # fmt: skip
    return results


if __name__ == "__main__":
    main()
