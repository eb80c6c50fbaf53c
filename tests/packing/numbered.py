"""A set of numbered samples, and ways to interrupt its making."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from stmdata.packing.pack import Job, SetPlan
from stmtrain.errors import DataError, StmError
from stmtrain.shards.manifest import Sidecar
from stmtrain.shards.sample import Sample, SampleRecord, Skipped

CONFIG = {"source": "numbers", "seed": 7, "recipe": {"size": 8, "frames": (2, 3)}}
SHARDS, PER_SHARD = 4, 3


def sample(number: int, key: str | None = None) -> Sample:
    """A sample whose bytes depend on its number; the writer does not decode images."""
    rng = np.random.default_rng(number)
    names = tuple(f"{i:05d}" for i in range(1 + number % 3))
    masks = names[::2]
    record = SampleRecord(
        sample_key=key or f"sample-{number:04d}",
        height=4,
        width=6,
        frames=names,
        mask_frames=masks,
        object_ids=(1, 9),
        areas=((3,) * len(masks), (0,) * len(masks)),
        original_size=(8, 12),
        origin={"number": number, "name": "Überfahrt"},
    )
    return Sample(
        record,
        {name: rng.bytes(int(rng.integers(0, 1500))) for name in names},
        {name: rng.bytes(int(rng.integers(0, 700))) for name in masks},
    )


@dataclass(frozen=True)
class Make:
    """Makes numbered samples; every fifth number is skipped. Can stop at one, in several ways."""

    stop_at: int = -1
    how: str = "raise"
    once: Path | None = None

    def __call__(self, job: Job) -> Iterator[Sample | Skipped]:
        for number in job.items:
            if number == self.stop_at:
                self.stop()
            if number % 5 == 4:
                yield Skipped(f"image-{number}", "holds no object")
            else:
                yield sample(number)

    def stop(self) -> None:
        if self.how == "raise":
            raise StmError("stopped")
        if self.how == "bad data":
            raise DataError("not an image")
        if self.how == "interrupt":
            raise KeyboardInterrupt
        os.kill(os.getppid() if self.how == "kill parent" else os.getpid(), signal.SIGKILL)


def jobs(shards: int = SHARDS) -> list[Job]:
    return [
        Job(f"numbers-{s:06d}", tuple(range(s * PER_SHARD, (s + 1) * PER_SHARD)))
        for s in range(shards)
    ]


PLAN = SetPlan(CONFIG, jobs(), Make())


def contents(folder: Path) -> dict[str, str]:
    return {p.name: sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def numbers(sidecar: Sidecar) -> list[str]:
    return [record.key for record in sidecar.index]
