"""What one revision computes where the command line shows too little; run inside that revision.

    PYTHONPATH=REVISION python -P benchmarks/revisions/probe.py draw FOLDER
    PYTHONPATH=REVISION python -P benchmarks/revisions/probe.py batches SET KIND STEPS
    PYTHONPATH=REVISION python -P benchmarks/revisions/probe.py speed SET KIND STEPS
    PYTHONPATH=REVISION python -P benchmarks/revisions/probe.py weights CHECKPOINT

``compare_revisions.py`` runs it. The answer is JSON on standard output. Names are looked up in
today's modules first and then in those of older layouts, so add the new place of a name in front of
the old ones when it moves.
"""

import argparse
import hashlib
import importlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

PLACES = {
    "Loader": ("stmtrain.streaming.loader", "stmtrain.loader"),
    "PSEUDO": ("stmtrain.streaming.clips", "stmtrain.clips"),
    "Plan": ("stmtrain.streaming.plan", "stmtrain.plan"),
    "ShardSet": ("stmtrain.shards.reader", "stmtrain.shards"),
    "VIDEO": ("stmtrain.streaming.clips", "stmtrain.clips"),
    "augment": ("stmtrain.streaming.augment", "stmtrain.augment"),
    "draw_coco": ("stmdata.drawn.trees", "stmdata.drawn"),
    "draw_davis": ("stmdata.drawn.trees", "stmdata.drawn"),
    "draw_youtube_vos": ("stmdata.drawn.trees", "stmdata.drawn"),
}
"""Where each name is, newest layout first."""

REVISION = Path(os.environ["PYTHONPATH"])
BATCH_FIELDS = ("num_objects", "frames", "masks", "sizes", "matrices", "colours")
BATCH, SIZE, SEED = 4, 128, 7
WARM_UP = 5  # steps that are not timed


def main() -> None:
    """Answer one question about the revision that Python finds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    questions = parser.add_subparsers(required=True)
    for name, function, words in (
        ("draw", draw, ["folder"]),
        ("batches", batches, ["folder", "kind", "steps"]),
        ("speed", speed, ["folder", "kind", "steps"]),
        ("weights", weights, ["folder"]),
    ):
        question = questions.add_parser(name)
        question.set_defaults(function=function)
        for word in words:
            question.add_argument(word, type={"folder": Path, "steps": int}.get(word, str))
    arguments = vars(parser.parse_args())
    function = arguments.pop("function")
    print(json.dumps(function(**arguments)))


def find(name: str) -> Any:
    """Return the object of this name from the first of its modules that the revision has.

    An editable installation of another revision would offer modules that this one does not have,
    so files are looked for before anything is imported.

    Raises:
        ImportError: No layout that is known here has it.
    """
    for place in PLACES[name]:
        path = REVISION.joinpath(*place.split("."))
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return getattr(importlib.import_module(place), name)
    raise ImportError(f"{name}: not in {' or '.join(PLACES[name])}; add its module to PLACES")


def draw(folder: Path) -> dict[str, str]:
    """Draw small COCO, DAVIS 2016, DAVIS 2017 and YouTube-VOS trees; return a digest of each."""
    size = (120, 160)
    find("draw_coco")(folder / "coco", images=12, size=size)
    find("draw_davis")(folder / "davis2016", 2016, size=size)
    find("draw_davis")(folder / "davis2017", 2017, videos=6, frames=12, size=size)
    find("draw_youtube_vos")(folder / "youtube_vos", size=size)
    return {tree.name: tree_digest(tree) for tree in sorted(folder.iterdir())}


def tree_digest(folder: Path) -> str:
    """Return a SHA-256 over the names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def batches(folder: Path, kind: str, steps: int) -> dict[str, str]:
    """Return, per step and tensor, a digest of what the loader gives and what the model is fed."""
    found = {}
    for batch in stream(folder, kind, steps):
        for field in BATCH_FIELDS:
            found[f"step {batch.step} {field}"] = tensor_digest(getattr(batch, field))
        frames, masks = find("augment")(batch, SIZE)
        found[f"step {batch.step} model frames"] = tensor_digest(frames)
        found[f"step {batch.step} model masks"] = tensor_digest(masks)
        found[f"step {batch.step} keys"] = " ".join(batch.keys)
    return found


def speed(folder: Path, kind: str, steps: int) -> dict[str, float]:
    """Return the loader's clips per second of processor time, with one thread."""
    began, clips = 0.0, 0
    for batch in stream(folder, kind, WARM_UP + steps):
        if batch.step == WARM_UP - 1:
            began = time.process_time()
        elif batch.step >= WARM_UP:
            clips += len(batch.keys)
    return {"value": clips / (time.process_time() - began)}


def stream(folder: Path, kind: str, steps: int) -> Iterator[Any]:
    """Yield batches of a set, its clips drawn as pseudo-videos or as videos."""
    recipe = {"pseudo": "PSEUDO", "video": "VIDEO"}[kind]
    shards = find("ShardSet").open(folder)
    plan = find("Plan")(
        shard_sizes=(shards.shard_sizes,), weights=(1.0,), seed=SEED, global_batch=BATCH
    )
    max_skip: Callable[[int], int] = lambda step: step % 6  # noqa: E731
    with find("Loader")(
        [shards], plan, find(recipe), size=SIZE, threads=1, stop=steps, max_skip=max_skip
    ) as loader:
        yield from loader


def weights(folder: Path) -> dict[str, str]:
    """Return a digest of every tensor in a checkpoint, the optimiser's included."""
    import torch

    return dict(_tensors(torch.load(folder, weights_only=True, map_location="cpu"), ""))


def _tensors(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(inner, f"{name}/{key}")
    elif hasattr(value, "untyped_storage"):
        yield name, tensor_digest(value)


def tensor_digest(tensor: Any) -> str:
    """Return a digest of a tensor's type, shape and values."""
    array = tensor.detach().contiguous().numpy()
    head = f"{array.dtype} {array.shape}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


if __name__ == "__main__":
    main()
