"""Still images to a shard set of pseudo-videos: the content of each shard, and how it is made.

The set is a list of (image, variant) pairs, each variant in an order of its own, cut into shards
of equal length, so that neighbours in a shard are unrelated images. A clip's randomness is
``SeedSequence([seed, shard, sample])``: its bytes do not depend on the process that makes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.random import Generator

from stmdata.packing.pack import Job, SetPlan
from stmdata.stills.mask_files import find_stills
from stmdata.stills.source import CocoSource, MaskSource, Picture, StillSource
from stmdata.synthesis.appearance_policy import AppearancePolicy, load_policy
from stmdata.synthesis.clip import Clip, Skip, draw_clip
from stmdata.synthesis.layers import Cutout
from stmdata.synthesis.recipe import DEFAULT, SynthRecipe
from stmtrain.errors import DataError, UsageError
from stmtrain.images.encode import encode_frame, encode_mask
from stmtrain.images.masks import areas
from stmtrain.settings import to_mapping
from stmtrain.shards.sample import Sample, SampleRecord, Skipped

UNREADABLE = "unreadable image"


@dataclass(frozen=True)
class ClipOptions:
    """Settings of a clip set, whatever its images; every field decides bytes.

    Attributes:
        recipe: How clips are synthesised.
        variants: Clips per image.
        frames: Frames per clip.
        size: Side of a clip, px.
        seed: Decides every random choice.
        clips_per_shard: Clips per shard.
        quality: JPEG quality, 1..100.
        on_bad_image: Stop at an unreadable image, or skip and count it.
    """

    recipe: SynthRecipe = DEFAULT
    variants: int = 1
    frames: int = 3
    size: int = 384
    seed: int = 0
    clips_per_shard: int = 400
    quality: int = 95
    on_bad_image: Literal["raise", "skip"] = "raise"

    def __post_init__(self) -> None:
        """Refuse values with which no clip can be made."""
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


def prepare_coco(
    images: Path | str,
    annotations: Path | str,
    options: ClipOptions | None = None,
    limit: int | None = None,
    cache: Path | None = None,
) -> SetPlan:
    """Plan pseudo-videos of a COCO-format data set; :func:`~stmdata.packing.pack.pack` makes them.

    Args:
        images: Folder of the images.
        annotations: COCO-format instance annotations.
        options: Settings of the clips; defaults if ``None``.
        limit: Use the first images only, both as clips and for cut-outs.
        cache: Folder for the index of the annotations; by default the user's cache folder.

    Raises:
        DataError: The annotations are wrong, or there is no folder of images.

    Example:
        >>> plan = prepare_coco("train2017", "instances_train2017.json")  # doctest: +SKIP
        >>> pack(plan, "shards/coco", workers=8).totals["samples"]  # doctest: +SKIP
        117266
    """
    images, annotations = Path(images), Path(annotations)
    if not images.is_dir():
        raise DataError(f"{images}: expected a folder of images, found none; check --images")
    source = CocoSource(images, annotations, limit, cache)
    if not source.index.annotations:
        raise DataError(
            f"{annotations}: expected annotated objects, found none; choose the instances file of "
            "these images"
        )
    crowds = len(source.index.pasteable(0, crowd=True))
    if crowds == source.index.annotations and not len(source.index.pasteable(0)):
        raise DataError(
            f"{annotations}: expected objects, found only iscrowd 1, crowd region ({crowds} times),"
            " which is no object; CVAT exports all masks so: export polygons, or set iscrowd to 0"
        )
    about = {
        "kind": "coco",
        "annotations": annotations.name,
        "sha256": source.index.sha256,
        "limit": limit,
    }
    return _plan(source, about, options or ClipOptions())


def prepare_masks(
    images: Path | str,
    masks: Path | str,
    options: ClipOptions | None = None,
    limit: int | None = None,
) -> SetPlan:
    """Plan pseudo-videos of images with one mask file each (ECSSD, DUTS, HRSOD, FSS-1000, ...).

    Args:
        images: Folder of the images, searched recursively.
        masks: Folder of the masks, paired by name; may be the same folder.
        options: Settings of the clips; defaults if ``None``.
        limit: Use the first images only, both as clips and for cut-outs.

    Raises:
        DataError: An image has no mask.
    """
    source = MaskSource(tuple(find_stills(Path(images), Path(masks))[:limit]))
    about = {"kind": "masks", "sha256": source.digest, "limit": limit}
    return _plan(source, about, options or ClipOptions())


def _plan(source: StillSource, about: Mapping[str, Any], options: ClipOptions) -> SetPlan:
    policy = load_policy(options.recipe.appearance)
    config = {
        **to_mapping(options),
        "source": dict(about),
        "recipe": to_mapping(options.recipe),
        "appearance": to_mapping(policy),
    }
    jobs = split_into_jobs(str(about["kind"]), len(source), options)
    return SetPlan(config, jobs, ClipMaker(source, options, policy))


@dataclass(frozen=True)
class ClipJob:
    """One clip to make: its place in the set, and which image in which variant."""

    shard: int
    sample: int
    image: int
    variant: int


def split_into_jobs(prefix: str, images: int, options: ClipOptions) -> list[Job]:
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
    """Makes the samples of a shard; picklable, and makes the same samples every time."""

    source: StillSource
    options: ClipOptions
    policy: AppearancePolicy

    def __call__(self, job: Job) -> Iterator[Sample | Skipped]:
        """Yield the job's samples in order, and its skipped inputs."""
        cv2.setNumThreads(1)  # the workers share the cores already
        pool: list[Cutout] = []
        for cutout in self.cutouts(job.items):
            if isinstance(cutout, Skipped):
                yield cutout
            else:
                pool.append(cutout)
        for clip in job.items:
            yield from self.samples(clip, pool)

    def cutouts(self, clips: Sequence[ClipJob]) -> Iterator[Cutout | Skipped]:
        """Yield the cut-outs of the shard with these clips, and the images that give none."""
        recipe = self.options.recipe
        # The pool's place in the seed sequence is the one after the shard's last sample.
        rng = _generator(self.options.seed, clips[0].shard, len(clips))
        count = min(recipe.pool_size, 2 * len(clips))
        for cutout in self.source.cutouts(count, recipe.min_cutout_box, rng):
            if isinstance(cutout, Cutout):
                yield cutout
            else:
                yield self._skip(cutout.error, cutout.image, f"{UNREADABLE} (for cut-outs)")

    def key(self, job: ClipJob) -> str:
        """Return the sample key of a clip."""
        return f"{self.source.key(job.image)}_v{job.variant:03d}"

    def _skip(self, error: DataError, what: str, reason: str) -> Skipped:
        """Count an unreadable input, or stop at it, as the user chose."""
        if self.options.on_bad_image == "skip":
            return Skipped(what, reason)
        # Finished shards are of this configuration, which states on_bad_image.
        raise DataError(
            f"{error}, or start the set anew with --on-bad-image skip --overwrite"
        ) from None

    def samples(self, job: ClipJob, pool: Sequence[Cutout]) -> Iterator[Sample | Skipped]:
        """Yield the skipped parts of an image, then its clip, if there is one.

        Args:
            job: The clip.
            pool: The :meth:`cutouts` of its shard.
        """
        key = self.key(job)
        try:
            recipe = self.options.recipe
            picture = self.source.read(
                job.image, recipe.min_instance_area, small_in_front=recipe.small_in_front
            )
        except DataError as error:
            yield self._skip(error, f"{key}: {self.source.name(job.image)}", UNREADABLE)
            return
        if job.variant == 0:  # once per image, not once per clip
            yield from picture.skipped
        yield self._sample(job, key, picture, pool)

    def _sample(
        self, job: ClipJob, key: str, picture: Picture, pool: Sequence[Cutout]
    ) -> Sample | Skipped:
        options = self.options
        clip = draw_clip(
            picture.image,
            picture.labels,
            pool,
            options.recipe,
            _generator(options.seed, job.shard, job.sample),
            num_frames=options.frames,
            size=options.size,
            policy=self.policy,
        )
        if isinstance(clip, Skip):
            return Skipped(key, str(clip))
        origin = {
            **self.source.origin(job.image),
            "variant": job.variant,
            "recipe": options.recipe.family,
        }
        height, width = picture.image.shape[:2]
        return encode_clip(clip, key, (height, width), origin, options.quality)


def _generator(*numbers: int) -> Generator:
    """Return the generator of one place in the set."""
    return np.random.default_rng(np.random.SeedSequence(numbers))


def encode_clip(
    clip: Clip, key: str, original_size: tuple[int, int], origin: Mapping[str, Any], quality: int
) -> Sample:
    """Encode a clip as a sample: JPEG frames (4:2:0), palette PNG masks, record.

    Args:
        clip: Frames and masks.
        key: The sample's key.
        original_size: (height, width) of the still image, px.
        origin: Stored in the record.
        quality: JPEG quality, 1..100.
    """
    names = tuple(f"{t:05d}" for t in range(len(clip.frames)))
    frames, masks = (dict(zip(names, arrays, strict=True)) for arrays in (clip.frames, clip.masks))
    height, width = clip.masks.shape[1:]
    record = SampleRecord.of(
        key,
        names,
        {name: areas(mask) for name, mask in masks.items()},
        size=(height, width),
        original_size=original_size,
        origin=origin,
    )
    return Sample(
        record,
        {name: encode_frame(frame, quality) for name, frame in frames.items()},
        {name: encode_mask(mask) for name, mask in masks.items()},
    )
