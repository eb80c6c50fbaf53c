"""Objects of several clips in one dimension: slots, other masks, and aggregation."""

import doctest

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from stmtrain.model import aggregate, objects, per_object
from stmtrain.model import slots as slots_of
from stmtrain.model import stm as stm_module
from stmtrain.model.objects import on_device, other_masks, spread
from stmtrain.model.precision import autocast
from tests.model_inputs import owner_of, random

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


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.booleans())
def test_per_object_is_an_index_with_its_gradient_and_layout(counts: list[int], last: bool) -> None:
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    layout = torch.channels_last if last else torch.contiguous_format
    values = torch.rand(len(counts), 3, 4, 5).contiguous(memory_format=layout).requires_grad_()
    copies = per_object(values, owner)
    assert torch.equal(copies, values[owner])
    if len(counts) > 1 and max(counts) > 0:
        assert copies.is_contiguous(memory_format=layout)
    weight = torch.rand(copies.shape)
    ours, expected = (
        torch.autograd.grad((each * weight).sum(), values)[0] for each in (copies, values[owner])
    )
    torch.testing.assert_close(ours, expected)


def test_other_masks_are_not_rounded_under_autocast() -> None:
    masks, owner = torch.rand(3, 4, 5) / 3, torch.zeros(3, dtype=torch.int64)
    with autocast(torch.device("cpu"), "bfloat16"):
        others = other_masks(masks, owner)
    torch.testing.assert_close(others[0], masks[1] + masks[2])


@pytest.mark.gpu
def test_gpu_index_arrives_whole_although_nobody_waits() -> None:
    index = torch.arange(1000)
    assert torch.equal(on_device(index, torch.device("cuda")).cpu(), index)
