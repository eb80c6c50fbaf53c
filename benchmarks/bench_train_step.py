"""One training step, from the published method to ours, one switch at a time.

Forward, backward and Adam on the same drawn clips with 1 to 5 objects, in the proportions of the
published pseudo-videos. The first row is written from the method's description: one clip at a time
(gradients of a batch are added up, then one update), every object with a copy of its frame, a
memory and a loss of 11 slots. Each row after it adds one switch to the one before. Rows take turns.
``python -m benchmarks.bench_train_step [--backbone resnet50 --size 384 --batch 16 --compile]``

Model FLOPs are counted once, for the ragged batch in float32; what a row computes in addition (a
frame once per object, activations twice) lowers its share of the matrix rate. Float32 rows leave
TF32 convolutions on, as PyTorch does; the row "no TF32" (GPU) shows the cost of exactness.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import report
from benchmarks.model_cost import Alive, matmul_rates
from stmtrain.model import STM, aggregate, memory, read_memory, set_batchnorm, slots
from stmtrain.model.encoders import Features
from stmtrain.model.precision import autocast
from stmtrain.training.acceleration import adam, prepare
from stmtrain.training.distributed import usable_device
from stmtrain.training.losses import clip_losses, pixel_loss
from stmtrain.training.recipe import PRETRAIN, TrainRecipe

AS_TORCH = replace(PRETRAIN, tf32=True)
SLOTS = 11  # background and ten objects, in the published code
OBJECTS = (236, 218, 283, 247, 616)  # numbers of published clips, of 1600, with 1 to 5 objects

Clips = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Row:
    """A way to compute the step."""

    loss: Callable[[STM, Clips], Tensor]
    how: TrainRecipe = AS_TORCH
    one_by_one: bool = False
    fused_adam: bool = False
    fused_read: bool = False


def drawn_clips(batch: int, size: int, device: torch.device, dense: bool = False) -> Clips:
    """Draw noise frames (B,3,3,S,S), drifting discs (B,3,S,S), object counts (B,) on the CPU.

    ``dense`` fills the slots that no object has with empty masks.
    """
    generator = torch.Generator().manual_seed(0)
    edges = torch.tensor(OBJECTS).cumsum(dim=0)
    count = torch.searchsorted(edges / edges[-1], (torch.arange(batch) + 0.5) / batch) + 1
    masks = torch.zeros(batch, 3, size, size, dtype=torch.uint8)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    for clip, objects in enumerate(count.tolist()):
        for slot in range(1, objects + 1):
            cx, cy, radius = torch.rand(3, generator=generator).tolist()
            for t in range(3):
                far = (x / size - cx - 0.04 * t) ** 2 + (y / size - cy) ** 2
                masks[clip, t][far < (0.1 + 0.15 * radius) ** 2] = slot
    frames = torch.rand(batch, 3, 3, size, size, generator=generator)
    number = torch.full((batch,), SLOTS - 1) if dense else count
    return frames.to(device), masks.to(device), number


def published_loss(model: STM, clips: Clips) -> Tensor:
    """Compute one clip object by object and frame by frame, with 11 slots in memory and loss."""
    frames, masks, number = clips
    objects = int(number)
    own = torch.arange(objects)  # each object as if it were the only one of its frame
    ids = torch.arange(1, objects + 1, device=masks.device)

    def each(x: Tensor) -> Tensor:
        return x.expand(objects, -1, -1, -1).contiguous()

    def padded(x: Tensor) -> Tensor:
        return F.pad(x.unsqueeze(2), (*[0] * 9, SLOTS - 1 - objects))

    def memorise(frame: Tensor, soft: Tensor) -> tuple[Tensor, Tensor]:
        others = (soft.sum(dim=0) - soft).clamp(0, 1)
        key, value = model.KV_M_r4(model.Encoder_M(each(frame), soft, others, own).r4)
        return padded(key), padded(value)

    soft = (masks[:, 0] == ids[:, None, None]).float()
    keys, values = memorise(frames[:, 0], soft)
    loss = frames.new_zeros(())
    for t in (1, 2):
        query = model.encode_query(frames[:, t])
        read = read_memory(each(query.key), keys[:objects], values[:objects])
        features = Features(*map(each, query.features))
        prob = model.Decoder(torch.cat([read, each(query.value)], dim=1), features, own)
        logits = aggregate(F.pad(prob, (0, 0, 0, 0, 0, SLOTS - 1 - objects))[None])
        loss = loss + pixel_loss(logits, masks[:, t].long()).mean()
        if t == 1:
            soft = logits.softmax(dim=1)[0, 1 : objects + 1]
            more = memorise(frames[:, t], soft)
            keys, values = torch.cat([keys, more[0]], dim=2), torch.cat([values, more[1]], dim=2)
    return loss


def sequential_loss(model: STM, clips: Clips) -> Tensor:
    """Compute a ragged batch, encoding each query frame when its turn comes."""
    frames, masks, number = clips
    owner = torch.repeat_interleave(torch.arange(len(frames)), number)
    clip, slot = owner.to(masks.device), slots(owner).to(masks.device)
    soft, parts = (masks[clip, 0] == slot[:, None, None]).float(), []
    loss = frames.new_zeros(())
    for t in (1, 2):
        parts.append(model.memorize(frames[:, t - 1], soft, owner))
        keys, values = (torch.stack(part, dim=2) for part in zip(*parts, strict=True))
        logits = model.segment(frames[:, t], keys, values, owner)
        loss = loss + pixel_loss(logits, masks[:, t].long()).mean()
        soft = logits.softmax(dim=1)[clip, slot]
    return loss


def our_loss(model: STM, clips: Clips) -> Tensor:
    """Compute the loss as training does."""
    return clip_losses(model, *clips, detach_memory=False)[0].mean()


def rows(device: torch.device, compiled: bool, dense: bool) -> dict[str, Row]:
    """Return the ways to compute the step, each with one more switch than the one before."""
    found = {"published: one clip at a time": Row(published_loss, one_by_one=True)}
    if dense:
        found["dense batch of 10 objects each"] = Row(sequential_loss)
    row = found["ragged batch"] = Row(sequential_loss)
    row = found["+ one query encode"] = replace(row, loss=our_loss)
    if device.type == "cuda":
        found["  the same, no TF32"] = replace(row, how=PRETRAIN)
    row = found["+ channels last"] = replace(row, how=replace(row.how, channels_last=True))
    row = found["+ bfloat16"] = replace(row, how=replace(row.how, precision="bfloat16"))
    row = found["+ fused Adam"] = replace(row, fused_adam=True)
    if device.type == "cuda":  # on a CPU the plain read is faster and is used
        row = found["+ fused read"] = replace(row, fused_read=True)
    if compiled:
        found["+ compile"] = replace(row, how=replace(row.how, compile=True))
    again = replace(row.how, checkpoint_activations=True)
    found["activation checkpointing, without compile"] = replace(row, how=again)
    return found


class Contestant:
    """A model with its optimiser and clips, ready to take a step."""

    def __init__(self, row: Row, backbone: str, clips: Clips, device: torch.device) -> None:
        """Build the model from the seed that all contestants share."""
        torch.manual_seed(0)
        self.row = row
        self.model = STM(backbone).to(device).train()
        set_batchnorm(self.model, "frozen")
        prepare(self.model, row.how)
        self.optimizer = (
            adam(self.model, replace(PRETRAIN, learning_rate=1e-6))
            if row.fused_adam
            else torch.optim.Adam(self.model.parameters(), 1e-6)
        )
        batch = len(clips[0])
        single = [tuple(part[b : b + 1] for part in clips) for b in range(batch)]
        self.parts: list[Any] = single if row.one_by_one else [clips]
        self.device = device

    def step(self) -> None:
        """Add up the gradients of all parts and update once."""
        flags = self.row.how.tf32
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = flags, False
        read = memory._fusable if self.row.fused_read else lambda *_tensors: False
        self.optimizer.zero_grad(set_to_none=True)
        with patch.object(memory, "_fusable", read):
            for part in self.parts:
                with autocast(self.device, self.row.how.precision):
                    loss = self.row.loss(self.model, part)
                (loss / len(self.parts)).backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def in_turns(contestants: Mapping[str, Contestant], repeats: int) -> dict[str, dict[str, float]]:
    """Return median wall and CPU seconds of one step; the first two of each are not counted."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for repeat in range(repeats + 2):
        for name, contestant in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            contestant.step()
            if repeat > 1:
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: dict(zip(("wall", "cpu"), map(statistics.median, zip(*t, strict=True)), strict=True))
        for name, t in times.items()
    }


