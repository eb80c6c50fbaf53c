"""The model's invariants: raggedness, permutation, padding, precision, BatchNorm."""

import copy
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from stmtrain.model import STM, read_memory, set_batchnorm
from tests.model_inputs import owner_of, predict, random
from tests.profiles import examples


@pytest.fixture(scope="module")
def model() -> STM:
    torch.manual_seed(0)
    return STM("resnet18").eval()


def test_each_clip_of_a_ragged_batch_is_as_if_alone(model: STM) -> None:
    counts = [2, 0, 3, 1]
    owner = owner_of(counts)
    frames, masks = random(4, 2, 3, 40, 56), random(6, 40, 56, seed=1)
    with torch.no_grad():
        together = predict(model, frames, masks, owner)
        assert together.shape == (4, 4, 40, 56)
        for b, count in enumerate(counts):
            own = masks[owner == b]
            alone = predict(model, frames[b : b + 1], own, torch.zeros(count, dtype=torch.int64))
            torch.testing.assert_close(together[b, : 1 + count], alone[0], rtol=1e-4, atol=1e-4)
            unused = torch.full_like(together[b, 1 + count :], 1e-7)
            torch.testing.assert_close(together[b, 1 + count :].sigmoid(), unused)


def test_permuting_objects_permutes_the_outputs(model: STM) -> None:
    frames, masks = random(1, 2, 3, 32, 48), random(3, 32, 48, seed=1)
    owner, order = owner_of([3]), [2, 0, 1]
    with torch.no_grad():
        logits = predict(model, frames, masks, owner)
        permuted = predict(model, frames, masks[order], owner)
    torch.testing.assert_close(permuted[0, 1:], logits[0, 1:][order], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(permuted[0, 0], logits[0, 0], rtol=1e-4, atol=1e-4)


def test_the_other_objects_of_a_clip_matter_and_other_clips_do_not(model: STM) -> None:
    frames, masks = random(1, 3, 32, 32).repeat(2, 1, 1, 1), random(2, 32, 32, seed=1)
    with torch.no_grad():
        same_clip = model.memorize(frames, masks, torch.tensor([0, 0]))[0]
        two_clips = model.memorize(frames, masks, torch.tensor([0, 1]))[0]
        alone = model.memorize(frames[:1], masks[:1], torch.tensor([0]))[0]
    torch.testing.assert_close(two_clips[:1], alone, rtol=1e-4, atol=1e-4)
    assert float((same_clip[0] - alone[0]).abs().max()) > 1e-2


@pytest.mark.parametrize("name", ["resnet18", "resnest101"])
@pytest.mark.parametrize("mode", ["frozen", "train"])
def test_a_batch_without_objects_is_certain_background_and_trains_nothing(
    mode: Literal["frozen", "train"], name: str
) -> None:
    model = STM(name)
    set_batchnorm(model, mode)
    model.train()
    frames, nobody = random(2, 2, 3, 32, 40), torch.zeros(0, dtype=torch.int64)
    logits = predict(model, frames, torch.zeros(0, 32, 40), nobody)
    assert logits.shape == (2, 1, 32, 40)
    F.cross_entropy(logits, torch.zeros(2, 32, 40, dtype=torch.int64)).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
    assert all(b.isfinite().all() for b in model.buffers())


@given(height=st.integers(1, 50), width=st.integers(1, 50))
@examples(8)
def test_padding_is_black_before_normalisation_and_split(
    model: STM, height: int, width: int
) -> None:
    frames, masks = random(1, 2, 3, height, width), random(2, height, width, seed=1)
    down, right = -height % 16, -width % 16
    margins = (right // 2, right - right // 2, down // 2, down - down // 2)
    owner = owner_of([2])
    with torch.no_grad():
        key, value = model.memorize(frames[:, 0], masks, owner)
        assert key.shape[2:] == ((height + 15) // 16, (width + 15) // 16)
        logits = model.segment(frames[:, 1], key.unsqueeze(2), value.unsqueeze(2), owner)
        padded = F.pad(frames, margins)
        key, value = model.memorize(padded[:, 0], F.pad(masks, margins), owner)
        expected = model.segment(padded[:, 1], key.unsqueeze(2), value.unsqueeze(2), owner)
    top, left = margins[2], margins[0]
    assert torch.equal(logits, expected[..., top : top + height, left : left + width])


def test_segment_is_encode_read_decode(model: STM) -> None:
    frames, owner = random(2, 3, 32, 32), owner_of([1, 2])
    with torch.no_grad():
        key, value = model.memorize(frames, random(3, 32, 32), owner)
        keys, values = key.unsqueeze(2), value.unsqueeze(2)
        query = model.encode_query(frames)
        read = read_memory(query.key[owner], keys, values)
        logits = model.decode(query, read, owner)
        assert torch.equal(model.segment(frames, keys, values, owner), logits)


def test_gradient_reaches_every_parameter_and_the_given_mask() -> None:
    model = STM("resnet18").train()
    masks = random(2, 32, 32).requires_grad_()
    logits = predict(model, random(1, 2, 3, 32, 32), masks, owner_of([2]))
    F.cross_entropy(logits, torch.ones(1, 32, 32, dtype=torch.int64)).backward()
    assert masks.grad is not None
    assert masks.grad.any()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert set(without) <= {"KV_M_r4.Key.bias"}  # a shift of all keys changes no softmax


def test_autocast_gives_float32_logits_near_the_exact_ones(model: STM) -> None:
    frames, masks = random(1, 2, 3, 48, 48), random(2, 48, 48, seed=1).round()
    with torch.no_grad():
        exact = predict(model, frames, masks, owner_of([2]))
        with torch.autocast("cpu", torch.bfloat16):
            logits = predict(model, frames, masks, owner_of([2]))
    assert logits.dtype == torch.float32
    assert float((logits.softmax(1) - exact.softmax(1)).abs().mean()) < 0.02


def test_a_pooled_backbone_trains_on_one_object_of_one_clip() -> None:
    model = STM("resnest101")
    set_batchnorm(model, "train")
    logits = predict(model.train(), random(1, 2, 3, 32, 48), random(1, 32, 48), owner_of([1]))
    F.cross_entropy(logits, torch.ones(1, 32, 48, dtype=torch.int64)).backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without <= {"KV_M_r4.Key.bias", "Encoder_M.conv1_o.weight"}  # there is no other object
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_wrong_names_are_refused() -> None:
    known = "resnet50, resnet18, resnest101"
    with pytest.raises(ValueError, match=f"expected a backbone of {known}, found 'vgg'"):
        STM("vgg")
    with pytest.raises(ValueError, match="'frozen' or 'train', found 'eval'"):
        set_batchnorm(torch.nn.Linear(1, 1), "eval")  # type: ignore[arg-type]


@pytest.mark.gpu
def test_gpu_agrees_with_the_cpu_and_takes_an_owner_on_either(model: STM) -> None:
    frames, masks = random(2, 2, 3, 48, 64), random(3, 48, 64, seed=1)
    owner = owner_of([2, 1])
    on_gpu = copy.deepcopy(model).cuda()
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        expected = predict(model, frames, masks, owner)
        for device in ("cpu", "cuda"):
            ours = predict(on_gpu, frames.cuda(), masks.cuda(), owner.to(device))
            torch.testing.assert_close(ours.cpu(), expected, rtol=1e-3, atol=1e-3)
