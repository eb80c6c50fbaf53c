"""Kill training with SIGKILL at random moments, resume, and compare with an undisturbed run.

Each round forks this process, whose modules are already loaded; the child trains or resumes, and is
killed after a random time. When a run has reached its last step, the loss of every step and the
weights must equal those of an undisturbed run, to the bit; then the next run begins.

    python -m tests.soak.soak_train [--rounds 200]
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import report
from stmdata.drawn.trees import draw_davis
from stmtrain.train import train
from stmtrain.training.recipe import MAIN, TrainRecipe
from stmtrain.training.setup import TrainOptions
from stmtrain.weights.checkpoint import load_checkpoint
from tests.sets import pack_davis

FORK = multiprocessing.get_context("fork")


def train_once(shards: Path, out: Path, recipe: TrainRecipe) -> None:
    """Train to the end, from the checkpoint if there is one."""
    torch.set_num_threads(1)
    resume = (out / "checkpoint.pt").exists()
    run = TrainOptions(
        shards=(str(shards),),
        weights=(1.0,),
        out=out,
        backbone="resnet18",
        backbone_weights="none",
        device="cpu",
        threads=1,
        resume=resume,
        val=shards,
    )
    train(run, recipe, lambda *_progress: None)


def killed(shards: Path, out: Path, recipe: TrainRecipe, seconds: float) -> bool:
    """Train in a child for at most ``seconds``; return whether it had to be killed."""
    child = FORK.Process(target=train_once, args=(shards, out, recipe))
    child.start()
    child.join(seconds)
    if child.is_alive():
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        return True
    if child.exitcode:
        raise SystemExit(f"{out}: a resumed run ended with exit code {child.exitcode}")
    return False


def outcome(out: Path) -> tuple[list[tuple[int, str]], dict[str, torch.Tensor]]:
    """Return (step, loss or validation) as logged, and the final and the averaged weights."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    saved = load_checkpoint(out / "checkpoint.pt")
    averages = {f"average of {name}": value for name, value in (saved.ema or {}).items()}
    logged = [(line["step"], str(line.get("loss", line.get("validation")))) for line in lines]
    return logged, {**saved.model, **averages}


def differences(one: Path, other: Path) -> list[str]:
    """Return where two finished runs differ: in a logged step or loss, or in a bit of a weight."""
    (losses, weights), (expected, truth) = outcome(one), outcome(other)
    found = [f"logged {a}, expected {b}" for a, b in zip(losses, expected, strict=False) if a != b]
    if len(losses) != len(expected):
        found.append(f"{len(losses)} steps logged, expected {len(expected)}")
    return found + [name for name in truth if not torch.equal(weights[name], truth[name])]


def main() -> None:
    """Run the rounds, print and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    recipe = replace(
        MAIN,
        size=32,
        batch_size=1,
        steps=options.steps,
        log_every=1,
        save_every=1,
        keep_every=7,
        val_every=10,
        ema=0.9,
        window=2,
    )
    counts = {"kills": 0, "kills before the first checkpoint": 0, "finished runs": 0, "wrong": 0}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_davis(root / "davis", videos=4, frames=10, size=(48, 64))
        pack_davis(root / "davis", 2017, "train", root / "shards", workers=1)
        truth, out = root / "truth", root / "run"
        began = time.perf_counter()
        child = FORK.Process(target=train_once, args=(root / "shards", truth, recipe))
        child.start()
        child.join()
        seconds = time.perf_counter() - began
        while counts["kills"] < options.rounds:
            if killed(root / "shards", out, recipe, float(rng.uniform(0.1, seconds / 4))):
                counts["kills"] += 1
                counts["kills before the first checkpoint"] += not (out / "checkpoint.pt").exists()
                continue
            counts["finished runs"] += 1
            wrong = differences(out, truth)
            counts["wrong"] += bool(wrong)
            shutil.rmtree(out)
            print(counts, *wrong[:3], flush=True)
    print(report("soak_train", {**vars(options), "undisturbed_seconds": seconds, **counts}))
    if counts["wrong"]:
        raise SystemExit(f"{counts['wrong']} runs differ from the undisturbed one")


if __name__ == "__main__":
    main()
