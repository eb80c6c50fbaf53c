"""Samples to shard sets: resumable, the same bytes whatever the workers, the manifest last.

In come jobs (one per shard) and a function that makes a job's samples; out comes a folder as
``docs/shard-format.md`` describes it. The order is ``config.json``, then each tar and, once it is
in place, its sidecar, and ``manifest.json`` when every shard is there; each file is whole or
absent. A run that was interrupted anywhere goes on with the shards that are missing.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stmdata.packing.config import plan_value
from stmdata.packing.folder import clear_leftovers, holding_plan, prepare_folder
from stmdata.packing.writer import write_shard
from stmtrain.errors import ShardError, UsageError
from stmtrain.files import locked, remove, write_whole, writing
from stmtrain.processes import map_unordered
from stmtrain.shards.manifest import Manifest, ShardEntry, Sidecar
from stmtrain.shards.sample import MANIFEST_NAME, Sample, Skipped, config_hash, sidecar_name

__all__ = ["Job", "Make", "Progress", "manifest_of", "pack", "write_shard"]


@dataclass(frozen=True)
class Job:
    """One shard to make.

    Attributes:
        name: The shard's file name without ``.tar``, e.g. ``coco-000003``.
        items: Whatever the maker needs to know; picklable.
        samples: Samples to expect, for the progress bar; 0 means one per item.
    """

    name: str
    items: tuple[Any, ...]
    samples: int = 0

    @property
    def shard(self) -> str:
        """The tar's file name."""
        return f"{self.name}.tar"


Make = Callable[[Job], Iterable[Sample | Skipped]]
"""Makes a job's samples; picklable, and gives the same samples every time."""

Progress = Callable[[int, int, int], None]
"""Gets (samples done, samples expected, inputs skipped) of the whole set."""


def pack(
    out: Path,
    jobs: Sequence[Job],
    make: Make,
    config: Mapping[str, Any],
    *,
    workers: int = 1,
    overwrite: bool = False,
    suspect: Collection[str] = (),
    progress: Progress | None = None,
) -> Manifest:
    """Make a shard set, or finish one that was begun.

    Shards whose sidecar and size are right are kept, and what an interrupted run left is removed.
    The content of a kept shard is not read again: name it in ``suspect`` to have it made again.

    Args:
        out: Folder; made if it is not there. Files in it that are not ours are left alone.
        jobs: One per shard; names, order and content must follow from ``config``.
        make: Gives a job's samples; runs in the worker processes.
        config: Everything that decides the bytes, as JSON values.
        workers: Processes; 0 or 1 works in this one. Does not change the bytes.
        overwrite: Remove the set that is in ``out``, whatever its configuration, and start again.
        suspect: Tar names of shards to make again even if they look finished.
        progress: Told how far the whole set is, kept shards included.

    Returns:
        The manifest, as written.

    Raises:
        UsageError: ``out`` holds a set of another configuration or files of another program that
            stand in the way, or another run is writing there.
        ShardError: A sample key occurs twice.
        StmError: A worker died, or the disk is full; what is finished is kept for the next run.
    """
    if not jobs:
        raise UsageError(f"{out}: there is nothing to pack, the selection holds no input")
    plan = plan_value(config, [job.shard for job in jobs])
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: expected a folder for the shards, found a file; use another name")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        prepare_folder(out, plan, overwrite=overwrite)
        try:
            kept = [job for job in jobs if job.shard not in suspect]
            return _fill(out, jobs, kept, make, plan["config"], workers, _Tally(jobs, progress))
        finally:
            clear_leftovers(out, plan["shards"])


@dataclass(frozen=True)
class _Done:
    """A finished shard without its index: small enough to hold for every shard of a set."""

    entry: ShardEntry
    keys: tuple[str, ...]
    statistics: Mapping[str, int]
    skipped: Mapping[str, int]

    @classmethod
    def of(cls, sidecar: Sidecar) -> "_Done":
        return cls(
            ShardEntry.of(sidecar),
            tuple(record.key for record in sidecar.index),
            sidecar.statistics,
            Counter(item.reason for item in sidecar.skipped),
        )


