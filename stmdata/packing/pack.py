"""Samples to shard sets: resumable, the same bytes with any number of workers, the manifest last.

:func:`pack` writes ``config.json`` first, then each tar followed by its sidecar, and
``manifest.json`` when every shard is there. Each file is complete or absent, so an interrupted run
resumes with the shards that are missing. ``docs/shard-format.md`` describes the files.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from stmdata.packing.config import SetConfig
from stmdata.packing.folder import clear_leftovers, holding_config, prepare_folder, remove_set
from stmdata.packing.writer import write_shard
from stmtrain.datasets.dataset import DATASETS
from stmtrain.datasets.files import describe_faults
from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.files import locked, read_regular, remove, write_if_changed, writing
from stmtrain.processes import Progress, map_unordered
from stmtrain.shards.manifest import Manifest, ShardEntry, Sidecar
from stmtrain.shards.sample import MANIFEST_NAME, Sample, Skipped, sidecar_name

_MOST_REASONS = 4


@dataclass(frozen=True)
class Job:
    """One shard to make.

    Attributes:
        name: The shard's file name without ``.tar``, e.g. ``coco-000003``.
        items: One per expected sample: whatever the maker needs to know; picklable.
    """

    name: str
    items: tuple[Any, ...]

    @property
    def shard(self) -> str:
        """The tar's file name."""
        return f"{self.name}.tar"


class FaultyInputsError(DataError):
    """Inputs of a job that cannot be used; other jobs are still made, to report all at once.

    Attributes:
        faults: One line on each input, by its name.
        advice: What else the user can do, for all of them.
    """

    def __init__(self, faults: Mapping[str, str], advice: str) -> None:
        super().__init__(f"{describe_faults(faults)}, {advice}")
        self.faults, self.advice = faults, advice


Make = Callable[[Job], Iterable[Sample | Skipped]]
"""Makes a job's samples; picklable, and makes the same samples every time."""


@dataclass(frozen=True)
class SetPlan:
    """A shard set to make; :func:`pack` makes it.

    Attributes:
        config: Everything that decides the bytes of the set, as JSON values.
        jobs: One per shard; their names, order and content follow from ``config``.
        make: Makes the samples of a job, in a worker process.
    """

    config: Mapping[str, Any]
    jobs: Sequence[Job]
    make: Make


def pack(
    plan: SetPlan,
    out: Path | str,
    *,
    workers: int = 1,
    overwrite: bool = False,
    remake: Collection[str] = (),
    progress: Progress | None = None,
) -> Manifest:
    """Make a shard set, or finish one that was interrupted.

    Shards whose sidecar and size are right are kept, without reading their content again. What an
    interrupted run left is removed.

    Args:
        plan: The set, e.g. from :func:`~stmdata.packing.clips.prepare_coco`.
        out: The folder; created if absent. Files of other programs in it are left alone.
        workers: Number of processes; 0 or 1 works in this one. Does not change the bytes.
        overwrite: Remove the set in ``out``, whatever its configuration, and start again.
        remake: Tar names of shards to make again even if they look finished.
        progress: Called with the samples done, the samples expected, and how many inputs were
            skipped; kept shards are included.

    Returns:
        The manifest, as written.

    Raises:
        UsageError: ``out`` contains a set of another configuration, or files of another program
            under the names of ours, or another run is writing there.
        ShardError: A sample key occurs twice.
        DataError: An input cannot be used, or none gave a sample; then nothing is left in ``out``.
        StmError: A worker died, or the disk is full; finished shards are kept for the next run.
    """
    out = Path(out)
    if not plan.jobs:
        raise UsageError(f"{out}: there is nothing to pack; the selection contains no input")
    config = SetConfig(plan.config, tuple(job.shard for job in plan.jobs))
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: expected a folder for the shards, found a file; use another name")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        prepare_folder(out, config, overwrite=overwrite)
        try:
            tally = Tally(sum(len(job.items) for job in plan.jobs), progress)
            finished = _make_shards(out, plan, config.hash, workers, remake, tally)
            manifest = manifest_of(config.config, finished)
            if not manifest.totals["samples"]:
                reason = _no_sample(out, config.shards)
                remove_set(out, config.shards)
                raise DataError(reason)
            write_if_changed(out / MANIFEST_NAME, manifest.to_json())
            return manifest
        except DataError:
            begun = any((out / sidecar_name(shard)).exists() for shard in config.shards)
            if not begun and not remake:
                remove_set(out, config.shards)  # the next try may have other settings
            raise
        finally:
            clear_leftovers(out, config.shards)


