"""Losses: what they equal, and that a clip's does not depend on its neighbours in the batch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.images.masks import VOID
from stmtrain.model import STM
from stmtrain.scoring.metrics import j_and_f
from stmtrain.training.losses import clip_losses, dice_loss, mean_jaccard, pixel_loss, segment_clip
from tests.profiles import examples
from tests.training.runs import moving_squares

CASES = st.tuples(st.integers(0, 99), st.integers(1, 3), st.integers(1, 3))


def _case(seed: int, clips: int, most: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (B,1+K,6,7), slots (B,6,7) with some void, and the number of objects of each clip."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, most + 1, clips)
    count[0] = most
    logits = rng.normal(0, 3, (clips, 1 + most, 6, 7)).astype(np.float32)
    target = np.stack([rng.integers(0, n + 1, (6, 7)) for n in count])
    target[rng.uniform(size=target.shape) < 0.2] = VOID
    return torch.from_numpy(logits), torch.from_numpy(target), torch.from_numpy(count)


@given(CASES)
def test_the_plain_loss_is_the_mean_cross_entropy_of_known_pixels(case: tuple[int, ...]) -> None:
    logits, target, _ = _case(*case)
    expected = [
        F.cross_entropy(logits[i : i + 1], target[i : i + 1], ignore_index=VOID)
        for i in range(len(logits))
    ]
    torch.testing.assert_close(pixel_loss(logits, target), torch.stack(expected))


@given(CASES, st.floats(0.01, 0.99))
def test_the_bootstrapped_loss_is_the_mean_of_the_hardest(
    case: tuple[int, ...], share: float
) -> None:
    logits, target, _ = _case(*case)
    every = F.cross_entropy(logits, target, ignore_index=VOID, reduction="none")
    for i, value in enumerate(pixel_loss(logits, target, share).tolist()):
        known = np.sort(every[i][target[i] != VOID].numpy())[::-1]
        hardest = known[: max(1, int(np.ceil(np.float32(share) * np.float32(len(known)))))]
        assert value == pytest.approx(hardest.mean() if len(known) else 0, rel=1e-5)
    assert (pixel_loss(logits, target, share) >= pixel_loss(logits, target) - 1e-5).all()


def test_a_frame_that_is_void_everywhere_costs_nothing() -> None:
    logits, target, count = _case(0, 2, 2)
    target[:] = VOID
    assert (pixel_loss(logits, target) == 0).all()
    assert (pixel_loss(logits, target, 0.2) == 0).all()
    assert (dice_loss(logits, target, count) == 0).all()


@given(CASES)
def test_dice_is_of_the_known_pixels_of_each_clips_own_objects(case: tuple[int, ...]) -> None:
    logits, target, count = _case(*case)
    values = dice_loss(logits, target, count)
    chance = logits.softmax(dim=1).numpy()
    for i, value in enumerate(values.tolist()):
        known = target[i].numpy() != VOID
        ratios = []
        for slot in range(1, int(count[i]) + 1):
            p, y = chance[i, slot][known], target[i].numpy()[known] == slot
            ratios.append(1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1))
        assert value == pytest.approx(np.mean(ratios), abs=1e-5)
    perfect = torch.where(target == VOID, 0, target)
    sure = 50 * F.one_hot(perfect, logits.shape[1]).permute(0, 3, 1, 2).float()
    assert (dice_loss(sure, target, count) < 1e-4).all()


@given(CASES)
def test_j_of_a_batch_is_that_of_the_metrics(case: tuple[int, ...]) -> None:
    logits, target, count = _case(*case)
    predicted = logits.argmax(dim=1).numpy()
    for i, value in enumerate(mean_jaccard(logits, target, count).tolist()):
        truth, void = target[i].numpy(), target[i].numpy() == VOID
        scores = [
            j_and_f((predicted[i] == slot) & ~void, truth == slot)[0]
            for slot in range(1, int(count[i]) + 1)
        ]
        assert value == pytest.approx(np.mean(scores), abs=1e-6)


@examples(4)
@given(seed=st.integers(0, 99), share=st.sampled_from([1.0, 0.3]), dice=st.sampled_from([0.0, 1.0]))
def test_a_clips_loss_does_not_depend_on_its_batch(seed: int, share: float, dice: float) -> None:
    torch.manual_seed(seed)
    model = STM("resnet18").eval()
    frames = torch.rand(3, 3, 3, 32, 32)
    count = torch.tensor([1, 3, 2])
    masks = torch.stack([torch.randint(0, int(n) + 1, (3, 32, 32)) for n in count]).byte()
    masks[0, 1, :10] = VOID
    with torch.no_grad():
        together, _ = clip_losses(
            model, frames, masks, count, detach_memory=False, share=share, dice=dice
        )
        apart = [
            clip_losses(
                model,
                frames[i : i + 1],
                masks[i : i + 1],
                count[i : i + 1],
                detach_memory=False,
                share=share,
                dice=dice,
            )[0]
            for i in range(3)
        ]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-5)


def test_the_last_frame_is_not_memorised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads it, and it would change BatchNorm's statistics where they are trained."""
    model = STM("resnet18").eval()
    frames, masks, count = moving_squares()
    memorised, memorize = [], model.memorize

    def watched(images: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        memorised.append(images)
        return memorize(images, *rest)

    monkeypatch.setattr(model, "memorize", watched)
    with torch.no_grad():
        logits = list(segment_clip(model, frames, masks, count, detach_memory=True))
    assert len(logits) == frames.shape[1] - 1
    assert torch.equal(torch.stack(memorised, dim=1), frames[:, :-1])


def test_detaching_cuts_the_gradient_through_the_predicted_mask() -> None:
    torch.manual_seed(0)
    model = STM("resnet18").eval()
    frames, masks, count = moving_squares()
    gradients = []
    for detach in (False, True):
        model.zero_grad()
        last = list(segment_clip(model, frames, masks, count, detach_memory=detach))[-1]
        last.square().mean().backward()
        gradients.append(model.Decoder.pred2.weight.grad.clone())
    assert not torch.allclose(gradients[0], gradients[1])


def test_void_pixels_do_not_count() -> None:
    torch.manual_seed(0)
    model = STM("resnet18").eval()
    frames, masks, count = moving_squares()
    with torch.no_grad():
        loss, logits = clip_losses(model, frames, masks, count, detach_memory=True)
        everywhere = masks.clone()
        everywhere[:, 1:] = 255
        nothing, _ = clip_losses(model, frames, everywhere, count, detach_memory=True)
    assert logits.shape == (1, 3, 48, 48)
    assert loss > 0
    assert nothing == 0
