"""Does bfloat16 learn as well as float32? Short training runs of both, with several seeds each.

A seed decides weights and clips, which are the same for both precisions. The difference between
precisions is compared with the spread between seeds: well inside that spread, it is no larger than
the effect of another seed. Clips are drawn: textured discs that drift over noise.
``python -m benchmarks.bench_precision [--seeds 5 --steps 200 --device cuda]``
"""

import argparse
import statistics
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from benchmarks.common import report
from stmtrain.model import STM, set_batchnorm
from stmtrain.model.precision import Precision, autocast
from stmtrain.training.acceleration import adam, prepare
from stmtrain.training.distributed import usable_device
from stmtrain.training.losses import clip_losses, mean_jaccard
from stmtrain.training.recipe import PRETRAIN

BATCH, OBJECTS, HELD_OUT = 4, 3, 8
TAIL = 10  # steps whose mean loss is a run's last loss


@dataclass(frozen=True)
class Outcome:
    """One run: the loss of every step, and J on clips that it has not seen."""

    losses: list[float]
    jaccard: float

    @property
    def last(self) -> float:
        """Mean loss of the last steps."""
        return statistics.fmean(self.losses[-TAIL:])


def drawn_clips(count: int, size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw frames (B,3,3,S,S) in [0,1], masks (B,3,S,S) and numbers of objects (B,)."""
    generator = torch.Generator().manual_seed(seed)
    frames = 0.3 * torch.rand(count, 3, 3, size, size, generator=generator)
    masks = torch.zeros(count, 3, size, size, dtype=torch.uint8)
    number = torch.randint(1, OBJECTS + 1, (count,), generator=generator)
    y, x = torch.meshgrid(*[torch.arange(size) / size] * 2, indexing="ij")
    for clip in range(count):
        for slot in range(1, int(number[clip]) + 1):
            cx, cy, radius, dx, dy = torch.rand(5, generator=generator).tolist()
            colour = torch.rand(3, 1, generator=generator)
            for t in range(3):
                far = (x - cx - 0.15 * t * (dx - 0.5)) ** 2 + (y - cy - 0.15 * t * (dy - 0.5)) ** 2
                inside = far < (0.12 + 0.15 * radius) ** 2
                frames[clip, t, :, inside] = 0.7 * colour + 0.3 * frames[clip, t, :, inside]
                masks[clip, t][inside] = slot
    return frames, masks, number


def train(
    precision: Precision, seed: int, device: torch.device, options: argparse.Namespace
) -> Outcome:
    """Train from scratch, and score the result in float32."""
    torch.manual_seed(seed)
    model = STM(options.backbone).to(device).train()
    set_batchnorm(model, "train")
    recipe = replace(PRETRAIN, precision=precision, channels_last=True)
    recipe = replace(recipe, learning_rate=options.learning_rate)
    prepare(model, recipe)
    optimizer = adam(model, recipe)
    losses = []
    for step in range(options.steps):
        frames, masks, number = drawn_clips(BATCH, options.size, 1_000_000 * (seed + 1) + step)
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            clips = frames.to(device), masks.to(device), number
            loss = clip_losses(model, *clips, detach_memory=False)[0].mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    frames, masks, number = drawn_clips(HELD_OUT, options.size, 0)
    with torch.no_grad():
        clips = frames.to(device), masks.to(device), number
        _, logits = clip_losses(model.eval(), *clips, detach_memory=False)
    jaccard = mean_jaccard(logits, clips[1][:, -1].long(), number)
    return Outcome(losses, float(jaccard.mean()))


def compare(runs: dict[Precision, list[Outcome]], what: Literal["last", "jaccard"]) -> Any:
    """Return mean and spread of each precision, and of the differences within a seed."""
    values = {name: [getattr(run, what) for run in found] for name, found in runs.items()}
    pairs = zip(values["bfloat16"], values["float32"], strict=True)
    with_difference = values | {"bfloat16 - float32": [half - full for half, full in pairs]}
    return {
        name: {"mean": statistics.fmean(found), "spread": statistics.stdev(found), "seeds": found}
        for name, found in with_difference.items()
    }


def main() -> None:
    """Train, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = usable_device(options.device)
    runs: dict[Precision, list[Outcome]] = {name: [] for name in get_args(Precision)}
    for seed in range(options.seeds):
        for precision, found in runs.items():
            found.append(train(precision, seed, device, options))
            print(f"seed {seed} {precision:8} loss {found[-1].last:.4f} J {found[-1].jaccard:.3f}")
    results = {
        **vars(options),
        "device": str(device),
        "last_loss": compare(runs, "last"),
        "jaccard": compare(runs, "jaccard"),
        "mean_curve": {
            name: [statistics.fmean(step) for step in zip(*(r.losses for r in found), strict=True)]
            for name, found in runs.items()
        },
    }
    for what in ("last_loss", "jaccard"):
        for name, value in results[what].items():
            print(f"{what:10} {name:20} {value['mean']:+.4f} spread {value['spread']:.4f}")
    print(report("precision", results))


if __name__ == "__main__":
    main()