def peak_bytes(contestant: Contestant) -> int:
    """Return the peak memory of a step beyond weights and optimiser, bytes, with gradients."""
    if contestant.device.type == "cuda":
        contestant.optimizer.zero_grad(set_to_none=True)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        contestant.step()
        return torch.cuda.max_memory_allocated() - before
    with Alive() as alive:
        contestant.step()
    return alive.peak


def model_flops(contestant: Contestant) -> int:
    """Return the FLOPs of a step's convolutions and matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        contestant.step()
    return int(counter.get_total_flops())


@contextlib.contextmanager
def flags_kept() -> Iterator[None]:
    """Restore PyTorch's switches at the end."""
    kept = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kept


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="takes minutes")
    parser.add_argument("--dense", action="store_true", help="also the batch padded to 11 slots")
    options = parser.parse_args()
    with flags_kept():
        results = measure(options, usable_device(options.device))
    print(report("train_step", results))


def measure(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Run every row, and print as it goes."""
    rates = matmul_rates(device)
    contestants = {
        name: Contestant(
            row,
            options.backbone,
            drawn_clips(options.batch, options.size, device, dense=name.startswith("dense")),
            device,
        )
        for name, row in rows(device, options.compile, options.dense).items()
    }
    flops = model_flops(contestants["ragged batch"]) / options.batch
    seconds = in_turns(contestants, options.repeats)
    table = {}
    for name, contestant in contestants.items():
        busy = seconds[name]["wall" if device.type == "cuda" else "cpu"]
        rate = options.batch * flops / busy
        table[name] = {
            "clips_per_second": options.batch / seconds[name]["wall"],
            "wall_seconds": seconds[name]["wall"],
            "cpu_seconds": seconds[name]["cpu"],
            "peak_bytes": peak_bytes(contestant),
            "share_of_matmul": rate / rates[contestant.row.how.precision],
        }
        shown = table[name]
        print(
            f"{name:36} {shown['clips_per_second']:8.2f} clips/s  "
            f"{shown['cpu_seconds']:7.2f} s CPU  "
            f"{shown['peak_bytes'] / 1e6:8.0f} MB  {shown['share_of_matmul']:6.1%} of matmul"
        )
    return {
        **vars(options),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "objects": drawn_clips(options.batch, options.size, device)[2].tolist(),
        "model_flops_per_clip": flops,
        "matmul_flops_per_second": rates,
        "rows": table,
    }


if __name__ == "__main__":
    main()
