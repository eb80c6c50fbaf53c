"""Clips per second from disk to batches: this loader, the bare decoders, and five other loaders.

All contestants read the same encoded clips and make the same batches: (8, 3, 384, 384, 3) uint8
frames and (8, 3, 384, 384) uint8 masks. The frames of every contestant's first batch are compared
with the set. Each run starts anew, waits for its first batches, and times the next ones; runs take
turns, and the median counts. "1 worker" is one thread or process, with the complete program bound
to one core; "2" means two on two cores. Cold runs drop the contestant's files from the page cache
before they start. The CPU time per clip, of the program and all processes that it starts, is stated
next to the rate: on a shared machine, the rate also depends on how many processes compete.

A second table measures three frames at a time from long 480p videos, in batches of 4. There it
matters how much is read.

    python -m benchmarks.bench_stream [--shards DIR] [--videos DIR] [--clips 240] [--repeats 5]

By default the sets are drawn, with JPEGs as large as those of photographs. Loaders that are not
installed are skipped and listed; ``pip install -e '.[bench]'`` installs them.
"""

import argparse
import gc
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
from stmtrain.images.decode import decode_frame
from stmtrain.shards.reader import ShardSet
from stmtrain.streaming.clips import PSEUDO, VIDEO

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
    """Compare all contestants on short clips."""
    original = options.shards or stream_data.draw_clips(work / "drawn")
    # Long enough that no contestant reaches the end of an epoch while it is timed.
    folder = stream_data.repeat(original, work / "stm", 2 * options.clips + 256)
    files = stream_data.write_files(folder, work / "files")
    contestants = {
        "bare decode": Contestant(folder, partial(rivals.bare_decode, recipe=PSEUDO), cold=False),
        "stm loader": Contestant(folder, partial(rivals.stm, recipe=PSEUDO)),
        "webdataset, rgb8": Contestant(folder, rivals.webdataset_rgb8),
        "webdataset, our decoders": Contestant(folder, rivals.webdataset_ours),
        "loose files": Contestant(files, rivals.loose_files),
    }
    missing = {}
    for name, package, write, batches in (
        ("MosaicML Streaming", "mosaicml-streaming", stream_data.write_mds, rivals.mosaic),
        ("LitData", "litdata", stream_data.write_litdata, rivals.litdata),
    ):
        try:
            label = f"{name} {version(package)}"
        except PackageNotFoundError:
            missing[name] = f"{package} is not installed"
            continue
        contestants[label] = Contestant(write(folder, work / package), batches)
    shards = ShardSet.open(folder)
    known = digests(shards)
    for name, contestant in contestants.items():
        check(name, contestant, known)
    rates = race(contestants, options, BATCH)
    return table(rates, "stm loader") | {
        "left out": missing,
        "bytes per clip": sum(s.bytes for s in shards.manifest.shards) // len(shards),
    }


def videos_table(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Compare ways to read three frames of long videos."""
    folder = options.videos or stream_data.draw_videos(work / "drawn")
    files = stream_data.write_files(folder, work / "files")
    videos = ShardSet.open(folder)
    records = [videos.record(index) for index in range(len(videos))]
    given = {"records": records, "recipe": VIDEO}
    contestants = {
        "stm loader": Contestant(
            folder, partial(rivals.stm, recipe=VIDEO, max_skip=rivals.MAX_SKIP)
        ),
        "bare decode": Contestant(folder, partial(rivals.bare_decode, recipe=VIDEO), cold=False),
        "folder of frames": Contestant(files, partial(rivals.video_files, **given)),
        "webdataset, our decoders": Contestant(folder, partial(rivals.video_webdataset, **given)),
    }
    rates = race(contestants, options, VIDEO_BATCH)
    frames = sum(len(record.frames) for record in records)
    return table(rates, "stm loader") | {"videos": len(records), "frames": frames}


def race(
    contestants: Mapping[str, Contestant], options: argparse.Namespace, batch: int
) -> dict[str, list[tuple[float, float]]]:
    """Run all contestants in turns; return the results of :func:`run` by label."""
    rates: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.repeats):
        for workers in options.workers:
            for name, contestant in contestants.items():
                for cold in (False, True) if contestant.cold else (False,):
                    label = f"{name} | {workers} | {'cold' if cold else 'warm'}"
                    rate = run(contestant, workers, batch, options.clips, cold)
                    rates.setdefault(label, []).append(rate)
    return rates


def run(
    contestant: Contestant, workers: int, batch: int, clips: int, cold: bool
) -> tuple[float, float]:
    """Time ``clips`` clips after the first batches: clips per second, CPU milliseconds a clip."""
    if cold:
        stream_data.drop_cache(contestant.folder)
    with cores(workers):
        batches = contestant.batches(contestant.folder, workers, batch)
        for _ in range(WARM_UP):
            next(batches)
        began, before = time.perf_counter(), cpu_seconds()
        for _ in range(clips // batch):
            next(batches)
        seconds, after = time.perf_counter() - began, cpu_seconds()
        del batches
        gc.collect()  # ends its threads or processes, even if objects refer to each other
    busy = sum(after[pid] - before[pid] for pid in before.keys() & after.keys())
    clips = clips // batch * batch
    return clips / seconds, 1000 * busy / clips


def cpu_seconds() -> dict[int, float]:
    """Return the CPU time of this process and of each that descends from it, by process id."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
        pid = int(path.parent.name)
        parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return {pid: ticks[pid] / os.sysconf("SC_CLK_TCK") for pid in family}


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Bind this process, and those it starts, to ``count`` cores, if the system supports it."""
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
    """Check the first batch: shapes, types, and that every frame is in the set."""
    batches = contestant.batches(contestant.folder, 1, BATCH)
    frames, masks = next(batches)[:2]
    shape = (BATCH, 3, rivals.SIZE, rivals.SIZE)
    found = [hashlib.sha256(f.numpy().tobytes()).digest() for f in frames.flatten(0, 1)]
    if frames.shape != (*shape, 3) or masks.shape != shape or not known.issuperset(found):
        raise SystemExit(f"{name} makes different batches: {frames.shape}, {masks.shape}")


def table(runs: Mapping[str, list[tuple[float, float]]], ours: str) -> dict[str, Any]:
    """Print and return medians, and their ratios to ours under the same conditions."""
    middle = {
        label: [statistics.median(column) for column in zip(*values, strict=True)]
        for label, values in runs.items()
    }
    results: dict[str, Any] = {}
    for label, (rate, cpu) in middle.items():
        name, workers, cache = label.split(" | ")
        our_rate, our_cpu = middle[f"{ours} | {workers} | {cache}"]
        rates = [rate for rate, _ in runs[label]]
        results[label] = {
            "clips_per_second": round(rate, 1),
            "lowest": round(min(rates), 1),
            "highest": round(max(rates), 1),
            "cpu_milliseconds_per_clip": round(cpu, 3),
            "ours_is_times": round(our_rate / rate, 3),
            "ours_is_times_by_cpu": round(cpu / our_cpu, 3),
        }
        print(
            f"{name:30}{workers} {cache}{rate:8.1f} clips/s ({min(rates):.0f} to {max(rates):.0f})"
            f"  cpu {cpu:5.2f} ms/clip  ours: x{our_rate / rate:.2f}, by cpu x{cpu / our_cpu:.2f}",
            flush=True,
        )
    return results


if __name__ == "__main__":
    main()
