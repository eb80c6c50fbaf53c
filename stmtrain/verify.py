"""Check a shard set completely: its JSON files against each other, and every shard in full.

What a reader would meet by chance is looked for here. Nothing is changed. The work on each shard
(:mod:`stmtrain.shard_check`) can be given to other processes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stmtrain.errors import ShardError
from stmtrain.set_config import parse_plan, plan_value
from stmtrain.shard_check import CheckShard, ShardCheck, compare_counts
from stmtrain.shards import read_manifest
from stmtrain.spec import (
    CONFIG_NAME,
    MANIFEST_NAME,
    Manifest,
    ShardEntry,
    Sidecar,
    sidecar_name,
)

__all__ = ["Fault", "Mapper", "Progress", "Verification", "verify"]

Mapper = Callable[[CheckShard, Sequence[ShardEntry]], Iterable[ShardCheck]]
"""Applies the first to each of the second, in any order: ``map``, or one that has processes."""

Progress = Callable[[int, int, int, int], None]
"""Gets (samples done, samples in all, bytes done, faults so far)."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: in which shard (empty: the set's own files), and a line about it."""

    shard: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Verification:
    """The outcome for a set.

    Attributes:
        config: The set's configuration.
        names: The tars that it should have, in order.
        faults: What is wrong, in the order of the shards; none means that the set is whole.
        notes: What is there and does no harm: leftovers, files that are not of the set.
        shards: Shards looked at.
        bytes: Their size.
        statistics: Samples, frames, masks, objects and bytes that were read.
    """

    config: Mapping[str, Any]
    names: tuple[str, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    shards: int
    bytes: int
    statistics: Mapping[str, int]

    @property
    def bad_shards(self) -> tuple[str, ...]:
        """The shards that have faults, in order."""
        return tuple(dict.fromkeys(fault.shard for fault in self.faults if fault.shard))

    def summary(self) -> str:
        """Say in one line how much was looked at and what came of it."""
        count = self.statistics
        looked = (
            f"{self.shards} shards, {count.get('samples', 0)} samples, "
            f"{count.get('frames', 0)} frames, {count.get('masks', 0)} masks, "
            f"{self.bytes / 1e6:.1f} MB"
        )
        if not self.faults:
            return f"{looked}: whole"
        return f"{looked}: {len(self.faults)} faults, {len(self.bad_shards)} shards to make again"


def verify(
    folder: Path, mapper: Mapper | None = None, progress: Progress | None = None
) -> Verification:
    """Verify the set in ``folder``; without a readable manifest, what its ``config.json`` plans.

    Args:
        folder: The set.
        mapper: Does the shards; ``map``, that is in this process, when ``None``.
        progress: Told after each shard.

    Raises:
        ShardError: Nothing says what the set should be.
    """
    plan = _plan(folder)
    checks: dict[str, ShardCheck] = {}
    total, bad = sum(entry.samples for entry in plan.entries), len(plan.faults)
    samples = size = 0
    for check in (mapper or map)(CheckShard(folder, plan.config), plan.entries):
        checks[check.entry.name] = check
        samples, size = samples + check.entry.samples, size + check.entry.bytes
        bad += len(check.faults)
        if progress is not None:
            progress(samples, total, size, bad)
    ordered = [checks[entry.name] for entry in plan.entries]
    faults = [
        *plan.faults,
        *(Fault(check.entry.name, text) for check in ordered for text in check.faults),
        *_check_keys(folder, ordered),
    ]
    if plan.manifest is not None and not any(check.faults for check in ordered):
        faults += _check_totals(folder / MANIFEST_NAME, plan.manifest, ordered)
    counted: Counter[str] = Counter()
    for check in ordered:
        counted.update(check.statistics)
    notes = _notes(folder, plan.names)
    return Verification(
        plan.config, plan.names, tuple(faults), tuple(notes), len(ordered), size, dict(counted)
    )


@dataclass(frozen=True)
class _Plan:
    """What the set should be."""

    manifest: Manifest | None
    config: Mapping[str, Any]
    names: tuple[str, ...]
    entries: tuple[ShardEntry, ...]
    faults: tuple[Fault, ...]


def _plan(folder: Path) -> _Plan:
    """Learn from the manifest what to expect or, without one, from ``config.json`` and sidecars."""
    try:
        manifest = read_manifest(folder)
    except ShardError as error:
        return _plan_without_manifest(folder, error)
    names = tuple(entry.name for entry in manifest.shards)
    path = folder / CONFIG_NAME
    faults = []
    try:
        if path.exists() and parse_plan(path.read_bytes(), str(path)) != plan_value(
            manifest.config, names
        ):
            faults.append(
                f"{path}: its configuration or shards differ from the manifest's; one of the two "
                "belongs to another set"
            )
    except (ShardError, OSError) as error:
        faults.append(str(error))
    return _Plan(
        manifest, manifest.config, names, manifest.shards, tuple(Fault("", t) for t in faults)
    )


def _plan_without_manifest(folder: Path, why: ShardError) -> _Plan:
    path = folder / CONFIG_NAME
    try:
        plan = parse_plan(path.read_bytes(), str(path))
    except (ShardError, OSError):
        raise why from None  # nothing says what this should be
    entries, faults = [], [Fault("", str(why))]
    for name in plan["shards"]:
        where = folder / sidecar_name(name)
        try:
            sidecar = Sidecar.from_json(where.read_bytes(), str(where))
            if sidecar.shard != name:
                raise ShardError(f"{where}: is the sidecar of {sidecar.shard}; pack it again")
            entries.append(ShardEntry.of(sidecar))
        except ShardError as error:
            faults.append(Fault(name, str(error)))
        except OSError as error:
            text = f"{where}: sidecar cannot be read ({error.strerror}); pack it again"
            faults.append(Fault(name, text))
    return _Plan(None, plan["config"], tuple(plan["shards"]), tuple(entries), tuple(faults))


def _check_keys(folder: Path, checks: Sequence[ShardCheck]) -> Iterator[Fault]:
    """Find sample keys that occur twice in the set."""
    owner: dict[str, str] = {}
    for check in checks:
        for key in check.keys:
            if key in owner:
                text = (
                    f"{folder / check.entry.name}, sample {key}: the key occurs in "
                    f"{owner[key]} too; keys must differ within a set"
                )
                yield Fault(check.entry.name, text)
            owner[key] = check.entry.name


def _check_totals(path: Path, manifest: Manifest, checks: Sequence[ShardCheck]) -> Iterator[Fault]:
    """Compare the manifest's sums with what the shards hold."""
    totals: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for check in checks:
        totals.update(check.statistics)
        skipped.update(check.skipped)
    for name, stated, counted in (
        ("totals", manifest.totals, totals),
        ("skipped", manifest.skipped, skipped),
    ):
        yield from (Fault("", t) for t in compare_counts(f"{path}: {name}", stated, counted))


def _notes(folder: Path, names: Sequence[str]) -> Iterator[str]:
    """Name what lies in the folder and is not of the set, as far as it could be taken for it."""
    ours = {MANIFEST_NAME, CONFIG_NAME, *names, *map(sidecar_name, names)}
    for path in sorted(folder.iterdir()):
        if path.name in ours:
            continue
        if path.suffix == ".tmp":
            yield f"{path}: left by a run that was interrupted; it can be removed"
        elif path.suffix == ".tar":
            yield f"{path}: not of this set; a pattern like *.tar would read it too"
        elif path.suffix == ".json" and path.with_suffix(".tar").name not in ours:
            yield f"{path}: not of this set"
    if not (folder / CONFIG_NAME).exists():
        path = folder / CONFIG_NAME
        yield f'{path}: is missing; readers do without it, "stm shards repair" restores it'