def _no_sample(out: Path, shards: Iterable[str]) -> str:
    """Say why there is no sample: the most frequent reasons, each with an example."""
    inputs: dict[str, list[str]] = {}
    for path in (out / sidecar_name(shard) for shard in shards):
        for item in Sidecar.from_json(read_regular(path), str(path)).skipped:
            inputs.setdefault(item.reason, []).append(item.input)
    most = sorted(inputs.items(), key=lambda item: -len(item[1]))[:_MOST_REASONS]
    reasons = "; ".join(f"{why} ({len(those)} times), such as {those[0]}" for why, those in most)
    return (
        f"{out}: expected at least one sample, none could be made: {reasons or 'no input'}; "
        "correct the input or the settings (nothing was written)"
    )


@dataclass(frozen=True)
class ShardSummary:
    """A finished shard without its index: small enough to hold for every shard of a set."""

    entry: ShardEntry
    keys: tuple[str, ...]
    statistics: Mapping[str, int]
    skipped: Mapping[str, int]

    @classmethod
    def of(cls, sidecar: Sidecar) -> Self:
        """Summarise a sidecar."""
        return cls(
            ShardEntry.of(sidecar),
            tuple(row.key for row in sidecar.index),
            sidecar.statistics,
            Counter(item.reason for item in sidecar.skipped),
        )


def manifest_of(config: Mapping[str, Any], shards: Iterable[ShardSummary]) -> Manifest:
    """Return the manifest of a set of these shards, in this order."""
    entries = []
    totals: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for shard in shards:
        entries.append(shard.entry)
        totals.update(shard.statistics)
        skipped.update(shard.skipped)
    known = DATASETS.get(str(config.get("dataset")))
    about = known.about if known is not None else {}
    return Manifest(config, tuple(entries), dict(totals), dict(skipped), about)


class Tally:
    """Adds up progress that arrives in pieces from several processes."""

    def __init__(self, expected: int, progress: Progress | None) -> None:
        self._expected, self._progress = expected, progress
        self._samples = self._skipped = 0

    def add(self, samples: int, skipped: int) -> None:
        """Count samples and skipped inputs, and report the sums."""
        self._samples += samples
        self._skipped += skipped
        if self._progress is not None:
            note = f"{self._skipped} skipped, listed at the end" if self._skipped else ""
            self._progress(self._samples, self._expected, note)


def _write_job(
    out: Path, make: Make, config_hash: str, job: Job
) -> ShardSummary | tuple[Mapping[str, str], str]:
    """Make one shard, or return the faults of its inputs; the function that the workers run."""
    with holding_config(out, config_hash):
        try:
            return ShardSummary.of(write_shard(out / job.shard, make(job), config_hash))
        except FaultyInputsError as error:
            return error.faults, error.advice


def _make_shards(
    out: Path, plan: SetPlan, digest: str, workers: int, remake: Collection[str], tally: Tally
) -> list[ShardSummary]:
    """Make the shards that are missing or to be remade; return all shards of the set, in order."""
    done: dict[str, ShardSummary] = {}
    owner: dict[str, str] = {}
    for job in plan.jobs:
        sidecar = None if job.shard in remake else _finished(out / job.shard, digest)
        if sidecar is not None:
            done[job.shard] = ShardSummary.of(sidecar)
            claim_keys(owner, done[job.shard])
            tally.add(len(sidecar.index), len(sidecar.skipped))
    missing = [job for job in plan.jobs if job.shard not in done]
    if missing:  # from now on no file may state that the set or these shards are complete
        remove([out / MANIFEST_NAME])
        remove([out / sidecar_name(job.shard) for job in missing])
    write = partial(_write_job, out, plan.make, digest)
    faults: dict[str, str] = {}
    advice = ""
    with closing(map_unordered(write, missing, workers, on_count=tally.add)) as results:
        for result in results:
            if isinstance(result, ShardSummary):
                done[result.entry.name] = result
                claim_keys(owner, result)
            else:
                faults.update(result[0])
                advice = result[1]
    if faults:
        raise FaultyInputsError(dict(sorted(faults.items())), advice)
    return [done[job.shard] for job in plan.jobs]


def _finished(path: Path, digest: str) -> Sidecar | None:
    """Return the sidecar of a shard that is complete and of this configuration, else None."""
    place = path.with_name(sidecar_name(path.name))
    try:
        data = read_regular(place)
        sidecar = Sidecar.from_json(data, str(place))
        size = path.stat().st_size
    except (FileNotFoundError, ShardError):
        return None  # never finished, or damaged: made again in both cases
    stated = (sidecar.shard, sidecar.config_hash, sidecar.bytes, sidecar.to_json())
    return sidecar if stated == (path.name, digest, size, data) else None


def claim_keys(owner: dict[str, str], shard: ShardSummary) -> None:
    """Note which shard has which sample key; refuse a key that another shard has."""
    for key in shard.keys:
        if key in owner:
            raise ShardError(
                f"sample key {key!r} occurs in {owner[key]} and in {shard.entry.name}; keys must "
                "differ within a set, rename one of the two samples"
            )
        owner[key] = shard.entry.name
