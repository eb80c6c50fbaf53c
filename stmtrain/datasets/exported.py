"""A tree that ``stm shards export`` wrote: packing it gives the samples that it came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stmtrain.datasets.files import some
from stmtrain.datasets.json_set import MALFORMED, load_json
from stmtrain.datasets.listing import Entry, Listing
from stmtrain.datasets.video import Video
from stmtrain.errors import DataError

RECORDS = "records.json"
"""Names folder, frames in time order and origin of each video."""


@dataclass(frozen=True)
class ExportedTree:
    """A tree of frames and masks with :data:`RECORDS`."""

    overlaps: bool = False

    def splits(self, _root: Path) -> tuple[str, ...]:
        """Return one split: the records state that of each video; see :class:`Form`."""
        return ("",)

    def listing(self, root: Path, _split: str) -> Listing:
        """List the videos in the order of the records; see :class:`Form`."""
        path = root / RECORDS
        records = load_json(path)
        try:
            entries = [
                Entry(
                    str(record["origin"].get("video", record["folder"])),
                    str(record["origin"].get("split", "")),
                    partial(_open, root, record),
                )
                for record in records
            ]
        except MALFORMED as error:
            raise DataError(
                f"{path}: expected the records of an export ({error!r}); export the set again"
            ) from None
        return Listing(tuple(entries))


def _open(root: Path, record: Mapping[str, Any]) -> Video:
    names = [str(name) for name in record["frames"]]
    folder = str(record["folder"])
    outside = [name for name in (folder, *names) if "/" in name or name in ("", ".", "..")]
    if outside:
        raise DataError(f"{root / RECORDS}: expected names of files, found {outside[0]!r}")
    frames = {name: root / "JPEGImages" / folder / f"{name}.jpg" for name in names}
    absent = [name for name, path in frames.items() if not path.is_file()]
    if absent:
        raise DataError(
            f"{root / 'JPEGImages' / folder}: expected the frames in {RECORDS}, found none for "
            f"{some(absent)}; export the set again"
        )
    masks = {name: root / "Annotations" / folder / f"{name}.png" for name in names}
    there = {name: path for name, path in masks.items() if path.is_file()}
    origin = dict(record["origin"])
    return Video(str(origin.get("video", folder)), frames, there, origin=origin)
