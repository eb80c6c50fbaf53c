"""Still images to a shard set of pseudo-videos: what each shard holds, and how it is made.

The set is a list of (image, variant) pairs, each variant in an order of its own, cut into shards
of equal length: neighbours in a shard are unrelated images. A clip draws from
``SeedSequence([seed, shard, sample])``, so its bytes do not depend on which process makes it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.random import Generator

from stmdata.packing.pack import Job, Progress, pack
from stmdata.stills.mask_files import find_stills
from stmdata.stills.source import CocoSource, MaskSource, StillSource
from stmdata.synthesis.appearance_policy import AppearancePolicy, load_policy
from stmdata.synthesis.clip import Clip, Skip, draw_clip
from stmdata.synthesis.layers import Cutout
from stmdata.synthesis.recipe import SynthRecipe
from stmtrain.errors import DataError, UsageError
from stmtrain.images.encode import encode_frame, encode_mask
from stmtrain.settings import to_mapping
from stmtrain.shards.manifest import Manifest
from stmtrain.shards.sample import Sample, SampleRecord, Skipped

__all__ = [
    "ClipJob",
    "ClipMaker",
    "Options",
    "encode_clip",
    "plan_jobs",
    "prepare_coco",
    "prepare_masks",
]

UNREADABLE = "unreadable image"


@dataclass(frozen=True)
class Options:
    """What a clip set is made of, whatever its source; every field decides bytes."""

    recipe: SynthRecipe
    variants: int = 1
    frames: int = 3
    size: int = 384
    seed: int = 0
    clips_per_shard: int = 400
    quality: int = 95
    on_bad_image: Literal["raise", "skip"] = "raise"

    def __post_init__(self) -> None:
        """Refuse what no clip can be made with."""
        for name, value, least, most in (
            ("--variants", self.variants, 1, 1000),
            ("--frames", self.frames, 2, 16),
            ("--size", self.size, 32, 2048),
            ("--seed", self.seed, 0, 2**63 - 1),
            ("--clips-per-shard", self.clips_per_shard, 1, 100_000),
            ("--quality", self.quality, 1, 100),
        ):
            if not least <= value <= most:
                raise UsageError(f"{name}: expected {least} to {most}, found {value}")
        if self.on_bad_image not in ("raise", "skip"):
            raise UsageError(f"--on-bad-image: expected raise or skip, found {self.on_bad_image!r}")


@dataclass(frozen=True)
class ClipJob:
    """One clip to make: its place in the set, and which image in which variant."""

    shard: int
    sample: int
    image: int
    variant: int


def plan_jobs(prefix: str, images: int, options: Options) -> list[Job]:
    """Divide all (image, variant) pairs into shards.

    Args:
        prefix: Of the shard names: ``coco`` gives ``coco-000000``.
        images: Number of images.
        options: Variants, shard length and seed are used.

    Returns:
        Jobs whose items are :class:`ClipJob`; every pair is in exactly one.
    """
    pairs = [
        (int(image), variant)
        for variant in range(options.variants)
        for image in np.random.default_rng([options.seed, variant]).permutation(images)
    ]
    length = options.clips_per_shard
    return [
        Job(
            f"{prefix}-{shard:06d}",
            tuple(
                ClipJob(shard, sample, image, variant)
                for sample, (image, variant) in enumerate(pairs[start : start + length])
            ),
        )
        for shard, start in enumerate(range(0, len(pairs), length))
    ]


@dataclass(frozen=True)
class ClipMaker:
    """Makes the samples of a shard; picklable, and the same samples every time."""

    source: StillSource
    options: Options
    policy: AppearancePolicy

    def __call__(self, job: Job) -> Iterator[Sample | Skipped]:
        """Yield the job's samples in order, and what was left out."""
        cv2.setNumThreads(1)  # the workers share the cores already
        tasks: Sequence[ClipJob] = job.items
        pool: list[Cutout] = []
        recipe, options = self.options.recipe, self.options
        # The pool's place in the seed sequence is the one after the shard's last sample.
        rng = _generator(options.seed, tasks[0].shard, len(tasks))
        count = min(recipe.pool_size, 2 * len(tasks))
        for cutout in self.source.cutouts(count, recipe.min_cutout_box, rng):
            if isinstance(cutout, Cutout):
                pool.append(cutout)
            else:
                yield self._skip(cutout, _where(cutout), f"{UNREADABLE} (for cut-outs)")
        for task in tasks:
            yield from self._clip(task, pool)

    def _skip(self, error: DataError, what: str, reason: str) -> Skipped:
        """Count an unreadable input, or stop at it, as the user chose."""
        if self.options.on_bad_image == "skip":
            return Skipped(what, reason)
        raise DataError(f"{error}, or use --on-bad-image skip") from None

    def _clip(self, task: ClipJob, pool: Sequence[Cutout]) -> Iterator[Sample | Skipped]:
        key = f"{self.source.key(task.image)}_v{task.variant:03d}"
        options = self.options
        try:
            picture = self.source.read(task.image, options.recipe.min_instance_area)
        except DataError as error:
            yield self._skip(error, f"{key}: {_where(error)}", UNREADABLE)
            return
        if task.variant == 0:  # once per image, not once per clip
            yield from picture.skipped
        rng = _generator(options.seed, task.shard, task.sample)
        clip = draw_clip(
            picture.image,
            picture.labels,
            pool,
            options.recipe,
            rng,
            num_frames=options.frames,
            size=options.size,
            policy=self.policy,
        )
        if isinstance(clip, Skip):
            yield Skipped(key, str(clip))
            return
        origin = {
            **self.source.origin(task.image),
            "variant": task.variant,
            "recipe": options.recipe.family,
        }
        size = picture.image.shape[:2]
        yield encode_clip(clip, key, (int(size[0]), int(size[1])), origin, options.quality)


