"""Clips per second of ``prepare-coco``, and how a clip's time compares with the bare kernels.

    python -m benchmarks.bench_synth --images DIR --annotations FILE [--recipe classic]

"stages" are the program's own steps, in order; "kernels" the library calls that no such program
can do without (decode, warps of the same matrices into the same boxes, encode), on the same data.
Times are medians of repeats that take turns, with one thread. The index is written next to the
annotation file, as by ``stm prepare-coco``.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from benchmarks.common import report, side_by_side
from stmdata.packing.clips import (
    ClipMaker,
    ClipOptions,
    encode_clip,
    prepare_coco,
    split_into_jobs,
)
from stmdata.packing.pack import pack
from stmdata.stills.source import CocoSource, Picture
from stmdata.synthesis.appearance import apply_frame, blur_along
from stmdata.synthesis.appearance_policy import draw_appearance, load_policy
from stmdata.synthesis.clip import Clip, Skip, _draw_scene, draw_clip
from stmdata.synthesis.layers import Cutout, Scene
from stmdata.synthesis.recipe import SynthRecipe, load_recipe
from stmdata.synthesis.render import _LINEAR, _NEAREST, _box, _sample, _warp
from stmtrain.images.encode import encode_mask

CLIPS = 40  # of which stages and kernels are measured


@dataclass(frozen=True)
class Material:
    """The same clips at every stage."""

    recipe: SynthRecipe
    source: CocoSource
    positions: list[int]
    files: list[bytes]
    pool: list[Cutout]
    pictures: list[Picture]
    scenes: list[Scene]
    clips: list[Clip]

    @classmethod
    def of(cls, source: CocoSource, recipe: SynthRecipe) -> "Material":
        """Read the first images and make ``CLIPS`` clips of them."""
        positions = [i % len(source) for i in range(CLIPS)]
        records = [source.index.image(i) for i in positions]
        files = [(source.images / record.file_name).read_bytes() for record in records]
        drawn = source.cutouts(96, recipe.min_cutout_box, np.random.default_rng(0))
        pool = [cutout for cutout in drawn if isinstance(cutout, Cutout)]
        front = recipe.small_in_front
        pictures = [
            source.read(i, recipe.min_instance_area, small_in_front=front) for i in positions
        ]
        rngs = [np.random.default_rng([1, i]) for i in range(CLIPS)]
        scenes = [
            _draw_scene(picture.labels, pool, recipe, 3, 384, rng)
            for picture, rng in zip(pictures, rngs, strict=True)
        ]
        made = cls(recipe, source, positions, files, pool, pictures, scenes, [])
        clips = [clip for clip in map(made.clip, range(CLIPS)) if isinstance(clip, Clip)]
        return replace(made, clips=clips)

    def clip(self, i: int) -> Clip | Skip:
        """Make clip ``i``."""
        return draw_clip(
            self.pictures[i].image,
            self.pictures[i].labels,
            self.pool,
            self.recipe,
            np.random.default_rng([1, i]),
            policy=load_policy(self.recipe.appearance),
        )

    def synthesise(self) -> None:
        """Make every clip and discard it."""
        for i in range(CLIPS):
            self.clip(i)


def stages(m: Material) -> dict[str, Callable[[], object]]:
    """Return the steps of the program, each over all clips."""
    least = m.recipe.min_cutout_box
    share = max(1, round(m.recipe.pool_size * CLIPS / 400))  # of a pool made per 400 clips

    def read() -> None:
        for i in m.positions:
            m.source.read(i, m.recipe.min_instance_area, small_in_front=m.recipe.small_in_front)

    def encode() -> None:
        for clip in m.clips:
            encode_clip(clip, "key", (1, 1), {}, 95)

    return {
        "pool": lambda: list(m.source.cutouts(share, least, np.random.default_rng(0))),
        "read": read,
        "synthesise": m.synthesise,
        "encode": encode,
    }


def kernels(m: Material) -> dict[str, Callable[[], object]]:
    """Return the bare library calls, each over all clips."""
    frame, mask = np.empty((384, 384, 3), np.uint8), np.empty((384, 384), np.uint8)

    def decode(files: list[bytes]) -> None:
        for data in files:
            simplejpeg.decode_jpeg(data, "RGB")

    def warp_base() -> None:
        for picture, scene in zip(m.pictures, m.scenes, strict=True):
            for matrix in scene.base:
                _warp(picture.image, matrix, frame, _LINEAR, cv2.BORDER_CONSTANT)
                _warp(picture.labels, matrix, mask, _NEAREST, cv2.BORDER_CONSTANT)

    boxes = [
        (layer, t, box)
        for scene in m.scenes
        for layer in scene.layers
        for t in range(len(scene.base))
        if (box := _box(layer, t, scene.size, 0)) is not None
    ]

    def appear() -> None:
        policy = load_policy(m.recipe.appearance)
        for i, clip in enumerate(m.clips):
            looks = draw_appearance(policy, 3, np.random.default_rng([2, i]))
            for look, made in zip(looks, clip.frames, strict=True):
                apply_frame(look, blur_along(look, made, (10.0, 5.0)))

    share = max(1, round(m.recipe.pool_size * CLIPS / 400))
    pool_files = [m.files[i % CLIPS] for i in range(share)]
    looks = {} if m.recipe.appearance == "none" else {"appearance": appear}
    return {
        **looks,
        "decode": lambda: decode(m.files),
        "decode for the pool": lambda: decode(pool_files),
        "warp image and labels": warp_base,
        "warp pasted": lambda: [_sample(*box) for box in boxes],
        "encode JPEG": lambda: [
            simplejpeg.encode_jpeg(f, 95, "RGB", "420") for clip in m.clips for f in clip.frames
        ],
        "encode PNG": lambda: [encode_mask(mask) for clip in m.clips for mask in clip.masks],
    }


def profile(source: CocoSource, recipe: SynthRecipe, repeats: int) -> dict[str, Any]:
    """Return milliseconds per clip of stages and kernels, and the ratio of their sums."""
    m = Material.of(source, recipe)
    ours, bare = stages(m), kernels(m)
    times = side_by_side({**ours, **bare}, repeats)
    per_clip = {name: 1000 * seconds / CLIPS for name, seconds in times.items()}
    total, bound = (sum(per_clip[name] for name in names) for names in (ours, bare))
    return {
        "stages_ms": {name: round(per_clip[name], 3) for name in ours},
        "kernels_ms": {name: round(per_clip[name], 3) for name in bare},
        "total_ms": round(total, 2),
        "bound_ms": round(bound, 2),
        "share_of_bound": round(bound / total, 3),
        "clips_per_second": round(1000 / total, 1),
    }


def in_one_process(source: CocoSource, recipe: SynthRecipe, variants: int) -> dict[str, float]:
    """Return clips/s of making shards without writing them: wall clock, and processor time."""
    options = ClipOptions(recipe, variants=variants)
    make = ClipMaker(source, options, load_policy(recipe.appearance))
    jobs = split_into_jobs("coco", len(source), options)
    wall, cpu = time.perf_counter(), time.process_time()
    count = sum(hasattr(sample, "record") for job in jobs for sample in make(job))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": round(count / wall, 1), "processor": round(count / cpu, 1)}


def on_disk(source: CocoSource, recipe: SynthRecipe, variants: int, workers: int) -> float:
    """Return clips/s of packing COCO, including process start and writing."""
    options = ClipOptions(recipe, variants=variants, clips_per_shard=100)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        plan = prepare_coco(source.images, source.annotations, options)
        manifest = pack(plan, folder, workers=workers)
        return round(manifest.totals["samples"] / (time.perf_counter() - start), 1)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--recipe", nargs="+", default=["classic", "default"])
    parser.add_argument("--variants", type=int, default=5, help="clips per image in complete runs")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    source = CocoSource(options.images, options.annotations)
    results: dict[str, Any] = {"load_average_before": os.getloadavg()[0]}
    for name in options.recipe:
        recipe = load_recipe(name)
        results[name] = {
            "profile": profile(source, recipe, options.repeats),
            "made_not_written": in_one_process(source, recipe, options.variants),
            "prepare_coco": {
                f"workers={n}": on_disk(source, recipe, options.variants, n)
                for n in options.workers
            },
        }
        print(name, results[name])
    print(report("synth", results))


if __name__ == "__main__":
    main()
