"""Check a shard set completely: its JSON files against each other, and every shard in full.

What a reader would meet by chance is looked for here. Nothing is changed. The work on each shard
(:mod:`stmdata.checking.check_shard`) can be given to other processes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmdata.checking.check_shard import CheckShard, Fault, ShardCheck, compare_counts
from stmdata.packing.config import parse_plan, plan_value
from stmtrain.errors import RemoteError, ShardError
from stmtrain.shards.manifest import Manifest, ShardEntry, Sidecar
from stmtrain.shards.sample import CONFIG_NAME, MANIFEST_NAME, sidecar_name
from stmtrain.shards.store import Store, open_store

if TYPE_CHECKING:
    from stmtrain.shards.cache import Cache

__all__ = ["Fault", "Mapper", "Progress", "Verification", "verify"]

Mapper = Callable[[CheckShard, Sequence[ShardEntry]], Iterable[ShardCheck]]
"""Applies the first to each of the second, in any order: ``map``, or one that has processes."""

Progress = Callable[[int, int, int, int], None]
"""Gets (samples done, samples in all, bytes done, faults so far)."""


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
    location: Path | str,
    mapper: Mapper | None = None,
    progress: Progress | None = None,
    cache: "Cache | None" = None,
) -> Verification:
    """Verify a set; without a readable manifest, what its ``config.json`` plans.

    Args:
        location: Folder or URL of the set. From a URL everything is fetched anew.
        mapper: Does the shards; ``map``, that is in this process, when ``None``.
        progress: Told after each shard.
        cache: In its folder the shards from a URL lie while they are checked.

    Raises:
        ShardError: Nothing says what the set should be.
        UsageError: A URL of another kind, or a shard that is larger than the cache may be.
        RemoteError: The server does not answer, or refuses; that says nothing of the set.
    """
    store = open_store(location, cache)
    plan = _plan(store)
    checks: dict[str, ShardCheck] = {}
    total, bad = sum(entry.samples for entry in plan.entries), len(plan.faults)
    samples = size = 0
    for check in (mapper or map)(CheckShard(location, plan.config, cache), plan.entries):
        checks[check.entry.name] = check
        samples, size = samples + check.entry.samples, size + check.entry.bytes
        bad += len(check.faults)
        if progress is not None:
            progress(samples, total, size, bad)
    ordered = [checks[entry.name] for entry in plan.entries]
    faults = [
        *plan.faults,
        *(fault for check in ordered for fault in check.faults),
        *_check_keys(store, ordered),
    ]
    if plan.manifest is not None and not any(check.faults for check in ordered):
        faults += _check_totals(store.where(MANIFEST_NAME), plan.manifest, ordered)
    counted: Counter[str] = Counter()
    for check in ordered:
        counted.update(check.statistics)
    notes = [*_strangers(store, plan.names), *plan.notes]
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
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()


def _plan(store: Store) -> _Plan:
    """Learn from the manifest what to expect or, without one, from ``config.json`` and sidecars."""
    try:
        manifest = Manifest.from_json(store.manifest(), store.where(MANIFEST_NAME))
    except ShardError as error:
        return _plan_without_manifest(store, error)
    names = tuple(entry.name for entry in manifest.shards)
    plan = _Plan(manifest, manifest.config, names, manifest.shards)
    where = store.where(CONFIG_NAME)
    try:
        data = store.file(CONFIG_NAME)
        if data is None:
            note = f'{where}: is missing; readers do without it, "stm shards repair" restores it'
            return replace(plan, notes=(note,))
        if parse_plan(data, where) == plan_value(manifest.config, names):
            return plan
        fault = (
            f"{where}: its configuration or shards differ from the manifest's; one of the two "
            "belongs to another set"
        )
    except RemoteError as error:  # some servers refuse what is not there
        return replace(plan, notes=(str(error),))
    except ShardError as error:
        fault = str(error)
    return replace(plan, faults=(Fault("", fault),))


def _plan_without_manifest(store: Store, why: ShardError) -> _Plan:
    try:
        plan = parse_plan(store.file(CONFIG_NAME) or b"", store.where(CONFIG_NAME))
    except ShardError:
        raise why from None  # nothing says what this should be
    entries, faults = [], [Fault("", str(why))]
    for name in plan["shards"]:
        where = store.where(sidecar_name(name))
        try:
            data = store.file(sidecar_name(name))
            if data is None:
                raise ShardError(f"{where}: the sidecar is missing; pack it again")
            sidecar = Sidecar.from_json(data, where)
            if sidecar.shard != name:
                raise ShardError(f"{where}: is the sidecar of {sidecar.shard}; pack it again")
            entries.append(ShardEntry.of(sidecar))
        except ShardError as error:
            faults.append(Fault(name, str(error)))
    return _Plan(None, plan["config"], tuple(plan["shards"]), tuple(entries), tuple(faults))


def _check_keys(store: Store, checks: Sequence[ShardCheck]) -> Iterator[Fault]:
    """Find sample keys that occur twice in the set."""
    owner: dict[str, str] = {}
    for check in checks:
        for key in check.keys:
            if key in owner:
                text = (
                    f"{store.where(check.entry.name)}, sample {key}: the key occurs in "
                    f"{owner[key]} too; keys must differ within a set"
                )
                yield Fault(check.entry.name, text, key)
            owner[key] = check.entry.name


def _check_totals(where: str, manifest: Manifest, checks: Sequence[ShardCheck]) -> Iterator[Fault]:
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
        yield from (Fault("", t) for t in compare_counts(f"{where}: {name}", stated, counted))


def _strangers(store: Store, names: Sequence[str]) -> Iterator[str]:
    """Name what lies there and is not of the set, as far as it could be taken for it."""
    ours = {MANIFEST_NAME, CONFIG_NAME, *names, *map(sidecar_name, names)}
    for name in store.names():
        where, path = store.where(name), Path(name)
        if name in ours:
            continue
        if path.suffix == ".tmp":
            yield f"{where}: left by a run that was interrupted; it can be removed"
        elif path.suffix == ".tar":
            yield f"{where}: not of this set; a pattern like *.tar would read it too"
        elif path.suffix == ".json" and path.with_suffix(".tar").name not in ours:
            yield f"{where}: not of this set"