def _generator(*numbers: int) -> Generator:
    """Return the generator of one place in the set."""
    return np.random.default_rng(np.random.SeedSequence(numbers))


def _where(error: DataError) -> str:
    """Return the part of a message that says where: the text before the first colon and space."""
    return str(error).partition(": ")[0]


def encode_clip(
    clip: Clip, key: str, original_size: tuple[int, int], origin: Mapping[str, Any], quality: int
) -> Sample:
    """Encode a clip as a sample: JPEG frames (4:2:0), palette PNG masks, record.

    Args:
        clip: Frames and masks.
        key: The sample's key.
        original_size: (height, width) of the still image, px.
        origin: Goes into the record.
        quality: JPEG quality, 1..100.
    """
    names = tuple(f"{t:05d}" for t in range(len(clip.frames)))
    ids = range(1, int(clip.masks[0].max()) + 1)
    height, width = clip.masks.shape[1:]
    record = SampleRecord(
        sample_key=key,
        height=height,
        width=width,
        frames=names,
        mask_frames=names,
        object_ids=tuple(ids),
        areas=tuple(tuple(np.count_nonzero(mask == i) for mask in clip.masks) for i in ids),
        original_size=original_size,
        origin=origin,
    )
    frames = {
        name: encode_frame(frame, quality) for name, frame in zip(names, clip.frames, strict=True)
    }
    masks = {name: encode_mask(mask) for name, mask in zip(names, clip.masks, strict=True)}
    return Sample(record, frames, masks)


def prepare_coco(
    images: Path,
    annotations: Path,
    out: Path,
    options: Options,
    *,
    limit: int | None = None,
    workers: int = 1,
    overwrite: bool = False,
    suspect: Collection[str] = (),
    progress: Progress | None = None,
) -> Manifest:
    """Make pseudo-videos of a COCO-format data set.

    Args:
        images: Folder of the images.
        annotations: COCO-format instance annotations.
        out: Folder of the shard set.
        options: What the clips are like.
        limit: Use the first images only, as clips and for cut-outs.
        workers: Processes; does not change the bytes.
        overwrite: Replace a set that is in ``out``.
        suspect: Tar names of shards to make again even if they look finished.
        progress: Told how far the set is.

    Raises:
        UsageError: ``out`` holds another set; a setting is out of range.
        DataError: The annotations are wrong; an image is and ``on_bad_image`` is ``raise``.
    """
    if not images.is_dir():
        raise DataError(f"{images}: expected a folder of images, found none; check --images")
    source = CocoSource(images, annotations, limit)
    about = {
        "kind": "coco",
        "annotations": annotations.name,
        "sha256": source.index.sha256,
        "limit": limit,
    }
    return _prepare(source, "coco", about, out, options, workers, overwrite, suspect, progress)


def prepare_masks(
    images: Path,
    masks: Path,
    out: Path,
    options: Options,
    *,
    limit: int | None = None,
    workers: int = 1,
    overwrite: bool = False,
    suspect: Collection[str] = (),
    progress: Progress | None = None,
) -> Manifest:
    """Make pseudo-videos of images with one mask file each (ECSSD, DUTS, HRSOD, FSS-1000, ...).

    Args:
        images: Folder of the images, searched recursively.
        masks: Folder of the masks, paired by name; may be the same folder.
        out: Folder of the shard set.
        options: What the clips are like.
        limit: Use the first images only, as clips and for cut-outs.
        workers: Processes; does not change the bytes.
        overwrite: Replace a set that is in ``out``.
        suspect: Tar names of shards to make again even if they look finished.
        progress: Told how far the set is.

    Raises:
        UsageError: ``out`` holds another set; a setting is out of range.
        DataError: An image has no mask; one cannot be read and ``on_bad_image`` is ``raise``.
    """
    source = MaskSource(tuple(find_stills(images, masks)[:limit]))
    about = {"kind": "masks", "sha256": source.digest, "limit": limit}
    return _prepare(source, "masks", about, out, options, workers, overwrite, suspect, progress)


def _prepare(
    source: StillSource,
    prefix: str,
    about: Mapping[str, Any],
    out: Path,
    options: Options,
    workers: int,
    overwrite: bool,
    suspect: Collection[str],
    progress: Progress | None,
) -> Manifest:
    """Pack a source; the configuration names all that decides the bytes."""
    policy = load_policy(options.recipe.appearance)
    config = {
        **to_mapping(options),
        "source": dict(about),
        "recipe": to_mapping(options.recipe),
        "appearance": to_mapping(policy),
    }
    jobs = plan_jobs(prefix, len(source), options)
    maker = ClipMaker(source, options, policy)
    return pack(
        out,
        jobs,
        maker,
        config,
        workers=workers,
        overwrite=overwrite,
        suspect=suspect,
        progress=progress,
    )
