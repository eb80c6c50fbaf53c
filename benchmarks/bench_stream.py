"""Clips per second from disk to batches, side by side: ours, the bare decoders, and five rivals.

All read the same encoded clips and make the same batches, (8, 3, 384, 384, 3) uint8 frames and
(8, 3, 384, 384) uint8 masks; every contestant's first frames are checked to be the set's. Each run
starts afresh, waits for its first batches, and times the next ones; runs take turns, and the median
counts. "1 worker" is one thread or process on one core, to which the whole program is bound, "2"
two on two. Cold runs drop the contestant's files from the page cache before they start.

Then three frames at a time from long 480p videos (batches of 4), where what is read matters.

    python -m benchmarks.bench_stream [--shards DIR] [--videos DIR] [--clips 240] [--repeats 5]

Without sets of its own it draws clips and videos whose JPEGs are as large as photographs'. Rivals
that are not installed are left out and named: ``pip install -e '.[bench]'`` declares them.
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks import rivals, stream_data
from benchmarks.common import report
from stmtrain.clips import PSEUDO, VIDEO
from stmtrain.decode import decode_frame
from stmtrain.shards import ShardSet

WARM_UP, BATCH, VIDEO_BATCH = 2, 8, 4


@dataclass(frozen=True)
class Contestant:
    """A way to make batches, and the folder it reads."""

    folder: Path
    batches: Callable[[Path, int, int], rivals.Batches]
    cold: bool = True


def main() -> None:
    """Measure, print tables, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shards", type=Path, help="set of 3x384x384 clips; drawn by default")
    parser.add_argument("--videos", type=Path, help="set of 480p videos; drawn by default")
    parser.add_argument("--clips", type=int, default=240, help="clips per timed run")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        results: dict[str, Any] = {"clips": clips_table(work / "c", options)}
        results["videos"] = videos_table(work / "v", options)
    print(f"wrote {report('stream', results)}")


def clips_table(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Compare everything on short clips."""
    source = options.shards or stream_data.draw_clips(work / "drawn")
    # Long enough that no contestant comes to the end of an epoch while it is timed.
    folder = stream_data.repeat(source, work / "stm", 2 * options.clips + 256)
    files = stream_data.write_files(folder, work / "files")
    contestants = {
        "bare decode": Contestant(folder, partial(rivals.bare_decode, recipe=PSEUDO), cold=False),
        "stm loader": Contestant(folder, partial(rivals.stm, recipe=PSEUDO)),
        "webdataset, rgb8": Contestant(folder, rivals.webdataset_rgb8),
        "webdataset, our decoders": Contestant(folder, rivals.webdataset_ours),
        "loose files": Contestant(files, rivals.loose_files),
    }
    left_out = {}
    for name, package, write, batches in (
        ("MosaicML Streaming", "mosaicml-streaming", stream_data.write_mds, rivals.mosaic),
        ("LitData", "litdata", stream_data.write_litdata, rivals.litdata),
    ):
        try:
            label = f"{name} {version(package)}"
        except PackageNotFoundError:
            left_out[name] = f"{package} is not installed"
            continue
        contestants[label] = Contestant(write(folder, work / package), batches)
    shards = ShardSet.open(folder)
    known = digests(shards)
    for name, contestant in contestants.items():
        check(name, contestant, known)
    rates = race(contestants, options, BATCH)
    return table(rates, "stm loader") | {
        "left out": left_out,
        "bytes per clip": sum(s.bytes for s in shards.manifest.shards) // len(shards),
    }


def videos_table(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Compare ways to take three frames out of long videos."""
    folder = options.videos or stream_data.draw_videos(work / "drawn")
    files = stream_data.write_files(folder, work / "files")
    videos = ShardSet.open(folder)
    metas = [videos.meta(index) for index in range(len(videos))]
    given = {"metas": metas, "recipe": VIDEO}
    contestants = {
        "stm loader": Contestant(
            folder, partial(rivals.stm, recipe=VIDEO, max_skip=rivals.MAX_SKIP)
        ),
        "bare decode": Contestant(folder, partial(rivals.bare_decode, recipe=VIDEO), cold=False),
        "folder of frames": Contestant(files, partial(rivals.video_files, **given)),
        "webdataset, our decoders": Contestant(folder, partial(rivals.video_webdataset, **given)),
    }
    rates = race(contestants, options, VIDEO_BATCH)
    frames = sum(len(meta.frames) for meta in metas)
    return table(rates, "stm loader") | {"videos": len(metas), "frames": frames}


def race(
    contestants: Mapping[str, Contestant], options: argparse.Namespace, batch: int
) -> dict[str, list[float]]:
    """Run all in turns; return clips per second of every run, by name, workers and cache."""
    rates: dict[str, list[float]] = {}
    for _ in range(options.repeats):
        for workers in options.workers:
            for name, contestant in contestants.items():
                for cold in (False, True) if contestant.cold else (False,):
                    label = f"{name} | {workers} | {'cold' if cold else 'warm'}"
                    rate = run(contestant, workers, batch, options.clips, cold)
                    rates.setdefault(label, []).append(rate)
    return rates


def run(contestant: Contestant, workers: int, batch: int, clips: int, cold: bool) -> float:
    """Time ``clips`` clips after the first batches."""
    if cold:
        stream_data.drop_cache(contestant.folder)
    with cores(workers):
        batches = contestant.batches(contestant.folder, workers, batch)
        for _ in range(WARM_UP):
            next(batches)
        began = time.perf_counter()
        for _ in range(clips // batch):
            next(batches)
        rate = clips // batch * batch / (time.perf_counter() - began)
        del batches  # ends its threads or processes
    return rate


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Bind this process, and those it starts, to ``count`` cores, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def digests(shards: ShardSet) -> set[bytes]:
    """Return a digest of every frame of the set."""
    samples = (shards.read(index) for index in range(len(shards)))
    encoded = {data for sample in samples for data in sample.frames.values()}
    return {hashlib.sha256(decode_frame(data, "")).digest() for data in encoded}


def check(name: str, contestant: Contestant, known: set[bytes]) -> None:
    """Check the first batch: shapes, types, and that every frame is one of the set's."""
    batches = contestant.batches(contestant.folder, 1, BATCH)
    frames, masks = next(batches)[:2]
    shape = (BATCH, 3, rivals.SIZE, rivals.SIZE)
    found = [hashlib.sha256(f.numpy().tobytes()).digest() for f in frames.flatten(0, 1)]
    if frames.shape != (*shape, 3) or masks.shape != shape or not known.issuperset(found):
        raise SystemExit(f"{name} makes other batches: {frames.shape}, {masks.shape}")


def table(rates: Mapping[str, list[float]], ours: str) -> dict[str, Any]:
    """Print and return medians, and how many times as fast ours is under the same conditions."""
    middle = {label: statistics.median(values) for label, values in rates.items()}
    results: dict[str, Any] = {}
    for label, rate in middle.items():
        name, workers, cache = label.split(" | ")
        ratio = middle[f"{ours} | {workers} | {cache}"] / rate
        values = rates[label]
        results[label] = {
            "clips_per_second": round(rate, 1),
            "lowest": round(min(values), 1),
            "highest": round(max(values), 1),
            "ours_is_times": round(ratio, 3),
        }
        spread = f"({min(values):.0f} to {max(values):.0f})"
        print(f"{name:30}{workers} {cache}{rate:9.1f} clips/s {spread:14} ours: x{ratio:.2f}")
    return results


if __name__ == "__main__":
    main()
