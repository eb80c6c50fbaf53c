"""Encoders: channels of each backbone, and what BatchNorm learns."""

import copy

import pytest
import torch
from torch import Tensor

from stmtrain.model import BACKBONES, STM, set_batchnorm
from stmtrain.model.encoders import BatchNorm
from tests.model_inputs import owner_of, predict, random


def statistics(model: STM) -> list[Tensor]:
    return [b.clone() for n, b in model.named_buffers() if "running" in n or "tracked" in n]


def test_frozen_batchnorm_survives_train_and_keeps_its_statistics() -> None:
    model = STM("resnet18")
    assert model.training
    before = statistics(model)
    for _ in range(2):
        predict(model, random(1, 2, 3, 32, 32), random(1, 32, 32), owner_of([1])).sum().backward()
        assert all(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))
        model = copy.deepcopy(model).eval().train()
    assert all(p.requires_grad for p in model.parameters())


def test_training_batchnorm_learns_statistics_only_in_training_mode() -> None:
    model = STM("resnet18")
    set_batchnorm(model, "train")
    frames, masks = random(1, 2, 3, 32, 32), random(1, 32, 32)
    before = statistics(model.eval())
    predict(model, frames, masks, owner_of([1]))
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))
    predict(model.train(), frames, masks, owner_of([1]))
    assert not any(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))
    set_batchnorm(model, "frozen")
    norms = [m for m in model.modules() if isinstance(m, BatchNorm)]
    assert norms
    assert not any(m.training for m in norms)


def test_batchnorm_of_one_value_per_channel_uses_the_stored_statistics() -> None:
    """A split attention normalises the mean of a picture: of a single one, a single value."""
    norm = BatchNorm(3)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = random(1, 3, 1, 1)
    expected = norm(x)
    set_batchnorm(norm, "train")
    norm.train()
    assert torch.equal(norm(x), expected)
    assert norm.running_mean.tolist() == [1, 2, 3]
    norm(random(2, 3, 1, 1))
    assert norm.running_mean.tolist() != [1, 2, 3]


@pytest.mark.parametrize("name", list(BACKBONES))
def test_channels_follow_the_backbone(name: str) -> None:
    backbone, model = BACKBONES[name], STM(name).eval()
    with torch.no_grad():
        features = model.Encoder_Q(random(1, 3, 32, 32))
        key, value = model.memorize(random(1, 3, 32, 32), random(1, 32, 32), owner_of([1]))
    assert tuple(f.shape[1] for f in features) == backbone.channels
    assert [f.shape[-1] for f in features] == [8, 4, 2]
    assert (key.shape[1], value.shape[1]) == (backbone.key_channels, backbone.value_channels)
