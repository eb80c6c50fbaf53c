"""Make a shard set whole again, once :func:`stmdata.checking.verify.verify` has said what is wrong.

The set's own configuration says how its shards were made; only the places of the source files are
needed. A shard is made anew beside the bad one and takes its place when it is whole, and whatever
the source gives that is not what the set was made of is refused before anything is touched.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from stmdata.checking.verify import Verification
from stmdata.packing.config import parse_plan, plan_json, plan_value
from stmdata.packing.pack import Progress, manifest_of
from stmtrain.datasets.dataset import DATASETS
from stmtrain.errors import ShardError, UsageError
from stmtrain.files import locked, remove, write_whole
from stmtrain.settings import from_mapping
from stmtrain.shards.manifest import Manifest, ShardEntry, Sidecar, is_indexed
from stmtrain.shards.sample import CONFIG_NAME, MANIFEST_NAME, sidecar_name
from stmtrain.shards.store import read_manifest

__all__ = ["forget_shards", "options_needed", "repair"]

Again = Callable[..., Manifest]
"""Makes a set; the workers, the shards not to be trusted and the progress are still to be given."""


def options_needed(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options that say where the source of a set of this configuration is.

    Raises:
        UsageError: Its shards cannot be made here.
    """
    if is_indexed(config):
        raise UsageError(
            'the tars were made elsewhere: fetch the bad ones again, then run "stm shards index"'
        )
    source = config.get("source")
    kind = source.get("kind") if isinstance(source, dict) else None
    if kind == "coco":
        return ("images", "annotations")
    if kind == "masks":
        return ("images", "masks")
    if str(config.get("dataset")) in DATASETS:
        return ("root",)
    raise UsageError(
        "no command of stm made this set: forget the bad shards (--forget), then run again what "
        "made it"
    )


def repair(
    folder: Path,
    found: Verification,
    places: Mapping[str, Path | None],
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[str]:
    """Make what is bad again: ``config.json``, shards, the manifest.

    Args:
        folder: The set.
        found: What ``verify`` said of it just now.
        places: The source by :func:`options_needed`; not needed when no shard is bad.
        workers: Processes.
        progress: As of ``pack``.

    Returns:
        Shards that were made again but not as the same bytes as before: another release or
        another version of a library made the set.

    Raises:
        UsageError: A place is not given, or what is there is not what the set was made of.
        DataError: The source cannot be read.
    """
    needed = options_needed(found.config) if found.bad_shards else ()
    given = {name: path for name, path in places.items() if path is not None}
    absent = [f"--{name}" for name in needed if name not in given]
    if absent:
        raise UsageError(f"{folder}: give {' and '.join(absent)} to make the bad shards again")
    before = _restore(folder, found)
    if not found.bad_shards:
        _rebuild_manifest(folder, found)
        return []
    manifest = _remake(folder, found, [given[name] for name in needed], workers, progress)
    old = {entry.name: entry.sha256 for entry in before}
    return [e.name for e in manifest.shards if old.get(e.name, e.sha256) != e.sha256]


def forget_shards(folder: Path, found: Verification) -> None:
    """Remove the marks that say that the bad shards are complete, and the set with them.

    The tars stay until better ones take their places.
    """
    _restore(folder, found)
    with locked(folder):
        remove([folder / MANIFEST_NAME])
        remove([folder / sidecar_name(name) for name in found.bad_shards])


def _restore(folder: Path, found: Verification) -> tuple[ShardEntry, ...]:
    """Make ``config.json`` and the manifest fit to go on from; return what the manifest listed."""
    plan = plan_value(found.config, found.names)
    entries: tuple[ShardEntry, ...] = ()
    path = folder / CONFIG_NAME
    with locked(folder):
        with suppress(ShardError, OSError):
            there = parse_plan(path.read_bytes(), str(path))
            if there != plan:
                raise UsageError(
                    f"{path}: is of another set than {MANIFEST_NAME} (config_hash "
                    f"{there['config_hash'][:16]}… and {plan['config_hash'][:16]}…); remove the "
                    "one that the sidecars do not name"
                )
        try:
            entries = read_manifest(folder).shards
        except ShardError:
            remove([folder / MANIFEST_NAME])
        if not path.is_file() or path.read_bytes() != plan_json(plan):
            write_whole(path, plan_json(plan), sync=True)
    return entries


def _rebuild_manifest(folder: Path, found: Verification) -> None:
    """Write the manifest from the sidecars, all of which are right."""
    sidecars = []
    for name in found.names:
        path = folder / sidecar_name(name)
        sidecars.append(Sidecar.from_json(path.read_bytes(), str(path)))
    data = manifest_of(found.config, sidecars).to_json()
    path = folder / MANIFEST_NAME
    with locked(folder):
        if not path.is_file() or path.read_bytes() != data:
            write_whole(path, data, sync=True)


def _remake(
    folder: Path,
    found: Verification,
    places: Sequence[Path],
    workers: int,
    progress: Progress | None,
) -> Manifest:
    """Run what made the set, with the settings that its configuration holds."""
    common = {"workers": workers, "suspect": found.bad_shards, "progress": progress}
    make = _pack_videos if "root" in options_needed(found.config) else _prepare
    try:
        again = make(folder, found.config, places)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{folder / CONFIG_NAME}: its configuration is not one of this release ({error!r}); "
            "forget the bad shards (--forget), then run again the command that made the set"
        ) from None
    return again(**common)


def _prepare(folder: Path, config: Mapping[str, Any], places: Sequence[Path]) -> Again:
    """Return the call that prepares the clips."""
    from stmdata.packing.clips import Options, prepare_coco, prepare_masks
    from stmdata.synthesis.recipe import RECIPES

    family = {known.family: type(known) for known in RECIPES.values()}[config["recipe"]["family"]]
    recipe = from_mapping(family, config["recipe"], f"{folder / CONFIG_NAME}: recipe")
    plain = {f.name: config[f.name] for f in fields(Options) if f.name != "recipe"}
    options = Options(recipe, **plain)
    prepare = prepare_coco if "annotations" in options_needed(config) else prepare_masks
    images, labels = places
    return partial(prepare, images, labels, folder, options, limit=config["source"]["limit"])


def _pack_videos(folder: Path, config: Mapping[str, Any], places: Sequence[Path]) -> Again:
    """Return the call that packs the videos."""
    from stmdata.packing.videos import pack_videos

    dataset = DATASETS[config["dataset"]]
    return partial(
        pack_videos,
        dataset,
        places[0],
        config["split"],
        folder,
        resize=config["resize"],
        options={name: config[name] for name in dataset.options},
        shard_bytes=config["shard_bytes"],
    )
