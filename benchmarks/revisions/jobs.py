"""The jobs that two revisions are compared by, driven through the command line where it suffices.

A job's last arguments are the revision and a folder of its own. It returns one value for each part
of its result: a digest, a loss, a score written out. Two revisions agree when all parts do.
"""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.revisions.inputs import Inputs
from benchmarks.revisions.revision import Revision

__all__ = [
    "RECIPES",
    "Parts",
    "after_resuming",
    "batches",
    "draw",
    "label_maps",
    "loader_speed",
    "pack",
    "resume",
    "scores",
    "scoring_speed",
    "synthesis_speed",
    "train",
]

Parts = dict[str, str]
Masks = tuple[Path, Path, int]

STEPS, KEPT = 50, 25  # steps of a training run; the checkpoint of step KEPT is resumed
RECIPES: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "pretrain": (["clips"], []),
    "main": (
        ["clips", "videos"],
        ["dice=1.0", "ema=0.9", "clip_norm=5.0", "max_skip_every=10", "bootstrap=0.5"],
    ),
}
"""Per recipe, the sets that are trained on and further settings."""
SPEED_STEPS, SPEED_VARIANTS = 60, 4
SCORES = "scores.json"


def draw(revision: Revision, out: Path) -> Parts:
    """Draw small data sets; return a digest of each."""
    digests: Parts = revision.probe("draw", out)
    return digests


def pack(command: Sequence[object], revision: Revision, out: Path) -> Parts:
    """Pack a set; return the SHA-256 of every file."""
    revision.stm(*command, "--out", out)
    return {path.name: _sha256(path) for path in sorted(out.glob("*.*"))}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def batches(packed: Path, kind: str, revision: Revision, _out: Path) -> Parts:
    """Return digests of what the model is fed in 50 steps; ``kind`` is pseudo or video."""
    digests: Parts = revision.probe("batches", packed, kind, STEPS)
    return digests


def train(recipe: str, sets: Mapping[str, Path], revision: Revision, out: Path) -> Parts:
    """Train 50 steps; return all losses, and the weights at steps 25 and 50.

    The log rounds losses to six digits; weights and optimiser are compared to the bit.
    """
    revision.stm(*_options(recipe, sets), "--out", out)
    return (
        _losses(out)
        | _weights(revision, _kept(out), f"step {KEPT}")
        | _weights(revision, out / "checkpoint.pt", f"step {STEPS}")
    )


def resume(
    recipe: str, sets: Mapping[str, Path], run: Path, revision: Revision, out: Path
) -> Parts:
    """Resume the checkpoint of step 25 of a run; return the losses and weights after it.

    Args:
        recipe: A key of ``RECIPES``.
        sets: The folders of the packed sets.
        run: Folder of the run that has been trained to its end.
        revision: The one that resumes.
        out: New folder for the resumed run.
    """
    out.mkdir(parents=True)
    shutil.copyfile(_kept(run), out / "checkpoint.pt")
    revision.stm(*_options(recipe, sets), "--out", out, "--resume")
    parts = _losses(out) | _weights(revision, out / "checkpoint.pt", f"step {STEPS}")
    return after_resuming(parts)


def after_resuming(parts: Parts) -> Parts:
    """Return the parts of a run that belong to steps after the kept checkpoint."""
    return {name: value for name, value in parts.items() if int(name.split()[1]) > KEPT}


def _options(recipe: str, sets: Mapping[str, Path]) -> list[object]:
    names, further = RECIPES[recipe]
    settings = ["batch_size=2", "size=64", "log_every=1", f"keep_every={KEPT}", *further]
    options: list[object] = ["train", "--recipe", recipe, "--steps", STEPS, "--device", "cpu"]
    options += ["--backbone", "resnet18", "--backbone-weights", "none", "--threads", 1]
    options += ["--learning-rate", "1e-4"]
    for name in names:
        options += ["--shards", sets[name]]
    for setting in settings:
        options += ["--set", setting]
    return options


def _kept(run: Path) -> Path:
    """Return the checkpoint that was kept at step 25."""
    return next(path for path in run.glob("step-*.pt") if int(path.stem[5:]) == KEPT)


def _losses(run: Path) -> Parts:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    fields = ("loss", "jaccard", "grad_norm", "learning_rate")
    return {
        f"step {line['step']}": " ".join(f"{field} {line[field]!r}" for field in fields)
        for line in lines
        if "loss" in line
    }


def _weights(revision: Revision, checkpoint: Path, name: str) -> Parts:
    digests = revision.probe("weights", checkpoint)
    return {f"{name} {tensor}": digest for tensor, digest in digests.items()}


def label_maps(inputs: Inputs, checkpoint: Path, revision: Revision, out: Path) -> Parts:
    """Segment a few frames; return a digest of the pixels of every label map."""
    root, year = inputs.val
    options = ["--checkpoint", checkpoint, "--davis", root, "--year", year, "--split", "val"]
    revision.stm("eval", *options, "--size", 96, "--device", "cpu", "--workers", 1, "--out", out)
    parts = {}
    for path in sorted(out.rglob("*.png")):
        with Image.open(path) as image:
            pixels = np.asarray(image)
        digest = hashlib.sha256(f"{image.mode} {pixels.shape}".encode() + pixels.tobytes())
        parts[path.relative_to(out).as_posix()] = digest.hexdigest()
    return parts


def scores(masks: Masks, revision: Revision, out: Path) -> Parts:
    """Score result masks; return every number of the report."""
    _score(masks, revision, out)
    return dict(_leaves(json.loads((out / SCORES).read_text()), ""))


def scoring_speed(masks: Masks, revision: Revision, out: Path) -> float:
    """Return how often per second of processor time result masks are scored, start included."""
    return 1 / _score(masks, revision, out)


def _score(masks: Masks, revision: Revision, out: Path) -> float:
    results, root, year = masks
    truth = ["--davis", root, "--year", year, "--split", "val", "--workers", 1]
    return revision.stm("score", "--results", results, *truth, "--json", out / SCORES)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _leaves(inner, f"{name}/{key}")
    else:
        yield name, repr(value)


def loader_speed(packed: Path, revision: Revision, _out: Path) -> float:
    """Return the loader's clips per second of processor time."""
    return float(revision.probe("speed", packed, "pseudo", SPEED_STEPS)["value"])


def synthesis_speed(inputs: Inputs, revision: Revision, out: Path) -> float:
    """Return the clips that prepare-coco writes per second of processor time, start included."""
    images, annotations = inputs.coco
    options = ["--images", images, "--annotations", annotations, "--limit", 40]
    options += ["--variants", SPEED_VARIANTS, "--workers", 1]
    seconds = revision.stm("prepare-coco", *options, "--out", out)
    clips = 0
    for path in out.glob("*.tar"):
        with tarfile.open(path) as tar:
            clips += sum(name.endswith(".json") for name in tar.getnames())
    shutil.rmtree(out)
    return clips / seconds
