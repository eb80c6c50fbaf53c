"""One training step: a ragged batch of clips against the same clips one at a time.

The published code trains on one clip per step; ours takes several clips with different numbers of
objects at once, encoding each frame's RGB once. Both sides see the same clips, float32, backward
and Adam included. ``python benchmarks/bench_train_step.py [--backbone resnet50 --size 384]``
"""

import argparse

import torch
from common import report, side_by_side

from stmtrain.losses import clip_loss
from stmtrain.model import STM, set_batchnorm
from stmtrain.train import pick_device

Clips = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def drawn_clips(batch: int, size: int, device: torch.device) -> Clips:
    """Noise frames (B,3,3,S,S), masks of 1..3 objects (B,3,S,S), and the object counts."""
    generator = torch.Generator().manual_seed(0)
    count = torch.arange(batch) % 3 + 1
    masks = torch.stack(
        [torch.randint(0, int(n) + 1, (3, size, size), generator=generator) for n in count]
    )
    frames = torch.rand(batch, 3, 3, size, size, generator=generator)
    return frames.to(device), masks.byte().to(device), count


def step(model: STM, optimizer: torch.optim.Optimizer, batches: list[Clips]) -> None:
    """Accumulate the gradient over ``batches`` and update once."""
    optimizer.zero_grad(set_to_none=True)
    for frames, masks, count in batches:
        loss, _ = clip_loss(model, frames, masks, count, detach_memory=False)
        (loss / len(batches)).backward()
    optimizer.step()
    if frames.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = pick_device(options.device)
    model = STM(options.backbone).to(device).train()
    set_batchnorm(model, "frozen")
    optimizer = torch.optim.Adam(model.parameters(), 1e-6, fused=device.type == "cuda")
    clips = drawn_clips(options.batch, options.size, device)
    single = [tuple(part[i : i + 1] for part in clips) for i in range(options.batch)]
    seconds = side_by_side(
        {
            "one clip at a time": lambda: step(model, optimizer, single),
            "ragged batch": lambda: step(model, optimizer, [clips]),
        },
        options.repeats,
    )
    rates = {name: options.batch / value for name, value in seconds.items()}
    results = {
        **vars(options),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "clips_per_second": rates,
        "ratio": rates["ragged batch"] / rates["one clip at a time"],
    }
    print(results)
    print(report("train_step", results))


if __name__ == "__main__":
    main()
