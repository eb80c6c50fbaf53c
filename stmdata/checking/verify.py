"""Check a shard set completely: its JSON files against each other, and every shard in full.

A reader meets a fault only when it reads the damaged bytes; here all bytes are read and decoded.
Nothing is changed. :mod:`stmdata.checking.check_shard` checks each shard, in any process.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmdata.checking.check_shard import (
    CheckShard,
    Fault,
    ShardCheck,
    compare_counts,
    read_sidecar,
)
from stmdata.packing.config import SetConfig
from stmdata.packing.pack import manifest_of
from stmtrain.errors import RemoteError, ShardError
from stmtrain.processes import Progress, map_unordered
from stmtrain.shards.manifest import Manifest, ShardEntry, Sidecar
from stmtrain.shards.sample import CONFIG_NAME, MANIFEST_NAME, sidecar_name
from stmtrain.shards.store import Store, open_store

if TYPE_CHECKING:
    from stmtrain.shards.cache import Cache


@dataclass(frozen=True)
class Verification:
    """The result for a set.

    Attributes:
        config: The set's configuration and the tars that it should have, in order.
        faults: What is wrong, in the order of the shards; empty if the set is complete and intact.
        notes: Harmless findings: leftovers, files that do not belong to the set.
        shards: Number of shards that were checked.
        bytes: Their size.
        statistics: Samples, frames, masks, objects and bytes that were read.
    """

    config: SetConfig
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    shards: int
    bytes: int
    statistics: Mapping[str, int]

    @property
    def bad_shards(self) -> tuple[str, ...]:
        """The shards that have faults, in order."""
        return tuple(dict.fromkeys(fault.shard for fault in self.faults if fault.shard))

    def to_mapping(self) -> dict[str, Any]:
        """Return everything that was found as plain JSON values."""
        return {
            "intact": not self.faults,
            "shards": self.shards,
            "bytes": self.bytes,
            "statistics": dict(self.statistics),
            "faults": [asdict(fault) for fault in self.faults],
            "bad_shards": list(self.bad_shards),
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """Return one line on how much was checked and how many faults were found."""
        count = self.statistics
        checked = (
            f"{self.shards} shards, {count.get('samples', 0)} samples, "
            f"{count.get('frames', 0)} frames, {count.get('masks', 0)} masks, "
            f"{self.bytes / 1e6:.1f} MB"
        )
        if not self.faults:
            return f"{checked}: complete and intact"
        return f"{checked}: {len(self.faults)} faults, {len(self.bad_shards)} shards to rebuild"


def verify(
    location: Path | str,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    cache: "Cache | None" = None,
) -> Verification:
    """Verify a set; without a readable manifest, the one that its ``config.json`` describes.

    Args:
        location: Folder or URL of the set. From a URL everything is fetched anew.
        workers: Number of processes.
        progress: Called after each shard with the samples done, their total, and the bytes and
            faults so far.
        cache: Its folder stores the shards from a URL while they are checked.

    Raises:
        ShardError: Neither manifest nor ``config.json`` states what the set should be.
        UsageError: A URL of another kind, or a shard that is larger than the cache may be.
        RemoteError: The server does not answer, or refuses; this is no statement about the set.
    """
    store = open_store(location, cache)
    expected = _expect(store)
    if cache is not None:  # each worker keeps one shard in it
        largest = max((entry.bytes for entry in expected.entries), default=1)
        workers = min(workers, cache.limit // largest)
    checks: dict[str, ShardCheck] = {}
    total, faulty = sum(entry.samples for entry in expected.entries), len(expected.faults)
    samples = size = 0
    check_shard = CheckShard(location, expected.config.config, cache)
    for check in map_unordered(check_shard, expected.entries, workers):
        checks[check.entry.name] = check
        samples, size = samples + check.entry.samples, size + check.entry.bytes
        faulty += len(check.faults)
        if progress is not None:
            note = f"{size / 1e6:.0f} MB"
            progress(samples, total, f"{note}, {faulty} faults" if faulty else note)
    ordered = [checks[entry.name] for entry in expected.entries]
    return _summarise(store, expected, ordered, size)


def _summarise(
    store: Store, expected: "_Expected", checks: Sequence[ShardCheck], size: int
) -> Verification:
    """Add the faults that show only across shards, and sum up."""
    in_shards = [fault for check in checks for fault in check.faults]
    faults = [*expected.faults, *in_shards, *_check_keys(store, checks)]
    counted, stated = manifest_of(expected.config.config, checks), expected.manifest
    if stated is not None and not in_shards:
        where = store.where(MANIFEST_NAME)
        lines = compare_counts(f"{where}: totals", stated.totals, counted.totals)
        lines += compare_counts(f"{where}: skipped", stated.skipped, counted.skipped)
        faults += [Fault("", line) for line in lines]
    return Verification(
        expected.config,
        tuple(faults),
        (*_strangers(store, expected.config.shards), *expected.notes),
        len(checks),
        size,
        counted.totals,
    )


@dataclass(frozen=True)
class _Expected:
    """What should be in the set, and what is wrong with its own files."""

    manifest: Manifest | None
    config: SetConfig
    entries: tuple[ShardEntry, ...]
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()


def _expect(store: Store) -> _Expected:
    """Read what to expect from the manifest or, without one, ``config.json`` and sidecars."""
    try:
        manifest = Manifest.from_json(store.manifest(), store.where(MANIFEST_NAME))
    except ShardError as error:
        return _expect_without_manifest(store, error)
    config = SetConfig(manifest.config, tuple(entry.name for entry in manifest.shards))
    expected = _Expected(manifest, config, manifest.shards)
    where = store.where(CONFIG_NAME)
    try:
        data = store.file(CONFIG_NAME)
        if data is None:
            note = f'{where}: missing; readers do not need it, "stm shards repair" restores it'
            return replace(expected, notes=(note,))
        if SetConfig.from_json(data, where) == config:
            return expected
        fault = (
            f"{where}: its configuration or shards differ from the manifest's; one of the two "
            "belongs to another set"
        )
    except RemoteError as error:  # some servers refuse files that do not exist
        return replace(expected, notes=(str(error),))
    except ShardError as error:
        fault = str(error)
    return replace(expected, faults=(Fault("", fault),))


def _expect_without_manifest(store: Store, why: ShardError) -> _Expected:
    try:
        config = SetConfig.from_json(store.file(CONFIG_NAME) or b"", store.where(CONFIG_NAME))
    except ShardError:
        if store.file(MANIFEST_NAME) is None:
            raise why from None
        raise ShardError(  # nothing states what this should be
            f"{store.where(MANIFEST_NAME)}: expected it or {CONFIG_NAME} intact, found both "
            "damaged or missing, and nothing else says how the set was made; make it again in "
            "another folder"
        ) from None
    entries, faults = [], [Fault("", str(why))]
    for name in config.shards:
        try:
            data, where = read_sidecar(store, name)
            sidecar = Sidecar.from_json(data, where)
            if sidecar.shard != name:
                raise ShardError(
                    f'{where}: is the sidecar of {sidecar.shard}; run "stm shards repair"'
                )
            entries.append(ShardEntry.of(sidecar))
        except ShardError as error:
            faults.append(Fault(name, str(error)))
    return _Expected(None, config, tuple(entries), tuple(faults))


def _check_keys(store: Store, checks: Sequence[ShardCheck]) -> Iterator[Fault]:
    """Find sample keys that occur twice in the set."""
    owner: dict[str, str] = {}
    for check in checks:
        for key in check.keys:
            if key in owner:
                text = (
                    f"{store.where(check.entry.name)}, sample {key}: the key also occurs in "
                    f"{owner[key]}; keys must differ within a set"
                )
                yield Fault(check.entry.name, text, key)
            owner[key] = check.entry.name


def _strangers(store: Store, names: Sequence[str]) -> Iterator[str]:
    """Name files that do not belong to the set but could be mistaken for parts of it."""
    ours = {MANIFEST_NAME, CONFIG_NAME, *names, *map(sidecar_name, names)}
    for name in store.names():
        where, path = store.where(name), Path(name)
        if name in ours:
            continue
        if path.suffix == ".tmp":
            yield f"{where}: left by an interrupted run; it can be removed"
        elif path.suffix == ".tar":
            yield f"{where}: does not belong to this set; a pattern like *.tar would read it too"
        elif path.suffix == ".json" and path.with_suffix(".tar").name not in ours:
            yield f"{where}: does not belong to this set"
