"""The memory of a video: which frames stay, that it never grows past its limit, and reading it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stmtrain.inference import memory_bank
from stmtrain.inference.memory_bank import History, MemoryBank
from stmtrain.model import read_memory


def _frame(t: int, objects: int = 2) -> tuple[Tensor, Tensor]:
    """Keys (n,4,2,3) and values (n,6,2,3) that say which frame and object they are of."""
    at = t + torch.arange(objects).reshape(-1, 1, 1, 1) / 8
    return at.expand(-1, 4, 2, 3), at.expand(-1, 6, 2, 3)


def _held(bank: MemoryBank, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The keys (n,Ck,T,h,w) that are read, per group; values are checked to be read in place."""
    seen: list[Tensor] = []
    value_buffers = [group.values.data_ptr() for group in bank._groups]

    def spy(query: Tensor, keys: Tensor, values: Tensor, _top_k: int | None) -> Tensor:
        assert torch.equal(keys[:, :1], values[:, :1])
        assert values.flatten(2).data_ptr() == values.data_ptr() in value_buffers
        seen.append(keys)
        return query

    with monkeypatch.context() as patch:
        patch.setattr(memory_bank, "read_memory", spy)
        bank.read(torch.zeros(1, 4, 2, 3))
    return seen


@pytest.mark.parametrize("every", [1, 3, 5])
@pytest.mark.parametrize("length", [None, 12, 3])
def test_memory_holds_first_every_nth_and_previous(
    every: int, length: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = MemoryBank(every, length=length)
    for t in range(12):
        bank.write(t, *_frame(t))
        expected = {s for s in range(t + 1) if s % every == 0} | {t}
        assert bank.frames == [sorted(expected)]
        (keys,) = _held(bank, monkeypatch)
        assert sorted(keys[0, 0, :, 0, 0].tolist()) == sorted(expected)
        assert sorted(keys[1, 0, :, 1, 1].tolist()) == sorted(s + 1 / 8 for s in expected)


@given(
    every=st.integers(1, 7),
    limit=st.integers(2, 9),
    start=st.integers(0, 20),
    count=st.integers(1, 300),
)
def test_a_bounded_history_keeps_first_and_latest_and_spans_the_rest_evenly(
    every: int, limit: int, start: int, count: int
) -> None:
    bounded, free = History(every, limit), History(every)
    for t in range(start, start + count):
        place = bounded.place(t)
        free.place(t)
        assert bounded.frames[place] == t
        assert bounded.frames[0] == start
        assert len(bounded.frames) <= limit
        assert len(set(bounded.frames)) == len(bounded.frames)
        if len(free.frames) <= limit:
            assert sorted(bounded.frames) == sorted(free.frames)
        else:
            assert len(bounded.frames) == limit
        due = [f for f in bounded.frames if f not in (start, t)]
        assert all(f % every == 0 for f in due)
        if limit > 2:
            gaps = np.diff(sorted(bounded.frames))
            assert gaps.max(initial=0) <= max(every, 2 * (t - start) / (limit - 2))


def test_where_memory_is_full_the_interval_doubles_and_the_oldest_off_it_gives_way() -> None:
    history = History(every=1, limit=5)
    held = []
    for t in range(11):
        history.place(t)
        held.append(sorted(history.frames))
    assert held[4:] == [
        [0, 1, 2, 3, 4],
        [0, 2, 3, 4, 5],
        [0, 2, 3, 4, 6],
        [0, 2, 4, 6, 7],
        [0, 2, 4, 6, 8],
        [0, 4, 6, 8, 9],
        [0, 4, 6, 8, 10],
    ]


@pytest.mark.parametrize(("limit", "length"), [(6, None), (6, 5000), (None, 5000)])
def test_memory_is_flat_over_5000_frames(limit: int | None, length: int | None) -> None:
    bank = MemoryBank(100, limit, length=length)
    bank.write(0, *_frame(0, objects=3))
    (group,) = bank._groups
    size, places = bank.nbytes, (group.keys.data_ptr(), group.values.data_ptr())
    for t in range(1, 5000):
        bank.write(t, *_frame(t, objects=3))
        assert (group.keys.data_ptr(), group.values.data_ptr()) == places
    assert bank.nbytes == size == 3 * (4 + 6) * 2 * 3 * 4 * (limit or 51)
    assert bank.frames[0][0] == 0
    assert bank.frames[0][-1] == 4999


def test_without_limit_or_length_buffers_grow_by_doubling() -> None:
    bank = MemoryBank(1)
    pointers = set()
    for t in range(1000):
        bank.write(t, *_frame(t))
        pointers.add(bank._groups[0].keys.data_ptr())
    assert len(bank.frames[0]) == 1000
    assert len(pointers) <= 1 + math.log2(1024 / 4)
    assert bank.nbytes == 2 * (4 + 6) * 2 * 3 * 4 * 1024


def test_a_frame_count_that_was_too_small_changes_nothing_but_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong, right = MemoryBank(2, length=4), MemoryBank(2, length=40)
    for t in range(40):
        wrong.write(t, *_frame(t))
        right.write(t, *_frame(t))
    for a, b in zip(_held(wrong, monkeypatch), _held(right, monkeypatch), strict=True):
        assert torch.equal(a, b)


def test_objects_that_come_later_have_a_memory_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bank = MemoryBank(5, 4, length=20)
    for t in range(20):
        bank.write(t, *_frame(t, objects=1 if t < 7 else 3))
    assert bank.objects == 3
    assert bank.frames[1][0] == 7  # the only frame where its mask is true stays
    early, late = _held(bank, monkeypatch)
    assert early.shape[:3] == (1, 4, 4)
    assert late.shape[:3] == (2, 4, 4)
    assert set(late[1, 0, :, 0, 0].tolist()) == {t + 2 / 8 for t in bank.frames[1]}
    # Nothing is held for the frames before, nor for slots without an object.
    assert bank.nbytes == 3 * (4 + 6) * 2 * 3 * 4 * 4


def test_reading_looks_at_the_buffers_and_copies_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = MemoryBank(1, 8)
    for t in range(5):
        bank.write(t, *_frame(t))
    (keys,) = _held(bank, monkeypatch)
    assert keys.shape[2] == 5
    assert keys.flatten(2).data_ptr() == keys.data_ptr() == bank._groups[0].keys.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_has_the_precision_of_what_is_written(dtype: torch.dtype) -> None:
    bank = MemoryBank(5, 3)
    key, value = (x.to(dtype) for x in _frame(1))
    bank.write(0, key, value)
    assert bank.nbytes == 2 * (4 + 6) * 2 * 3 * 3 * dtype.itemsize
    assert bank.read(torch.zeros(1, 4, 2, 3, dtype=dtype)).dtype == dtype


def _random(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A query key (2,8,3,4), keys (2,8,5,3,4) and values (2,6,5,3,4)."""
    g = torch.Generator().manual_seed(seed)
    query, keys, values = (
        torch.randn(2, *shape, generator=g) for shape in ((8, 3, 4), (8, 5, 3, 4), (6, 5, 3, 4))
    )
    return 3 * query, keys, values


@pytest.mark.gpu
@pytest.mark.parametrize("limit", [None, 30])
def test_on_a_gpu_half_precision_is_read_without_a_copy_of_the_memory(limit: int | None) -> None:
    bank = MemoryBank(1, limit)
    g = torch.Generator("cuda").manual_seed(0)
    frames = []
    for t in range(30):
        key, value = (
            torch.randn(3, c, 30, 54, device="cuda", dtype=torch.bfloat16, generator=g)
            for c in (128, 512)
        )
        frames.append((key, value))
        bank.write(t, key, value)
    query = torch.randn(1, 128, 30, 54, device="cuda", dtype=torch.bfloat16, generator=g)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    read = bank.read(query)
    assert torch.cuda.max_memory_allocated() - before < bank.nbytes / 4
    keys, values = (torch.stack(x, dim=2).float() for x in zip(*frames, strict=True))
    exact = read_memory(query.float().expand(3, -1, -1, -1), keys, values)
    assert float((read.float() - exact).abs().max()) < 2**-6 * float(values.abs().max())


def test_the_bank_reads_as_many_positions_as_it_was_told() -> None:
    query, keys, values = _random(0)
    bank = MemoryBank(1, top_k=3)
    for t in range(5):
        bank.write(t, keys[:, :, t], values[:, :, t])
    expected = read_memory(query[:1].expand(2, -1, -1, -1), keys, values, 3)
    torch.testing.assert_close(bank.read(query[:1]), expected)
