"""Inference as in the published STM code, for comparison; written from its description, not copied.

Every object is a separate clip: RGB is encoded for memory, and the decoder's skip features are
computed, once per object. Memory has 11 slots for any number of objects. Every frame is appended to
it by concatenation, and stays there if its index is a multiple of ``every``. One softmax over all
memory positions of all objects, float32, 11 output slots. Weights and layers are ours.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stmtrain.model import STM, aggregate
from stmtrain.model.objects import other_masks

__all__ = ["SLOTS", "ConcatenatedMemory", "reference_video"]

SLOTS = 11


class ConcatenatedMemory:
    """Keys (11,Ck,T,h,w) and values (11,Cv,T,h,w) that grow by concatenation."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._kept: tuple[Tensor, Tensor] | None = None
        self._all: tuple[Tensor, Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors that are alive, counting shared ones once."""
        held = {id(x): x.nbytes for pair in (self._kept, self._all) if pair for x in pair}
        return sum(held.values())

    def write(self, frame: int, keys: Tensor, values: Tensor) -> None:
        """Append a frame: keys (N,Ck,h,w) of N objects."""
        new = (_padded(keys), _padded(values))
        if self._kept is None:
            self._all = new
        else:
            self._all = tuple(torch.cat(pair, dim=2) for pair in zip(self._kept, new, strict=True))
        if frame % self._every == 0:
            self._kept = self._all

    def read(self, query_key: Tensor, objects: int) -> Tensor:
        """Return (N,Cv,h,w) for a query key (1,Ck,h,w)."""
        keys, values = (x[1 : 1 + objects].flatten(2) for x in self._all)  # N C Thw
        query = query_key.expand(objects, -1, -1, -1).flatten(2)  # N Ck hw
        weights = torch.bmm(keys.transpose(1, 2), query) / math.sqrt(query.shape[1])
        return torch.bmm(values, weights.softmax(dim=1)).unflatten(2, query_key.shape[2:])


@torch.no_grad()
def reference_video(
    model: STM, frames: Sequence[NDArray[np.uint8]], first: NDArray[np.uint8], *, every: int = 5
) -> Iterator[NDArray[np.uint8]]:
    """Yield a label map (H,W) per frame; ``first`` has the ids 1..N."""
    device = next(model.parameters()).device
    objects = int(first.max())
    memory = ConcatenatedMemory(every)
    soft = F.one_hot(torch.from_numpy(first).long(), SLOTS).permute(2, 0, 1).float().to(device)
    yield first
    for t in range(1, len(frames)):
        memory.write(t - 1, *_memorize(model, _image(frames[t - 1], device), soft[1 : objects + 1]))
        logits = _segment(model, _image(frames[t], device), memory, objects)
        soft = logits.softmax(dim=0)
        yield soft.argmax(dim=0).cpu().numpy().astype(np.uint8)


def _memorize(model: STM, image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    alone = torch.arange(len(masks))
    masks, (image, _) = _pad(masks)[0], _pad(image)
    others = other_masks(masks, torch.zeros(len(masks), dtype=torch.int64))
    images = image.expand(len(masks), -1, -1, -1)
    return model.KV_M_r4(model.Encoder_M(images, masks, others, alone).r4)


def _segment(model: STM, image: Tensor, memory: ConcatenatedMemory, objects: int) -> Tensor:
    padded, (left, right, above, below) = _pad(image)
    features = model.Encoder_Q(padded)
    key, value = model.KV_Q_r4(features.r4)
    readout = torch.cat([memory.read(key, objects), value.expand(objects, -1, -1, -1)], dim=1)
    features = type(features)(*(x.expand(objects, -1, -1, -1) for x in features))
    prob = model.Decoder(readout, features, torch.arange(objects))
    height, width = prob.shape[1:]
    slots = prob.new_zeros(1, SLOTS - 1, height - above - below, width - left - right)
    slots[0, :objects] = prob[:, above : height - below, left : width - right]
    return aggregate(slots)[0]


def _image(frame: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1).unsqueeze(0).float().div(255).to(device)


def _pad(x: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
    down, right = -x.shape[-2] % 16, -x.shape[-1] % 16
    margins = right // 2, right - right // 2, down // 2, down - down // 2
    return F.pad(x, margins), margins


def _padded(x: Tensor) -> Tensor:
    slots = x.new_zeros(SLOTS, x.shape[1], 1, *x.shape[2:])
    slots[1 : 1 + len(x), :, 0] = x
    return slots
