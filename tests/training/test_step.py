"""A step learns, and the averaged weights follow the model."""

from dataclasses import replace

import numpy as np
import torch

from stmtrain.model import STM, set_batchnorm
from stmtrain.streaming.batch import Batch
from stmtrain.training.step import ClipLoss, TrainState, averaged, train_step
from tests.training.runs import RECIPE, moving_squares


def test_one_clip_can_be_learnt() -> None:
    torch.manual_seed(0)
    model = STM("resnet18").train()
    set_batchnorm(model, "train")
    optimizer = torch.optim.Adam(model.parameters())
    frames, masks, count = moving_squares()
    eye = torch.eye(3).expand(1, 3, 3, 3)
    batch = Batch(
        step=0,
        keys=("drawn",),
        num_objects=count,
        frames=(frames * 255).byte().permute(0, 1, 3, 4, 2).contiguous(),
        masks=masks,
        sizes=torch.tensor([[48, 48]]),
        matrices=eye,
        colours=torch.eye(3, 4).expand(1, 3, 3, 4),
    )
    recipe = replace(RECIPE, size=48, learning_rate=2e-4, schedule="constant")
    state = TrainState(model, ClipLoss(model, recipe), optimizer, "train")
    losses = [train_step(state, batch, recipe).loss for _ in range(12)]
    assert np.mean(losses[-3:]) < 0.35 * losses[0]


def test_the_average_follows_quickly_at_first() -> None:
    model = STM("resnet18")
    ema = averaged(model, 0.999)
    name = "Decoder.pred2.bias"
    with torch.no_grad():
        for step in range(1, 60):
            dict(model.named_parameters())[name].fill_(float(step))
            ema.update_parameters(model)
    value = float(ema.module.state_dict()[name][0])
    assert 45 < value < 59  # a decay of 0.999 from the start would still be below 3
