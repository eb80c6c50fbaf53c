"""The clips and videos that ``bench_stream.py`` reads, written in every contestant's format."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg

from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain.images.encode import encode_mask
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample, SampleRecord

__all__ = ["draw_clips", "draw_videos", "drop_cache", "repeat", "write_files", "write_litdata",
           "write_mds"]  # fmt: skip

SIZE, CLIPS_PER_SHARD = 384, 128


@dataclass(frozen=True)
class Draw:
    """Draw discs that move over noise with the spectrum of photographs; one sample per seed."""

    length: int
    height: int
    width: int
    quality: int = 90

    def __call__(self, job: Job) -> Iterator[Sample]:
        """Draw one sample per item of the job."""
        for seed in job.items:
            rng = np.random.default_rng(seed)
            scene = photo_noise(rng, max(self.height, self.width) + 240)
            frames, masks, areas = {}, {}, []
            centres, speed = rng.uniform(0.3, 0.7, (2, 2)), rng.uniform(-0.2, 0.2, (2, 2))
            for t in range(self.length):
                at = (centres + speed * t / self.length) * (self.height, self.width)
                mask = discs(self.height, self.width, at)
                top, left = min(10 * t, 240), min(15 * t, 240)
                image = scene[top : top + self.height, left : left + self.width].copy()
                image[mask > 0] = 255 - image[mask > 0]
                frames[f"{t:05d}"] = simplejpeg.encode_jpeg(image, self.quality)
                masks[f"{t:05d}"] = encode_mask(mask)
                areas.append([int((mask == o).sum()) for o in (1, 2)])
            names, size = tuple(frames), (self.height, self.width)
            rows = tuple(zip(*areas, strict=True))
            record = SampleRecord(f"drawn-{seed:06d}", *size, names, names, (1, 2), rows, size)
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


def discs(height: int, width: int, centres: np.ndarray) -> np.ndarray:
    """Return a (height, width) uint8 label map of two discs."""
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    for slot, (cy, cx) in enumerate(centres, start=1):
        mask[(x - cx) ** 2 + (y - cy) ** 2 < (0.07 * height * (1 + slot)) ** 2] = slot
    return mask


def draw_clips(out: Path, clips: int = 160) -> Path:
    """Pack drawn clips of three 384x384 frames."""
    jobs = [Job("drawn-000000", tuple(range(clips)))]
    pack(SetPlan({"drawn": clips}, jobs, Draw(3, SIZE, SIZE)), out)
    return out


def draw_videos(out: Path, videos: int = 6) -> Path:
    """Pack drawn videos of a hundred 480x854 frames."""
    job = Job("drawn-000000", tuple(range(videos)))
    pack(SetPlan({"drawn": videos}, [job], Draw(100, 480, 854)), out)
    return out


def repeat(folder: Path, out: Path, clips: int) -> Path:
    """Pack a set's samples repeatedly under new keys, so that no run completes an epoch."""
    original = ShardSet.open(folder)

    def make(job: Job) -> Iterator[Sample]:
        for item in job.items:
            sample = original.read(item % len(original))
            key = f"clip-{item:06d}"
            yield Sample(replace(sample.record, sample_key=key), sample.frames, sample.masks)

    numbers = range(clips)
    jobs = [
        Job(f"clips-{start:06d}", tuple(numbers[start : start + CLIPS_PER_SHARD]))
        for start in range(0, clips, CLIPS_PER_SHARD)
    ]
    pack(SetPlan({"repeated": clips}, jobs, make), out)
    return out


def members(sample: Sample) -> dict[str, bytes]:
    """Return the members of a clip in the other formats: ``jpg0``, ``png0``, ``jpg1``, ..."""
    pairs = zip(sample.frames.values(), sample.masks.values(), strict=True)
    return {
        f"{kind}{t}": data
        for t, pair in enumerate(pairs)
        for kind, data in zip(("jpg", "png"), pair, strict=True)
    }


def write_files(folder: Path, out: Path) -> Path:
    """Write separate files: a folder per sample with ``<frame>.jpg`` and ``<frame>.png``."""
    shard_set = ShardSet.open(folder)
    for index in range(len(shard_set)):
        sample = shard_set.read(index)
        place = out / sample.record.sample_key
        place.mkdir(parents=True)
        for suffix, data in sample.members()[:-1]:
            (place / suffix).write_bytes(data)
    return out


def write_mds(folder: Path, out: Path) -> Path:
    """Write MosaicML Streaming's MDS shards, uncompressed."""
    from streaming import MDSWriter

    shard_set = ShardSet.open(folder)
    columns = dict.fromkeys(members(shard_set.read(0)), "bytes")
    with MDSWriter(out=str(out), columns=columns) as writer:
        for index in range(len(shard_set)):
            writer.write(members(shard_set.read(index)))
    return out


def write_litdata(folder: Path, out: Path) -> Path:
    """Write LitData's chunks of 64 MB, uncompressed."""
    import litdata

    litdata.optimize(
        fn=partial(_read_members, folder),
        inputs=list(range(len(ShardSet.open(folder)))),
        output_dir=str(out),
        num_workers=1,
        chunk_bytes="64MB",
    )
    return out


def _read_members(folder: Path, index: int) -> dict[str, bytes]:
    return members(ShardSet.open(folder).read(index))


def drop_cache(folder: Path) -> None:
    """Drop the files of a folder from the page cache: sync, then ``POSIX_FADV_DONTNEED``.

    Pages that a process has mapped stay in the cache, and a host below a virtual machine may cache
    the files too.
    """
    for path in itertools.chain([folder], folder.rglob("*")):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
