"""What a set of a million clips costs before the first batch: time and memory.

Sets of 10^3 to 10^6 clips, each measured in a process of its own. The clips are tiny (three 32x32
frames), and all shards link to the same tar, but manifest and sidecars are complete: they are what
grows with the set. Run with

    python -m benchmarks.bench_scale [--clips 1000 10000 100000 1000000]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from benchmarks.common import report
from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain.images.encode import encode_mask
from stmtrain.shards.manifest import Manifest
from stmtrain.shards.sample import Sample, SampleRecord, sidecar_name
from stmtrain.shards.store import LocalStore
from stmtrain.training.recipe import PRETRAIN

PER_SHARD, BATCH, LATER = 400, 8, 500  # clips of a shard, as in stm prepare-coco


def main() -> None:
    """Measure every size, print a table, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        for clips in options.clips:
            folder = write_set(Path(temporary) / str(clips), clips)
            runs = [run(folder) for _ in range(options.repeats)]
            results[str(clips)] = {key: float(np.median([r[key] for r in runs])) for key in runs[0]}
            print(clips, results[str(clips)])
    print(f"wrote {report('scale', results)}")


def write_set(folder: Path, clips: int) -> Path:
    """Write a set of ``clips`` clips, rounded up to full shards."""
    pack(SetPlan({"clips": clips}, [Job("set-000000", tuple(range(PER_SHARD)))], _make), folder)
    manifest = Manifest.from_json(LocalStore(folder).manifest(), str(folder))
    (entry,) = manifest.shards
    sidecar = LocalStore(folder).sidecar(entry, manifest)
    entries = [replace(entry, sidecar_sha256="")]
    for number in range(1, -(-clips // PER_SHARD)):
        name = f"set-{number:06d}.tar"
        (folder / name).hardlink_to(folder / entry.name)
        (folder / sidecar_name(name)).write_bytes(replace(sidecar, shard=name).to_json())
        entries.append(replace(entry, name=name, sidecar_sha256=""))
    totals = {name: count * len(entries) for name, count in manifest.totals.items()}
    data = replace(manifest, shards=tuple(entries), totals=totals).to_json()
    (folder / "manifest.json").write_bytes(data)
    return folder


def run(folder: Path) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.bench_scale", "--measure", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    value: dict[str, float] = json.loads(done.stdout)
    return value


def measure(folder: Path) -> dict[str, Any]:
    """Open the set, plan, take batches; the time to load libraries is not counted."""
    import torch

    from stmtrain.shards.reader import ShardSet
    from stmtrain.statistics.measure import measure_set
    from stmtrain.streaming.clips import PSEUDO
    from stmtrain.streaming.loader import Loader
    from stmtrain.streaming.plan import Plan

    torch.set_num_threads(1)
    before, results = resident(), {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        results[name] = round(time.perf_counter() - clock, 4)
        clock = time.perf_counter()

    shards = ShardSet.open(folder)
    lap("open_seconds")
    plan = Plan((shards.shard_sizes,), (1.0,), 0, BATCH, PRETRAIN.window)
    plan.batch(0)
    lap("plan_seconds")
    with Loader([shards], plan, PSEUDO, size=32) as loader:
        next(loader)
        lap("first_batch_seconds")
        results["start_seconds"] = round(sum(results.values()), 4)
        results["start_megabytes"] = round((resident() - before) / 1e6, 1)
        for _ in range(LATER):
            next(loader)
    lap(f"next_{LATER}_batches_seconds")
    results["megabytes"] = round((resident() - before) / 1e6, 1)
    measure_set(folder, sample=1000)
    lap("statistics_seconds")  # stm stats: totals, and everything else on 1000 clips
    for _ in shards.keys():  # noqa: SIM118 - reads every sidecar
        pass
    lap("whole_index_seconds")
    results["whole_index_megabytes"] = round((resident() - before) / 1e6, 1)
    return results


def resident() -> int:
    """Return the process's memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _make(job: Job) -> Iterator[Sample]:
    names = ("00000", "00001", "00002")
    for seed in job.items:
        image = np.full((32, 32, 3), seed % 256, np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        mask[4:28, 4:28] = 1
        frames = dict.fromkeys(names, simplejpeg.encode_jpeg(image, 90))
        masks = dict.fromkeys(names, encode_mask(mask))
        record = SampleRecord(
            f"clip-{seed:08d}", 32, 32, names, names, (1,), ((576,) * 3,), (32, 32)
        )
        yield Sample(record, frames, masks)


if __name__ == "__main__":
    main()
