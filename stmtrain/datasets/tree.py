"""A data set on disk, recognised by its files or named by the user."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stmtrain.datasets.dataset import DATASETS, find_dataset
from stmtrain.datasets.definition import Dataset
from stmtrain.datasets.files import some, video_folders
from stmtrain.datasets.listing import Listing
from stmtrain.datasets.recognise import Signs
from stmtrain.datasets.shapes import Overlap
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import DataError, UsageError

AUTO = "auto"

_MOST_CHILDREN = 50
"""Most folders of a root that are tried as roots themselves."""


@dataclass(frozen=True)
class Refused:
    """A layout that cannot be used: how it is recognised, why, and what to do instead."""

    signs: Signs
    why: str


REFUSED: Mapping[str, Refused] = {
    "coco": Refused(
        Signs(("annotations/instances_*.json", "train2017/*.jpg|val2017/*.jpg")),
        "COCO has still images, not videos; make pseudo-videos of them with stm prepare-coco",
    ),
    "cvat-segmentation-mask": Refused(
        Signs(("SegmentationObject/*.png", "labelmap.txt")),
        "CVAT's segmentation masks give instances new colours in each frame, so that no object can "
        "be followed; export the task again as MOTS PNG or as CVAT for video",
    ),
    "label-studio-png": Refused(
        Signs(("task-*-annotation-*.png|*/task-*-annotation-*.png",)),
        "Label Studio's brush PNGs are masks of single images, without an object's identity or the "
        "order of frames; if each label is one object, copy them to "
        "Annotations/VIDEO/LABEL/FRAME.png next to JPEGImages/VIDEO (own-object-folders)",
    ),
    "tao": Refused(
        Signs(
            ("annotations/train.json|annotations/validation.json", "frames/*/*/*/*.jpg"),
            ("annotations/train/*",),
        ),
        "TAO has boxes only, and its polygons are the boxes; BURST has masks of the same videos: "
        "download its annotations, --layout burst",
    ),
}
"""Layouts without masks of objects that can be followed, by name."""


@dataclass(frozen=True)
class Tree:
    """A data set on disk.

    Attributes:
        dataset: What it is.
        root: Its folder.
        why: By what it was recognised, for the user; empty if the user named it.
    """

    dataset: Dataset
    root: Path
    why: str = ""

    def listing(self, split: str | None = None, *, overlap: Overlap = "smaller") -> Listing:
        """List videos; see :meth:`Dataset.listing`."""
        return self.dataset.listing(self.root, split, overlap=overlap)

    def open(self, split: str | None = None) -> VideoSet:
        """Open a split for evaluation; see :meth:`Dataset.open`."""
        videos = self.dataset.open(self.root, split)
        known = self.why and not self.dataset.own
        return replace(videos, notes=(self.why, *videos.notes)) if known else videos


def open_dataset(root: Path, layout: str = AUTO) -> Tree:
    """Find out what data set a folder holds, or check that it is the one that was named.

    Args:
        root: The folder.
        layout: Name of a data set, or ``auto``.

    Raises:
        UsageError: There is no such layout, or several fit and none was named.
        DataError: There is no such folder, it is of another layout, or of one that cannot be used.

    Example:
        >>> for entry in open_dataset(Path("MOSE")).listing().entries:  # doctest: +SKIP
        ...     video = entry.open()
    """
    if layout in REFUSED:
        raise DataError(f"{root}: {REFUSED[layout].why}")
    named = None if layout == AUTO else find_dataset(layout)
    if not root.is_dir():
        raise DataError(f"{root}: expected the folder of a data set, found none; check the path")
    if named is not None:
        return _named(root, named)
    fitting = _fitting(root)
    if len(fitting) == 1:
        dataset = fitting[0]
        assert dataset.signs is not None
        why = f"recognised as {dataset.name}: has {' and '.join(dataset.signs.found(root))}"
        return Tree(dataset, root, why)
    if fitting:
        names = [dataset.name for dataset in fitting]
        raise UsageError(
            f"{root}: could be {' or '.join(names)}, which have the same folders; choose with "
            f"--layout {names[0]}"
        )
    raise _unknown(root)


def _named(root: Path, dataset: Dataset) -> Tree:
    """Refuse a tree that is clearly another's; one without any signs is tried."""
    missing = dataset.signs.missing(root) if dataset.signs else []
    if missing:
        others = [other for other in _fitting(root) if not other.own]
        refused = _refused(root)
        if refused is not None:
            raise DataError(f"{root}: {refused.why}")
        if others and not any(_reads(dataset, other, root) for other in others):
            raise DataError(
                f"{root}: expected the layout {dataset.name}, which has {missing[0]}, found "
                f"{others[0].name}; use --layout {others[0].name} (of stm pack-videos, or with "
                "--videos), or pass another folder"
            )
        if elsewhere := _elsewhere(root, dataset):
            raise DataError(
                f"{root}: expected {missing[0]} of the layout {dataset.name}, found none; pass "
                f"{elsewhere}"
            )
    return Tree(dataset, root)


def _reads(dataset: Dataset, other: Dataset, root: Path) -> bool:
    """Return whether a data set's form reads a tree that looks like another's: of a part of it."""
    if type(dataset.form) is not type(other.form):
        return False
    try:
        return bool(dataset.listing(root).entries)
    except DataError:
        return False


def _fitting(root: Path) -> list[Dataset]:
    """Return the data sets whose signs a tree has; forms of own videos only if no other fits."""
    fitting = [d for d in DATASETS.values() if d.signs is not None and d.signs.fit(root)]
    fitting = [d for d in fitting if not d.own] or fitting
    counted = [d for d in fitting if d.signs is not None and d.signs.counted(root)]
    return counted if len(counted) == 1 else fitting


def _refused(root: Path) -> Refused | None:
    return next((r for r in REFUSED.values() if r.signs.fit(root)), None)


def _elsewhere(root: Path, dataset: Dataset | None = None) -> Path | None:
    """Return a folder one level below or above that a data set fits."""
    children = [root / name for name in video_folders(root)[:_MOST_CHILDREN]]
    for folder in (*children, root.resolve().parent):
        fitting = _fitting(folder)
        if dataset in fitting or (dataset is None and fitting):
            return folder
    return None


def _unknown(root: Path) -> DataError:
    refused = _refused(root)
    if refused is not None:
        return DataError(f"{root}: {refused.why}")
    elsewhere = _elsewhere(root)
    if elsewhere is not None:
        names = " or ".join(dataset.name for dataset in _fitting(elsewhere))
        return DataError(
            f"{root}: expected the root of a data set, found none; {elsewhere} is one, {names}: "
            "pass that folder"
        )
    found = some(video_folders(root)) or "no folders"
    return DataError(
        f"{root}: expected a known data set of videos, found {found}; arrange it as "
        "JPEGImages/VIDEO/*.jpg and Annotations/VIDEO/*.png, or name its --layout"
    )
