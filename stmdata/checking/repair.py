"""Repair a shard set in which :func:`stmdata.checking.verify.verify` found faults.

The set's own configuration states how its shards were made; only the places of the input files must
be given. A shard is rebuilt next to the bad one and replaces it when it is complete. Input that is
not what the set was made of is refused before anything is changed.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from stmdata.checking.verify import Verification
from stmdata.packing.config import SetConfig
from stmdata.packing.pack import SetPlan, ShardSummary, manifest_of, pack
from stmdata.packing.video_samples import OnBadVideo
from stmdata.packing.videos import prepare_videos
from stmtrain.datasets.dataset import DATASETS
from stmtrain.errors import ShardError, UsageError
from stmtrain.files import locked, read_regular, remove, write_if_changed
from stmtrain.processes import Progress
from stmtrain.settings import from_mapping
from stmtrain.shards.manifest import Manifest, ShardEntry, Sidecar, is_indexed
from stmtrain.shards.sample import CONFIG_NAME, MANIFEST_NAME, sidecar_name
from stmtrain.shards.store import LocalStore

_Again = Callable[[], SetPlan]
REINDEX = (
    "the tars come from another program: copy the bad ones again, rename samples whose keys occur "
    'twice, then run "stm shards index"'
)
_STILLS = {"coco": ("images", "annotations"), "masks": ("images", "masks")}
"""The options that name the input of a clip set, by the kind of its still-image source."""


def options_needed(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options that name the input of a set of this configuration.

    Raises:
        UsageError: Its shards cannot be rebuilt here.
    """
    if is_indexed(config):
        raise UsageError(REINDEX)
    if str(config.get("dataset")) in DATASETS:
        return ("root",)
    source = config.get("source")
    kind = source.get("kind") if isinstance(source, dict) else None
    if str(kind) in _STILLS:
        return _STILLS[str(kind)]
    raise UsageError(
        "no command of stm made this set: forget the bad shards (--forget), then run again what "
        "made it"
    )


def repair(
    folder: Path,
    found: Verification,
    places: Mapping[str, Path | None],
    *,
    on_bad_video: OnBadVideo = "raise",
    cache: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[str]:
    """Rebuild the bad files: ``config.json``, shards, the manifest.

    Args:
        folder: The set.
        found: The result of verifying it.
        places: The input by :func:`options_needed`; not needed if no shard is bad.
        on_bad_video: As of :func:`~stmdata.packing.videos.prepare_videos`, for a set of videos.
        cache: Folder for the index of COCO annotations; by default the user's cache folder.
        workers: Number of processes.
        progress: As of :func:`~stmdata.packing.pack.pack`.

    Returns:
        Rebuilt shards whose bytes differ from before: another release, or another version of a
        library, made the set.

    Raises:
        UsageError: A place is not given, or is not the input of the set.
        DataError: The input cannot be read.
    """
    needed = options_needed(found.config.config) if found.bad_shards else ()
    given = {name: path for name, path in places.items() if path is not None}
    absent = [f"--{name}" for name in needed if name not in given]
    if absent:
        raise UsageError(f"{folder}: pass {' and '.join(absent)} to rebuild the bad shards")
    before = _restore(folder, found)
    if not found.bad_shards:
        _rebuild_manifest(folder, found.config)
        return []
    plan = _plan_again(
        folder, found.config.config, [given[name] for name in needed], on_bad_video, cache
    )()
    manifest = pack(plan, folder, workers=workers, remake=found.bad_shards, progress=progress)
    old = {entry.name: entry.sha256 for entry in before}
    return [e.name for e in manifest.shards if old.get(e.name, e.sha256) != e.sha256]


def forget_shards(folder: Path, found: Verification) -> None:
    """Remove the files that mark the bad shards and the set as complete.

    The tars stay until they are replaced.
    """
    _restore(folder, found)
    with locked(folder):
        remove([folder / MANIFEST_NAME])
        remove([folder / sidecar_name(name) for name in found.bad_shards])


def _restore(folder: Path, found: Verification) -> tuple[ShardEntry, ...]:
    """Restore ``config.json``, remove a damaged manifest; return the entries of a readable one."""
    config, path = found.config, folder / CONFIG_NAME
    entries: tuple[ShardEntry, ...] = ()
    with locked(folder):
        with suppress(ShardError, OSError):
            there = SetConfig.from_json(read_regular(path), str(path))
            if there != config:
                raise UsageError(
                    f"{path}: belongs to another set than {MANIFEST_NAME} (config_hash "
                    f"{there.hash[:16]}… and {config.hash[:16]}…); remove the one that the "
                    "sidecars do not name"
                )
        try:
            data = LocalStore(folder).manifest()
            entries = Manifest.from_json(data, str(folder / MANIFEST_NAME)).shards
        except ShardError:
            remove([folder / MANIFEST_NAME])
        write_if_changed(path, config.to_json())
    return entries


def _rebuild_manifest(folder: Path, config: SetConfig) -> None:
    """Write the manifest from the sidecars, which are all right."""
    shards = []
    for name in config.shards:
        path = folder / sidecar_name(name)
        shards.append(ShardSummary.of(Sidecar.from_json(read_regular(path), str(path))))
    with locked(folder):
        write_if_changed(folder / MANIFEST_NAME, manifest_of(config.config, shards).to_json())


def _plan_again(
    folder: Path,
    config: Mapping[str, Any],
    places: Sequence[Path],
    on_bad_video: OnBadVideo,
    cache: Path | None,
) -> _Again:
    """Return the call that plans the set, with the settings of its configuration."""
    try:
        if str(config.get("dataset")) in DATASETS:
            return _plan_videos(config, places[0], on_bad_video)
        return _plan_clips(config, places, cache)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{folder / CONFIG_NAME}: its configuration is not one of this release ({error!r}); "
            "forget the bad shards (--forget), then run again the command that made the set"
        ) from None


def _plan_clips(config: Mapping[str, Any], places: Sequence[Path], cache: Path | None) -> _Again:
    from stmdata.packing.clips import ClipOptions, prepare_coco, prepare_masks
    from stmdata.synthesis.recipe import FAMILIES

    family = type(FAMILIES[config["recipe"]["family"]])
    recipe = from_mapping(family, config["recipe"], f"{CONFIG_NAME}: recipe")
    plain = {f.name: config[f.name] for f in fields(ClipOptions) if f.name != "recipe"}
    coco = partial(prepare_coco, cache=cache)
    kinds: dict[str, Callable[..., SetPlan]] = {"coco": coco, "masks": prepare_masks}
    prepare = kinds[config["source"]["kind"]]
    images, labels = places
    options = ClipOptions(recipe, **plain)
    return partial(prepare, images, labels, options, config["source"]["limit"])


def _plan_videos(config: Mapping[str, Any], root: Path, on_bad_video: OnBadVideo) -> _Again:
    dataset = DATASETS[config["dataset"]]
    return partial(
        prepare_videos,
        dataset.name,
        root,
        config["split"],
        config["resize"],
        overlap=config.get("overlap", "smaller"),
        frames=config.get("frames", "all"),
        many_objects=config.get("many_objects", "refuse"),
        options={name: config[name] for name in dataset.options},
        shard_bytes=config["shard_bytes"],
        on_bad_video=on_bad_video,
    )