@dataclass(frozen=True)
class _WriteJob:
    """The function that the workers run."""

    out: Path
    make: Make
    config_hash: str

    def __call__(self, job: Job) -> _Done:
        with holding_plan(self.out, self.config_hash):
            return _Done.of(write_shard(self.out / job.shard, self.make(job), self.config_hash))


class _Tally:
    """Adds up the progress that comes in pieces from several processes."""

    def __init__(self, jobs: Sequence[Job], progress: Progress | None) -> None:
        self._expected = sum(job.samples or len(job.items) for job in jobs)
        self._progress = progress
        self._samples = 0
        self._skipped = 0

    def add(self, samples: int, skipped: int) -> None:
        self._samples += samples
        self._skipped += skipped
        if self._progress is not None:
            self._progress(self._samples, self._expected, self._skipped)


def _fill(
    out: Path,
    jobs: Sequence[Job],
    trusted: Sequence[Job],
    make: Make,
    config: Mapping[str, Any],
    workers: int,
    tally: _Tally,
) -> Manifest:
    """Make the shards that are missing or not trusted, then the manifest."""
    digest = config_hash(config)
    done: dict[str, _Done] = {}
    owner: dict[str, str] = {}
    for job in trusted:
        sidecar = _finished(out / job.shard, digest)
        if sidecar is not None:
            done[job.shard] = _Done.of(sidecar)
            _claim_keys(owner, done[job.shard])
            tally.add(len(sidecar.index), len(sidecar.skipped))
    missing = [job for job in jobs if job.shard not in done]
    if missing:  # the set is not whole, and these shards are not either: let nothing say so
        remove([out / MANIFEST_NAME])
        remove([out / sidecar_name(job.shard) for job in missing])
    write = _WriteJob(out, make, digest)
    with closing(map_unordered(write, missing, workers, on_count=tally.add)) as results:
        for result in results:
            done[result.entry.name] = result
            _claim_keys(owner, result)
    manifest = _manifest(config, [done[job.shard] for job in jobs])
    path, data = out / MANIFEST_NAME, manifest.to_json()
    if not path.is_file() or path.read_bytes() != data:  # a second run over a whole set: no change
        write_whole(path, data, sync=True)
    return manifest


def _finished(path: Path, digest: str) -> Sidecar | None:
    """Return the sidecar of a shard that is complete and of this configuration, else None."""
    where = path.with_name(sidecar_name(path.name))
    try:
        data = where.read_bytes()
        sidecar = Sidecar.from_json(data, str(where))
        size = path.stat().st_size
    except (FileNotFoundError, ShardError):
        return None  # never finished, or damaged: either way it is made again
    stated = (sidecar.shard, sidecar.config_hash, sidecar.bytes, sidecar.to_json())
    return sidecar if stated == (path.name, digest, size, data) else None


def _claim_keys(owner: dict[str, str], done: _Done) -> None:
    for key in done.keys:
        if key in owner:
            raise ShardError(
                f"sample key {key!r} occurs in {owner[key]} and in {done.entry.name}; keys must "
                "differ within a set, rename one of the two inputs"
            )
        owner[key] = done.entry.name


def manifest_of(config: Mapping[str, Any], sidecars: Iterable[Sidecar]) -> Manifest:
    """Return the manifest of a set whose shards have these sidecars, in this order."""
    return _manifest(config, [_Done.of(sidecar) for sidecar in sidecars])


def _manifest(config: Mapping[str, Any], done: Sequence[_Done]) -> Manifest:
    totals: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for shard in done:
        totals.update(shard.statistics)
        skipped.update(shard.skipped)
    return Manifest(config, tuple(shard.entry for shard in done), dict(totals), dict(skipped))
