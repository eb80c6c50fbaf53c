"""The model's invariants: raggedness, permutation, padding, precision, BatchNorm."""

import copy
import doctest
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stmtrain.model import BACKBONES, STM, aggregate, memory, objects, read_memory, set_batchnorm
from stmtrain.model import slots as slots_of
from stmtrain.model import stm as stm_module
from stmtrain.model.decoder import ASPP
from stmtrain.model.encoders import BatchNorm
from stmtrain.model.objects import other_masks, spread
from tests.profiles import examples


@pytest.fixture(scope="module")
def model() -> STM:
    torch.manual_seed(0)
    return STM("resnet18").eval()


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


counts_of_objects = st.lists(st.integers(0, 4), min_size=1, max_size=4)


@pytest.mark.parametrize("module", [objects, stm_module], ids=["objects", "stm"])
def test_docstring_examples(module: object) -> None:
    result = doctest.testmod(module, extraglobs={"torch": torch})  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


@given(counts_of_objects)
def test_slots_number_the_objects_of_each_clip(counts: list[int]) -> None:
    assert slots_of(owner_of(counts)).tolist() == [j + 1 for n in counts for j in range(n)]


@given(counts_of_objects)
def test_spread_places_every_object_once_and_zeros_elsewhere(counts: list[int]) -> None:
    owner, values = owner_of(counts), 1 + random(sum(counts), 2, 3)
    dense = spread(values, owner, len(counts))
    assert dense.shape == (len(counts), max(counts), 2, 3)
    assert torch.equal(dense[owner, slots_of(owner) - 1], values)
    assert torch.count_nonzero(dense) == values.numel()


@given(counts_of_objects)
def test_other_masks_are_the_clamped_sum_of_the_rest_of_the_clip(counts: list[int]) -> None:
    owner, masks = owner_of(counts), random(sum(counts), 3, 2)
    others = other_masks(masks, owner)
    for n in range(len(owner)):
        rest = [m for m in range(len(owner)) if m != n and owner[m] == owner[n]]
        torch.testing.assert_close(others[n], masks[rest].sum(0).clamp(0, 1))


@given(st.floats(0.001, 0.999))
def test_aggregate_of_one_object_has_its_closed_form(p: float) -> None:
    q = aggregate(torch.full((1, 1, 1, 1), p)).softmax(1)[0, 1, 0, 0]
    assert float(q) == pytest.approx(p**2 / (p**2 + (1 - p) ** 2), abs=1e-5)


def test_aggregate_permutes_with_the_objects_and_ignores_unused_slots() -> None:
    prob = random(2, 3, 4, 5)
    logits = aggregate(prob)
    torch.testing.assert_close(aggregate(prob[:, [2, 0, 1]]), logits[:, [0, 3, 1, 2]])
    more = aggregate(F.pad(prob, (0, 0, 0, 0, 0, 2)))
    torch.testing.assert_close(more[:, :4], logits)
    torch.testing.assert_close(more[:, 4:].sigmoid(), torch.full((2, 2, 4, 5), 1e-7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_aggregate_is_finite_for_certain_objects_in_every_precision(dtype: torch.dtype) -> None:
    prob = torch.tensor([0.0, 1.0], dtype=dtype).reshape(1, 2, 1, 1)
    logits = aggregate(prob)
    assert logits.isfinite().all()
    assert logits.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert logits.argmax(1).item() == 2


def memories(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A query key (2,8,3,4), keys (2,8,5,3,4) and values (2,6,5,3,4)."""
    g = torch.Generator().manual_seed(seed)
    return tuple(
        3 * torch.randn(2, *shape, generator=g) for shape in ((8, 3, 4), (8, 5, 3, 4), (6, 5, 3, 4))
    )


def test_read_is_attention_over_all_memory_positions() -> None:
    query, keys, values = memories()
    q, k, v = (x.flatten(2).transpose(1, 2) for x in (query, keys, values))
    expected = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 6, 3, 4)
    torch.testing.assert_close(read_memory(query, keys, values), expected)


def test_read_of_constant_values_is_that_constant_and_order_does_not_matter() -> None:
    query, keys, values = memories()
    constant = torch.arange(6.0).reshape(1, 6, 1, 1, 1).expand_as(values)
    torch.testing.assert_close(read_memory(query, keys, constant), constant[:, :, 0])
    order = [3, 1, 4, 0, 2]
    torch.testing.assert_close(
        read_memory(query, keys[:, :, order], values[:, :, order]),
        read_memory(query, keys, values),
    )


@pytest.mark.parametrize("most", [1, 500, 1 << 26])
def test_read_in_pieces_equals_the_whole(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    whole = read_memory(*memories())
    monkeypatch.setattr(memory, "_MAX_WEIGHTS", most)
    torch.testing.assert_close(read_memory(*memories()), whole)


def test_read_weights_are_float32_under_autocast() -> None:
    query, keys, values = (x.bfloat16() for x in memories())
    exact = read_memory(query.float(), keys.float(), values.float())
    with torch.autocast("cpu", torch.bfloat16):
        read = read_memory(query, keys, values)
    assert read.dtype == torch.bfloat16
    # One rounding of the weights and one of the sum: 2^-8 of the largest value, not of the logits.
    assert float((read.float() - exact).abs().max()) < 2**-7 * float(values.abs().max())


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


def test_a_pooled_backbone_trains_on_one_object_of_one_clip() -> None:
    model = STM("resnest101")
    set_batchnorm(model, "train")
    logits = predict(model.train(), random(1, 2, 3, 32, 48), random(1, 32, 48), owner_of([1]))
    F.cross_entropy(logits, torch.ones(1, 32, 48, dtype=torch.int64)).backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without <= {"KV_M_r4.Key.bias", "Encoder_M.conv1_o.weight"}  # there is no other object
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_readout_is_dropped_out_in_training_only() -> None:
    aspp, readout = ASPP(8), random(1, 8, 4, 4)
    torch.manual_seed(0)
    assert not torch.equal(aspp(readout), aspp(readout))
    aspp.eval()
    assert torch.equal(aspp(readout), aspp(readout))


def test_wrong_names_are_refused() -> None:
    known = "resnet50, resnet18, resnest101"
    with pytest.raises(ValueError, match=f"expected a backbone of {known}, found 'vgg'"):
        STM("vgg")
    with pytest.raises(ValueError, match="'frozen' or 'train', found 'eval'"):
        set_batchnorm(torch.nn.Linear(1, 1), "eval")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(BACKBONES))
def test_channels_follow_the_backbone(name: str) -> None:
    backbone, model = BACKBONES[name], STM(name).eval()
    with torch.no_grad():
        features = model.Encoder_Q(random(1, 3, 32, 32))
        key, value = model.memorize(random(1, 3, 32, 32), random(1, 32, 32), owner_of([1]))
    assert tuple(f.shape[1] for f in features) == backbone.channels
    assert [f.shape[-1] for f in features] == [8, 4, 2]
    assert (key.shape[1], value.shape[1]) == (backbone.key_channels, backbone.value_channels)


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
