"""Trees of the golden inputs, and the changes by which a case differs from them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.paths import ROOT

__all__ = ["GIVEN", "Tree", "given", "golden", "tree_of"]

GIVEN = ROOT.parent / "shared" / "golden" / "protocols"
given = pytest.mark.skipif(not GIVEN.exists(), reason=f"needs the golden inputs in {GIVEN}")

INPUTS = {"vosbench_mose": "mose", "vosbench_vost": "vost", "davis2017": "mose"}
"""Golden files whose inputs have another name."""

PROTOCOL = {
    "mose": "mose2",
    "vosbench_mose": "sav",
    "vosbench_vost": "sav",
    "youtube_vos": "youtube-vos",
}

Tree = tuple[Path, Path, str]
"""Root of the data set, folder of results, and name of the protocol."""


def golden(name: str) -> dict[str, Any]:
    """The values of a golden file."""
    values: dict[str, Any] = json.loads((GIVEN / f"{name}.json").read_text())
    return values


def tree_of(
    name: str, folder: Path, changes: list[dict[str, Any]], videos: list[str] | None = None
) -> Tree:
    """Copy the inputs of a golden file, change them, and give them the layout of its protocol."""
    root = folder / "tree"
    shutil.copytree(GIVEN / "inputs" / INPUTS.get(name, name), root, dirs_exist_ok=True)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for change in changes:
        CHANGES[change["op"]](root, change)
    if name == "davis2017":
        masks = root / "valid" / "Annotations"
        names = videos or sorted(path.name for path in masks.iterdir())
        (root / "ImageSets" / "2017").mkdir(parents=True)
        (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(names))
        (root / "Annotations").mkdir()
        masks.rename(root / "Annotations" / "480p")
    return root, root / "results", PROTOCOL.get(name, name)


def remove(root: Path, change: Mapping[str, Any]) -> None:
    path = root / change["path"]
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def keep_only(root: Path, change: Mapping[str, Any]) -> None:
    for path in (root / change["path"]).iterdir():
        if path.name not in change["names"]:
            remove(path.parent, {"path": path.name})


def json_set(root: Path, change: Mapping[str, Any]) -> None:
    path = root / change["path"]
    value = found = json.loads(path.read_text())
    for key in change["keys"][:-1]:
        value = value[key]
    value[change["keys"][-1]] = change["value"]
    path.write_text(json.dumps(found))


def edit(path: Path, draw: Any) -> None:
    """Replace the ids of a mask and keep its palette."""
    image = Image.open(path)
    palette, mode = image.getpalette(), image.mode
    edited = Image.fromarray(draw(np.array(image)).astype(np.uint8))
    if palette is not None and mode == "P":
        edited.putpalette(palette)
    edited.save(path)


def pngs(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


def resize(root: Path, change: Mapping[str, Any]) -> None:
    path = root / change["path"]
    Image.open(path).resize(change["size"], Image.Resampling.NEAREST).save(path)


def mode(root: Path, change: Mapping[str, Any]) -> None:
    for path in pngs(root / change["path"]):
        image = Image.open(path)
        if change["mode"] == "L":
            Image.fromarray(np.array(image)).save(path)
        else:
            image.convert(change["mode"]).save(path)


def ids(root: Path, change: Mapping[str, Any]) -> None:
    table = np.arange(256)
    for old, new in change["map"].items():
        table[int(old)] = new
    for path in pngs(root / change["path"]):
        edit(path, lambda mask: table[mask])


def paint(root: Path, change: Mapping[str, Any]) -> None:
    top, bottom, left, right = change["box"]

    def draw(mask: Any) -> Any:
        mask[top:bottom, left:right] = change["id"]
        return mask

    edit(root / change["path"], draw)


CHANGES = {
    "remove": remove,
    "keep_only": keep_only,
    "json_set": json_set,
    "copy": lambda root, change: shutil.copytree(root / change["from"], root / change["path"]),
    "text": lambda root, change: (root / change["path"]).write_text(change["value"]),
    "resize": resize,
    "mode": mode,
    "ids": ids,
    "paint": paint,
}
