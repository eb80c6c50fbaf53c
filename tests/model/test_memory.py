"""The memory read: attention over all positions, in any order, in pieces, in any precision."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stmtrain.model import memory, read_memory
from stmtrain.model.memory import _read_fused
from tests.profiles import examples


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


def shaped_memories(keys: int, values: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query key, keys and values of 3 objects, 5 memory frames of 4 by 6."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((keys, 4, 6), (keys, 5, 4, 6), (values, 5, 4, 6))
    return [torch.randn(3, *s, generator=generator).to(dtype).requires_grad_() for s in shapes]


@pytest.mark.parametrize(("keys", "values"), [(8, 32), (16, 16)])
def test_the_read_in_heads_is_the_read(keys: int, values: int) -> None:
    inputs = shaped_memories(keys, values)
    expected, ours = read_memory(*inputs), _read_fused(*inputs)
    torch.testing.assert_close(ours, expected)
    weight = torch.rand(expected.shape)
    for mine, theirs in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("top_k", "fused"), [(None, True), (1000, False)])
def test_only_a_full_read_is_fused(
    monkeypatch: pytest.MonkeyPatch, top_k: int | None, fused: bool
) -> None:
    reads = []
    monkeypatch.setattr(memory, "_fusable", lambda *_tensors: True)
    monkeypatch.setattr(memory, "_read_fused", lambda *x: reads.append(x) or _read_fused(*x))
    read_memory(*shaped_memories(8, 32), top_k)
    assert len(reads) == fused


@pytest.mark.gpu
@pytest.mark.parametrize(("keys", "values"), [(32, 128), (128, 512)])
def test_gpu_fused_read_rounds_no_more_than_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, keys: int, values: int
) -> None:
    inputs = [
        x.detach().cuda().requires_grad_() for x in shaped_memories(keys, values, torch.bfloat16)
    ]
    exact = [x.detach().float().requires_grad_() for x in inputs]
    expected = read_memory(*exact)
    ours = read_memory(*inputs)
    monkeypatch.setattr(memory, "_fusable", lambda *_tensors: False)
    plain = read_memory(*inputs)
    errors = [float((read.float() - expected).abs().max()) for read in (ours, plain)]
    assert errors[0] <= 2 * errors[1]
    weight = torch.rand_like(expected)
    true = torch.autograd.grad((expected * weight).sum(), exact)
    for read in (ours, plain):
        for mine, theirs in zip(
            torch.autograd.grad((read.float() * weight).sum(), inputs), true, strict=True
        ):
            assert float((mine.float() - theirs).norm() / theirs.norm()) < 0.02


def _brute_force(query: Tensor, keys: Tensor, values: Tensor, top_k: int) -> NDArray[np.float64]:
    """Every query position by itself: sort, keep ``top_k``, softmax, sum."""
    q, k, v = (x.flatten(2).double().numpy() for x in (query, keys, values))
    out = np.empty((2, 6, 12))
    for n in range(2):
        for position in range(12):
            similarity = q[n, :, position] @ k[n] / np.sqrt(8)
            best = np.argsort(similarity)[-top_k:]
            weights = np.exp(similarity[best] - similarity.max())
            out[n, :, position] = v[n][:, best] @ weights / weights.sum()
    return out.reshape(2, 6, 3, 4)


@example(top_k=59, seed=0)
@given(top_k=st.integers(1, 59), seed=st.integers(0, 99))
@examples(30)
def test_top_k_reads_the_k_most_similar_positions(top_k: int, seed: int) -> None:
    query, keys, values = memories(seed)
    read = read_memory(query, keys, values, top_k).double().numpy()
    np.testing.assert_allclose(read, _brute_force(query, keys, values, top_k), atol=1e-4)


@pytest.mark.parametrize("top_k", [60, 61, 10**9])
def test_top_k_of_all_positions_is_exactly_the_full_read(top_k: int) -> None:
    query, keys, values = memories(0)
    assert torch.equal(read_memory(query, keys, values, top_k), read_memory(query, keys, values))


def test_top_k_does_not_depend_on_the_order_of_frames_even_where_they_tie() -> None:
    query, keys, values = memories(0)
    keys = keys[:, :, [0, 1, 0, 1, 0]]  # a still video: the same key again and again
    order = [3, 1, 4, 0, 2]
    torch.testing.assert_close(
        read_memory(query, keys[:, :, order], values[:, :, order], 2),
        read_memory(query, keys, values, 2),
    )


@pytest.mark.parametrize("top_k", [None, 7])
def test_the_layout_of_memory_changes_nothing(top_k: int | None) -> None:
    query, keys, values = memories(0)
    last_keys, last_values = (
        x.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3) for x in (keys, values)
    )
    torch.testing.assert_close(
        read_memory(query, last_keys, last_values, top_k), read_memory(query, keys, values, top_k)
    )


@pytest.mark.parametrize("most", [1, 500, 10_000])
def test_few_weights_are_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    pieces, attend = [], memory._attend

    def spy(query: Tensor, *others: Any) -> Tensor:
        pieces.append(query.shape[2])
        return attend(query, *others)

    monkeypatch.setattr(memory, "_attend", spy)
    monkeypatch.setattr(memory, "_MAX_WEIGHTS", most)
    read_memory(*memories())  # 2 objects, 60 memory positions, 12 query positions
    assert sum(pieces) == 12
    assert max(pieces) == min(12, max(1, most // 120))
