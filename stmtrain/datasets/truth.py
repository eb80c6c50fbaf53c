"""The ground truth of a benchmark in its own layout, without its frames: what scoring needs.

Each reader returns videos whose frames are their masks. A tree that is incomplete or contradicts
itself is refused with the name of the file.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stmtrain.datasets.davis import split_names
from stmtrain.datasets.files import (
    find_folder,
    list_all,
    list_images,
    list_names,
    natural_key,
    plain_name,
    some,
    video_folders,
)
from stmtrain.datasets.image_tree import label_folders
from stmtrain.datasets.protocol import Protocol
from stmtrain.datasets.video import Video
from stmtrain.datasets.video_set import VideoSet
from stmtrain.datasets.youtube_vos import ListedObject, read_meta, read_objects
from stmtrain.errors import DataError
from stmtrain.files import read_file

_NOT_HERE = "this split cannot be scored locally, submit the results to its server"
_UNLISTED = "there are no lists in ImageSets: all videos that have masks are scored"
_LVOS_STEP = 5
_LVOS_LIST = "unseen_videos.txt"
_YOUTUBE_VOS_LIST = "seen_categories.txt"


def open_truth(root: Path, protocol: Protocol, split: str | None = None) -> VideoSet:
    """Open the true masks of a split in the layout of its benchmark; frames need not be there.

    Args:
        root: The folder of the data set, as its authors distribute it.
        protocol: The rules, which name the layout.
        split: Which part of it; the one that is usually scored by default.

    Raises:
        DataError: The tree is incomplete or contradicts itself.
    """
    opened = _READERS[protocol.tree](root, split or protocol.split, protocol)
    return replace(opened, dataset=f"{protocol.title or root.resolve().name} {opened.split}")


def _davis(root: Path, split: str, protocol: Protocol) -> VideoSet:
    if not (root / "ImageSets").is_dir():
        return replace(_folders(root, split, protocol), notes=(_UNLISTED,))
    one = protocol.objects == "one"
    names = split_names(root, 2016 if one else 2017, split)
    masks = find_folder(root, "Annotations")
    if not (masks / names[0]).is_dir():
        masks = find_folder(root, "Annotations", "480p")
    where = f"{root}: list of {split}"
    videos = list_all(names, lambda name: _video(plain_name(name, where), masks / name, binary=one))
    return VideoSet("", tuple(videos), protocol, split=split)


def _folders(root: Path, split: str, protocol: Protocol) -> VideoSet:
    """Read ``Annotations/VIDEO/*.png``, the same in a split's folder, or ``VIDEO/*.png``."""
    splits = (Path(), Path(split), Path("valid"))
    folders = [*(root / part / "Annotations" for part in splits), root]
    masks = next((path for path in folders if path.is_dir() and video_folders(path)), None)
    if masks is None:
        raise DataError(f"{root}: expected Annotations/VIDEO/FRAME.png, found none; check the path")
    one = protocol.objects == "one"
    videos = list_all(video_folders(masks), lambda name: _video(name, masks / name, binary=one))
    return VideoSet("", tuple(videos), protocol, split=split)


def _vost(root: Path, split: str, protocol: Protocol) -> VideoSet:
    if not (root / "ImageSets").is_dir():
        return replace(_folders(root, split, protocol), notes=(_UNLISTED,))
    path = find_folder(root, "ImageSets") / f"{split}.txt"
    masks = find_folder(root, "Annotations")
    videos = list_all(
        list_names(path), lambda name: _video(plain_name(name, str(path)), masks / name)
    )
    return VideoSet("", tuple(videos), protocol, split=split)


def _mose2(root: Path, split: str, protocol: Protocol) -> VideoSet:
    """Read ``meta_valid.json``, which lists the objects, and ``valid/Annotations``."""
    path = root / f"meta_{split}.json"
    masks = find_folder(root, split, "Annotations")

    def video(name: str, stated: Any) -> Video:
        found = _video(name, masks / name)
        try:
            ids = sorted(int(i) for i in stated["objects"])
            length = int(stated["length"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: video {name!r}: expected objects and length ({error!r}); "
                            "use the file of MOSE v2") from None  # fmt: skip
        if length != len(found.masks):
            advice = "use the file and the masks of one release"
            raise DataError(
                f"{path}: video {name!r}: states {length} frames, {masks / name} has "
                f"{len(found.masks)} masks; {_NOT_HERE if len(found.masks) == 1 else advice}"
            )
        return replace(found, first_seen=dict.fromkeys(ids, next(iter(found.masks))))

    listed = read_meta(path)
    _check_unlisted(masks, listed, path)
    present = video_folders(masks)
    videos = list_all(present, lambda name: video(name, listed[name]))
    absent = sorted(set(listed) - set(present))
    note = f"{path}: lists {len(absent)} videos without masks: {some(absent)}" if absent else ""
    return VideoSet("", tuple(videos), protocol, _lines(note), split)


def _lvos(root: Path, split: str, protocol: Protocol) -> VideoSet:
    """Read ``valid_meta.json``, which states the range of each object, and the list of unseen."""
    folder = root / split if (root / split).is_dir() else root / "val"
    masks = find_folder(root, folder.name, "Annotations")
    path = _first_file(folder / f"{folder.name}_meta.json", root / f"{folder.name}_meta.json")
    listed = read_meta(path)
    _check_unlisted(masks, listed, path)

    def video(name: str) -> Video:
        found = _video(plain_name(name, str(path)), masks / name)
        where = f"{path}: video {name!r}"
        try:
            objects = {int(i): value for i, value in listed[name]["objects"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{where}: expected objects ({error!r}); use the file of LVOS"
            ) from None
        required = {
            i: lvos_frames(value, found.masks, f"{where}, object {i}")
            for i, value in sorted(objects.items())
        }
        return replace(found, required=required, first_seen={i: n[0] for i, n in required.items()})

    videos = list_all(listed, video)
    unseen, note = None, f"there is no {_LVOS_LIST}; add that of lvos-evaluation to {root}"
    where = [path for path in (root / _LVOS_LIST, folder / _LVOS_LIST) if path.is_file()]
    if where:
        names = set(read_file(where[0]).decode(errors="replace").split())
        unseen = frozenset((v.name, i) for v in videos for i in v.required if v.name in names)
        note = "" if unseen else f"{where[0]}: lists none of the videos"
    return VideoSet("", tuple(videos), protocol, _lines(note), split, unseen=unseen)


def lvos_frames(stated: Any, masks: Mapping[str, object], where: str) -> tuple[str, ...]:
    """Return the names of an object's frames, the first and the last included."""
    try:
        start, end, count = (int(stated["frame_range"][k]) for k in ("start", "end", "frame_nums"))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: expected frame_range with start, end and frame_nums "
                        f"({error!r}); use the file of LVOS") from None  # fmt: skip
    in_range = len(range(start, end, _LVOS_STEP))
    if not in_range <= count <= in_range + 1 or count > len(masks):
        raise DataError(
            f"{where}: frame_nums is {count}, but from {start} to {end} every {_LVOS_STEP}th are "
            f"{in_range}, or one more with the last; use the file of LVOS"
        )
    if count < 3:
        raise DataError(f"{where}: has {count} frames, but the first and the last do not count; "
                        "leave the object out of the file")  # fmt: skip
    names = tuple(f"{start + _LVOS_STEP * i:08d}" for i in range(count))
    absent = [name for name in names if name not in masks]
    if absent:
        raise DataError(f"{where}: has no mask for {some(absent)}, which its frame_range states; "
                        "add them, or use the file of these masks")  # fmt: skip
    return names


def _youtube_vos(root: Path, split: str, protocol: Protocol) -> VideoSet:
    """Read ``meta.json`` of a split, and the categories of the training split."""
    masks = find_folder(root, split, "Annotations")
    path = root / split / "meta.json"
    listed = _objects(path)

    def video(name: str) -> Video:
        found = _video(plain_name(name, str(path)), masks / name)
        required = {i: tuple(sorted(o.frames, key=natural_key)) for i, o in listed[name].items()}
        absent = {n for names in required.values() for n in names} - set(found.masks)
        if absent:
            given = {names[0] for names in required.values()}
            advice = "add them"
            if given.issuperset(found.masks):
                advice = _NOT_HERE
            raise DataError(f"{masks / name}: expected masks of the frames in meta.json, found "
                            f"none of {some(sorted(absent))}; {advice}")  # fmt: skip
        return replace(found, required=required, first_seen={i: n[0] for i, n in required.items()})

    videos = list_all(sorted(listed), video)
    seen = _seen_categories(root)
    categories = {(v, i): o.category for v, objects in listed.items() for i, o in objects.items()}
    unseen, note = None, "the categories of the training set are unknown: add train/meta.json"
    if seen is not None and all(category is not None for category in categories.values()):
        unseen = frozenset(key for key, category in categories.items() if category not in seen)
        note = "" if unseen else "no object has an unseen category"
    return VideoSet("", tuple(videos), protocol, _lines(note), split, unseen=unseen)


def _objects(path: Path) -> dict[str, dict[int, ListedObject]]:
    """Return video name to object id to what ``meta.json`` states of the object."""
    listed = read_meta(path)
    return {name: read_objects(of, f"{path}: video {name!r}") for name, of in listed.items()}


def _seen_categories(root: Path) -> set[str] | None:
    """Return the categories of the training split, from its ``meta.json`` or a list of them."""
    if (root / "train" / "meta.json").is_file():
        train = _objects(root / "train" / "meta.json")
        return {o.category for objects in train.values() for o in objects.values() if o.category}
    path = root / _YOUTUBE_VOS_LIST
    return set(read_file(path).decode(errors="replace").splitlines()) if path.is_file() else None


def _sav(root: Path, split: str, protocol: Protocol) -> VideoSet:
    """Read a folder per object as a binary video each; other trees have one per video."""
    folder = root / split if (root / split).is_dir() else root / f"sav_{split}"
    places = [folder / "Annotations_6fps", root / "Annotations_6fps", root / "Annotations"]
    if not any(root.glob("Annotations*")) and not any(root.glob("*/Annotations*")):
        places.append(root)
    masks = next((path for path in places if _has_folders(path)), None)
    if masks is None:
        return _folders(root, split, replace(protocol, objects="seen"))
    listed = masks.parent / f"{folder.name}.txt"
    names = list_names(listed) if listed.is_file() else video_folders(masks)

    def objects(video: str) -> list[Video]:
        found = video_folders(find_folder(masks, plain_name(video, str(listed))))
        if not found:
            raise DataError(f"{masks / video}: expected a folder per object, found none; add them")
        labels = label_folders(found)
        one = [_video(f"{video}/{i}", masks / video / i, binary=True) for i in found]
        return [
            replace(v, first_seen={labels[i]: next(iter(v.masks))})
            for i, v in zip(found, one, strict=True)
        ]

    videos = tuple(video for found in list_all(names, objects) for video in found)
    return VideoSet("", videos, protocol, split=split)


