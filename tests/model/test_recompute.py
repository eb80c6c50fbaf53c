"""Activation checkpointing: the same numbers, and statistics that count each batch once."""

import copy

import pytest
import torch
from torch import nn

from stmtrain.model.recompute import run_again
from tests.model_inputs import random


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_second_run_gives_the_same_gradients_and_statistics(momentum: float | None) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4, momentum=momentum)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 2, 3))
    again, frames = copy.deepcopy(plain), random(2, 3, 8, 8)
    losses = []
    for part, run in ((plain, plain), (again, lambda x: run_again(again, x))):
        torch.manual_seed(1)
        loss = run(frames).square().sum()
        loss.backward()
        losses.append(float(loss.detach()))
        assert part[1].momentum == momentum
        assert int(part[1].num_batches_tracked) == 1
    assert losses[0] == losses[1]
    for ours, theirs in zip(again.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    for ours, theirs in zip(again.buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_without_gradients_nothing_is_recomputed() -> None:
    part = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        assert torch.equal(run_again(part, random(1, 3, 8, 8)), part(random(1, 3, 8, 8)))
