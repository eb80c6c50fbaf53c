"""Tensors and predictions that the tests of the model share."""

import torch
from torch import Tensor

from stmtrain.model import STM
from stmtrain.model import slots as slots_of


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def owner_of(counts: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def predict(model: STM, frames: Tensor, masks: Tensor, owner: Tensor) -> Tensor:
    """Memorise frame 0 and its neighbour's prediction, segment: (B,2,3,H,W) to (B,1+K,H,W)."""
    key, value = model.memorize(frames[:, 0], masks, owner)
    keys, values = key.unsqueeze(2), value.unsqueeze(2)
    logits = model.segment(frames[:, 1], keys, values, owner)
    more = model.memorize(frames[:, 1], logits.softmax(1)[owner, slots_of(owner)], owner)
    keys, values = torch.stack([key, more[0]], 2), torch.stack([value, more[1]], 2)
    return model.segment(frames[:, 1].flip(-1), keys, values, owner)