def _has_folders(masks: Path) -> bool:
    """Tell whether the first video of a folder has folders of objects, not masks."""
    videos = video_folders(masks) if masks.is_dir() else []
    first = [masks / name for name in videos[:1]]
    return any(video_folders(path) and not any(path.glob("*.png")) for path in first)


_READERS: Mapping[str, Callable[[Path, str, Protocol], VideoSet]] = {
    "folders": _folders,
    "davis": _davis,
    "youtube-vos": _youtube_vos,
    "mose2": _mose2,
    "lvos": _lvos,
    "vost": _vost,
    "sav": _sav,
}


def _video(name: str, folder: Path, binary: bool = False) -> Video:
    masks = list_images(folder, (".png",))
    return Video(name, masks, masks, binary=binary)


def _check_unlisted(masks: Path, listed: Iterable[str], path: Path) -> None:
    extra = sorted(set(video_folders(masks)) - set(listed))
    if extra:
        raise DataError(f"{masks}: expected only the videos of {path}, found also {some(extra)}; "
                        "use the file that lists them, or remove them")  # fmt: skip


def _first_file(*paths: Path) -> Path:
    return next((path for path in paths if path.is_file()), paths[0])


def _lines(note: str) -> tuple[str, ...]:
    return (note,) if note else ()
