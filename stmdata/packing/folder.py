"""Whose folder is it: which files of an output folder are ours, and may this run use it.

``config.json`` is written before any shard and names the configuration and every shard planned, so
an interrupted or superseded set can be told from files of others, which are never removed.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stmdata.packing.config import SHARD_NAME, plan_json
from stmtrain.errors import StmError, UsageError
from stmtrain.files import lock, remove, remove_temporaries, write_whole
from stmtrain.shards.manifest import is_indexed
from stmtrain.shards.sample import CONFIG_NAME, FORMAT_NAME, MANIFEST_NAME, sidecar_name

__all__ = ["clear_leftovers", "holding_plan", "prepare_folder"]

_MOST_NAMED = 4
_PATIENCE = 5.0
"""How long to wait for a worker that outlived its run, seconds."""


def prepare_folder(out: Path, plan: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make sure that ``out`` holds this plan's ``config.json`` and no shard of another plan.

    Args:
        out: An existing folder.
        plan: From :func:`stmdata.packing.config.plan_value`.
        overwrite: Remove the set that is there first, whatever its configuration.

    Raises:
        UsageError: A set of another configuration is there, or files of other programs stand where
            ours must go. Nothing was removed.
    """
    there = _read_ours(out / CONFIG_NAME)
    manifest = _read_ours(out / MANIFEST_NAME)
    for value in (there, manifest):
        _refuse_indexed(out, value)
    ours = list(dict.fromkeys([*plan["shards"], *_shard_names(there), *_shard_names(manifest)]))
    if overwrite:
        with _replacing_plan(out):
            _remove_set(out, ours)
        there = None
    if there is None:
        _refuse_unknown(out, ours)
        write_whole(out / CONFIG_NAME, plan_json(plan), sync=True)
    elif there != plan:
        raise UsageError(
            f"{out}: holds shards of another configuration ({_differences(there, plan)}); use "
            "another folder, or --overwrite to replace them"
        )
    clear_leftovers(out, ours)


@contextmanager
def holding_plan(out: Path, config_hash: str) -> Iterator[None]:
    """Keep the plan of a set as it is while a worker writes a shard of it.

    A worker may outlive its killed parent for a moment, when the parent's lock on the folder is
    gone: this one stops a run with another plan from beginning under it, and it from writing into
    the set of another plan.

    Raises:
        StmError: Another run has taken the folder over.
    """
    taken = StmError(f"{out}: another run took the folder over; this one stops")
    try:
        file = (out / CONFIG_NAME).open("rb")
    except FileNotFoundError:
        raise taken from None
    with file:
        held = lock(file.fileno(), shared=True) and os.fstat(file.fileno()).st_nlink > 0
        if not held or json.loads(file.read()).get("config_hash") != config_hash:
            raise taken
        yield


@contextmanager
def _replacing_plan(out: Path) -> Iterator[None]:
    """Wait until no worker of an earlier run writes (:func:`holding_plan`), and keep it so."""
    try:
        descriptor = os.open(out / CONFIG_NAME, os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    try:
        if not lock(descriptor, patience=_PATIENCE):
            raise UsageError(
                f"{out}: a worker of a killed run is still writing here; wait until it ends"
            )
        yield
    finally:
        os.close(descriptor)


def clear_leftovers(out: Path, shards: Collection[str]) -> None:
    """Remove the temporary files that an interrupted run left of our files."""
    names = {MANIFEST_NAME, CONFIG_NAME, *shards, *map(sidecar_name, shards)}
    remove_temporaries(out, names)


def _remove_set(out: Path, shards: Sequence[str]) -> None:
    """Remove our files in an order that never leaves something that looks complete."""
    clear_leftovers(out, shards)
    remove([out / MANIFEST_NAME])
    remove([out / sidecar_name(shard) for shard in shards])
    remove([out / shard for shard in shards])
    remove([out / CONFIG_NAME])


def _read_ours(path: Path) -> dict[str, Any] | None:
    """Read our ``config.json`` or ``manifest.json``; refuse one that another program made."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value.get("format") == FORMAT_NAME:
        return value
    raise UsageError(
        f"{path}: expected a file made by stm, found something else; use another folder for the "
        "shards (nothing was removed)"
    )


def _shard_names(value: Mapping[str, Any] | None) -> list[str]:
    """List the shards that a ``config.json`` (names) or a ``manifest.json`` (entries) names."""
    entries = value.get("shards") if value is not None else None
    if not isinstance(entries, list):
        return []
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    # The file may have been edited: only a plain name in this very folder may ever be removed.
    return [name for name in names if isinstance(name, str) and SHARD_NAME.fullmatch(name)]


def _refuse_indexed(out: Path, value: Mapping[str, Any] | None) -> None:
    """Keep tars that were made elsewhere and only indexed here: no option of ours removes them."""
    config = value.get("config") if value is not None else None
    if isinstance(config, dict) and is_indexed(config):
        raise UsageError(
            f"{out}: holds tars that were made elsewhere (indexed by stm); use another folder "
            "(nothing was removed)"
        )


def _refuse_unknown(out: Path, shards: Sequence[str]) -> None:
    """Refuse files that have our names but no configuration to go with them."""
    names = [MANIFEST_NAME, *shards, *map(sidecar_name, shards)]
    found = next((name for name in names if (out / name).exists()), None)
    if found is not None:
        raise UsageError(
            f"{out}: holds {found} but no {CONFIG_NAME} that says what it is; use another "
            "folder, or --overwrite to replace it"
        )


def _differences(there: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """Name the fields that differ, the first few with both values."""
    fields = _diff("", there.get("config"), plan["config"])
    fields += _diff("format_version", there.get("format_version"), plan["format_version"])
    if not fields:
        fields = _diff("shards", len(_shard_names(there)), len(plan["shards"])) or ["shard names"]
    more = len(fields) - _MOST_NAMED
    return "; ".join(fields[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _diff(name: str, there: Any, asked: Any) -> list[str]:
    if isinstance(there, dict) and isinstance(asked, dict):
        return [
            line
            for key in sorted({*there, *asked})
            for line in _diff(f"{name}.{key}" if name else key, there.get(key), asked.get(key))
        ]
    return [] if there == asked else [f"{name}: {_short(there)} there, {_short(asked)} asked"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
