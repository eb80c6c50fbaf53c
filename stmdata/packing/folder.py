"""Which files of an output folder are ours, and whether this run may use the folder.

``config.json`` names them, and is written first. Files of other programs are never removed.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from stmdata.packing.config import SetConfig
from stmtrain.errors import StmError, UsageError
from stmtrain.files import lock, open_regular, read_regular, remove, remove_temporaries, write_whole
from stmtrain.shards.manifest import is_indexed
from stmtrain.shards.sample import (
    CONFIG_NAME,
    FORMAT_NAME,
    MANIFEST_NAME,
    is_shard_name,
    sidecar_name,
)

_MOST_NAMED = 4
_PATIENCE = 5.0
"""How long to wait for a worker that outlives its run, seconds."""


def prepare_folder(out: Path, config: SetConfig, *, overwrite: bool) -> None:
    """Make sure that the folder ``out`` contains this ``config.json`` and no shard of another set.

    With ``overwrite``, first remove the set that is there, whatever its configuration.

    Raises:
        UsageError: A set of another configuration is there, or files of other programs have the
            names of ours. Nothing was removed.
    """
    there = _read_ours(out, CONFIG_NAME)
    manifest = _read_ours(out, MANIFEST_NAME)
    ours = list(dict.fromkeys([*config.shards, *_shard_names(there), *_shard_names(manifest)]))
    if overwrite:
        remove_set(out, ours)
        there = None
    if there is None:
        _refuse_unknown(out, ours)
        write_whole(out / CONFIG_NAME, config.to_json(), sync=True)
    elif there != config.to_mapping():
        differences = _differences(there, config.to_mapping())
        raise UsageError(
            f"{out}: contains shards of another configuration ({differences}); use another "
            "folder, or --overwrite to replace them"
        )
    clear_leftovers(out, ours)


@contextmanager
def holding_config(out: Path, config_hash: str) -> Iterator[None]:
    """Lock ``config.json`` while a worker writes a shard of the set.

    A worker may briefly outlive its killed parent, when the parent's lock on the folder has been
    released. This lock keeps a run with another configuration from replacing the set meanwhile, and
    keeps the worker from writing into a set of another configuration.

    Raises:
        StmError: Another run has taken over the folder.
    """
    taken = StmError(f"{out}: another run has taken over the folder; this one stops")
    try:
        file = open_regular(out / CONFIG_NAME)
    except FileNotFoundError:
        raise taken from None
    with file:
        held = lock(file.fileno(), shared=True) and os.fstat(file.fileno()).st_nlink > 0
        if not held or json.loads(file.read()).get("config_hash") != config_hash:
            raise taken
        yield


def clear_leftovers(out: Path, shards: Collection[str]) -> None:
    """Remove the temporary files of an interrupted run."""
    names = {MANIFEST_NAME, CONFIG_NAME, *shards, *map(sidecar_name, shards)}
    remove_temporaries(out, names)


def remove_set(out: Path, shards: Sequence[str]) -> None:
    """Remove our files in an order in which the remaining ones never look complete."""
    with ExitStack() as stack:
        with suppress(FileNotFoundError):
            file = stack.enter_context(open_regular(out / CONFIG_NAME))
            # Wait for the workers of an earlier run (holding_config), and keep new ones out.
            if not lock(file.fileno(), patience=_PATIENCE):
                raise UsageError(
                    f"{out}: a worker of a killed run is still writing here; wait for it to end"
                )
        clear_leftovers(out, shards)
        for names in ([MANIFEST_NAME], map(sidecar_name, shards), shards, [CONFIG_NAME]):
            remove([out / name for name in names])


def _read_ours(out: Path, name: str) -> dict[str, Any] | None:
    """Read our ``config.json`` or ``manifest.json``.

    Refuse one that another program made, or that describes tars of another program, which stm only
    indexed: no option removes these.
    """
    try:
        value = json.loads(read_regular(out / name))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UsageError(
            f"{out / name}: expected a file written by stm, found a damaged one or another; run "
            '"stm shards repair" if this is a set of stm, else use another folder (nothing was '
            "removed)"
        )
    if value.get("format") != FORMAT_NAME:
        raise UsageError(
            f"{out / name}: expected a file written by stm, found something else; use another "
            "folder for the shards (nothing was removed)"
        )
    config = value.get("config")
    if isinstance(config, dict) and is_indexed(config):
        raise UsageError(
            f"{out}: contains tars of another program, indexed by stm; use another folder "
            "(nothing was removed)"
        )
    return value


def _shard_names(value: Mapping[str, Any] | None) -> list[str]:
    """List the shards that a ``config.json`` or a ``manifest.json`` (by their entries) names."""
    entries = value.get("shards") if value is not None else None
    if not isinstance(entries, list):
        return []
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    # The file may have been edited: only plain names in this folder may ever be removed.
    return [name for name in names if isinstance(name, str) and is_shard_name(name)]


def _refuse_unknown(out: Path, shards: Sequence[str]) -> None:
    """Refuse files with our names where no ``config.json`` explains them."""
    names = [MANIFEST_NAME, *shards, *map(sidecar_name, shards)]
    found = next((name for name in names if (out / name).exists()), None)
    if found is not None:
        restore = 'restore that file with "stm shards repair", ' if found == MANIFEST_NAME else ""
        raise UsageError(
            f"{out}: contains {found} but no {CONFIG_NAME} that describes it; {restore}use another "
            "folder, or --overwrite to replace it"
        )


def _differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Name the fields in which two ``config.json`` differ, the first few with both values."""
    fields = _diff("", there.get("config"), asked["config"])
    fields += _diff("format_version", there.get("format_version"), asked["format_version"])
    if not fields:
        fields = _diff("shards", len(_shard_names(there)), len(asked["shards"])) or ["shard names"]
    more = len(fields) - _MOST_NAMED
    if more > 0:
        fields[_MOST_NAMED:] = [f"and {more} more"]
    return "; ".join(fields)


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
