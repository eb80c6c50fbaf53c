"""Deliberate changes to shard sets, for tests of the checks that find them."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from stmdata.checking.verify import Verification
from stmtrain.shards.manifest import Manifest, ShardEntry, Sidecar
from stmtrain.shards.sample import sidecar_name

__all__ = ["accept", "edit", "first", "texts"]

Edit = Callable[[bytearray], Any]


def texts(result: Verification) -> str:
    return "\n".join(map(str, result.faults))


def edit(path: Path, change: Edit) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def first(folder: Path) -> tuple[Path, Sidecar]:
    path = sorted(folder.glob("*.tar"))[0]
    return path, Sidecar.from_json(path.with_suffix(".json").read_bytes(), "sidecar")


def accept(folder: Path) -> None:
    """Rewrite sidecars and manifest to match the changed tars, as a forger would."""
    manifest = Manifest.from_json((folder / "manifest.json").read_bytes(), "m")
    entries = []
    for entry in manifest.shards:
        path = folder / sidecar_name(entry.name)
        data = (folder / entry.name).read_bytes()
        value = json.loads(path.read_bytes())
        value |= {"bytes": len(data), "sha256": sha256(data).hexdigest()}
        sidecar = Sidecar.from_json(json.dumps(value).encode(), "s")
        path.write_bytes(sidecar.to_json())
        entries.append(ShardEntry.of(sidecar))
    changed = Manifest(manifest.config, tuple(entries), manifest.totals, manifest.skipped)
    (folder / "manifest.json").write_bytes(changed.to_json())
