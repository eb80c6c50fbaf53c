"""The data that both revisions read: drawn trees, and real data where there is some."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["Inputs", "drawn_inputs", "real_inputs", "with_results"]


@dataclass(frozen=True)
class Inputs:
    """Data that both revisions read.

    Attributes:
        name: ``drawn`` or ``real``.
        coco: Folder of images, and the annotations of them.
        masks: Folder of images, and the folder of their masks.
        davis: Root, year and split of the DAVIS videos to pack.
        youtube_vos: Root of a YouTube-VOS tree, or ``None``.
        val: A small DAVIS tree whose val split is segmented.
        results: Per name, a folder of result masks, and the DAVIS root and year of their truth.
    """

    name: str
    coco: tuple[Path, Path]
    masks: tuple[Path, Path]
    davis: tuple[Path, int, str]
    youtube_vos: Path | None
    val: tuple[Path, int]
    results: Mapping[str, tuple[Path, Path, int]]

    def commands(self) -> Iterator[tuple[str, list[object]]]:
        """Yield the name and the ``stm`` command, without ``--out``, of every set to pack."""
        images, annotations = self.coco
        coco = ["prepare-coco", "--images", images, "--annotations", annotations]
        clips = ["--limit", 40, "--clips-per-shard", 10, "--seed", 3, "--workers", 1]
        yield "clips", [*coco, *clips, "--variants", 2]
        yield "clips, strong appearance", [*coco, *clips, "--appearance", "strong"]
        yield "clips, classic recipe", [*coco, *clips, "--recipe", "classic"]
        images, masks = self.masks
        yield "clips of masks", ["prepare-masks", "--images", images, "--masks", masks, *clips]
        root, year, split = self.davis
        davis = ["pack-davis", "--root", root, "--year", year, "--split", split, "--workers", 1]
        yield "videos", davis
        yield "videos, resized", [*davis, "--resize", 96]
        if self.youtube_vos is not None:
            words = ["pack-youtube-vos", "--root", self.youtube_vos, "--split", "train"]
            yield "videos of YouTube-VOS", [*words, "--workers", 1]


def drawn_inputs(folder: Path) -> Inputs:
    """Return the trees that the probe has drawn into a folder."""
    davis2016 = folder / "davis2016"
    frames = davis2016 / "JPEGImages" / "480p" / "drawn-00"
    return Inputs(
        name="drawn",
        coco=(folder / "coco/train2017", folder / "coco/annotations/instances_train2017.json"),
        masks=(frames, davis2016 / "Annotations" / "480p" / "drawn-00"),
        davis=(folder / "davis2017", 2017, "train"),
        youtube_vos=folder / "youtube_vos",
        val=(folder / "davis2017", 2017),
        results={},
    )


def real_inputs(data: Path, folder: Path) -> Inputs:
    """Return real data: a COCO sample, ECSSD, DAVIS 2016, published masks of its val split.

    Args:
        data: Folder that holds ``coco``, ``ecssd``, ``davis2016`` and ``davis2016_*_results``.
        folder: Where smaller DAVIS trees are put.
    """
    davis = data / "davis2016"
    results = {}
    for path in sorted(data.glob("davis2016_*_results")):
        videos = [video.name for video in path.iterdir() if video.is_dir()]
        results[path.name] = (path, davis_subset(davis, videos, folder / path.name), 2016)
    val = (davis / "ImageSets/2016/val.txt").read_text().split()
    return Inputs(
        name="real",
        coco=(data / "coco/train2017", data / "coco/annotations/instances_train2017.json"),
        masks=(data / "ecssd/images", data / "ecssd/masks"),
        davis=(davis, 2016, "val"),
        youtube_vos=None,
        val=(davis_subset(davis, val[:2], folder / "val", frames=8), 2016),
        results=results,
    )


def davis_subset(root: Path, videos: Iterable[str], out: Path, frames: int | None = None) -> Path:
    """Copy some videos of a DAVIS 2016 tree, or their first frames, to a tree of their own."""
    lists = out / "ImageSets" / "2016"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("".join(f"{video}\n" for video in sorted(videos)))
    for kind in ("JPEGImages", "Annotations"):
        for video in videos:
            target = out / kind / "480p" / video
            target.mkdir(parents=True)
            for path in sorted((root / kind / "480p" / video).iterdir())[:frames]:
                shutil.copyfile(path, target / path.name)
    return out


def with_results(inputs: Inputs, name: str, results: Path) -> Inputs:
    """Return the inputs with label maps of the val tree as further results to score."""
    root, year = inputs.val
    return replace(inputs, results={**inputs.results, name: (results, root, year)})
