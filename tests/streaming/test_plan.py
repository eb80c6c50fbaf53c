"""The plan is a pure function: slices partition epochs, nothing depends on the world size."""

import doctest
import itertools
import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.errors import UsageError
from stmtrain.streaming import plan as plan_module
from stmtrain.streaming.plan import MIX_BLOCK, Plan, Ticket
from tests.profiles import examples

sizes = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(sum).map(tuple)
windows = st.none() | st.integers(1, 30)


@st.composite
def plans(draw, max_sets=3):
    shard_sizes = tuple(draw(st.lists(sizes, min_size=1, max_size=max_sets)))
    weights = tuple(
        draw(st.floats(0.01, 100, allow_nan=False, allow_infinity=False)) for _ in shard_sizes
    )
    return Plan(
        shard_sizes,
        weights,
        draw(st.integers(0, 2**70)),
        8 * draw(st.integers(1, 5)),
        draw(windows),
    )


def stream(plan, steps, start=0):
    return list(itertools.chain.from_iterable(plan.batch(s) for s in range(start, start + steps)))


@given(plans())
@examples(60)
def test_every_sample_exactly_once_per_epoch_of_its_shard_set(plan):
    tickets = stream(plan, 60)
    assert [t.position for t in tickets] == list(range(len(tickets)))
    for number, shard_sizes in enumerate(plan.shard_sizes):
        seen = [t for t in tickets if t.shard_set == number]
        for place, ticket in enumerate(seen):  # epochs follow each other without a gap
            assert ticket.epoch == place // sum(shard_sizes)
        for epoch in range(len(seen) // sum(shard_sizes)):
            indices = sorted(t.index for t in seen if t.epoch == epoch)
            assert indices == list(range(sum(shard_sizes)))


@given(plans(), st.integers(0, 10**6))
@examples(30)
def test_a_single_ticket_is_the_batch_s(plan, step):
    for ticket in plan.batch(step):
        assert plan.ticket(ticket.position) == ticket


@given(plans(), st.integers(0, 10**9))
@examples(60)
def test_world_size_changes_no_global_batch(plan, step):
    whole = plan.batch(step)
    for world in (2, 4, 8):
        parts = [plan.batch(step, rank, world) for rank in range(world)]
        assert len({len(part) for part in parts}) == 1
        assert list(itertools.chain.from_iterable(parts)) == whole


@given(plans(max_sets=2), st.data())
@examples(40)
def test_slices_of_changing_worlds_partition_the_epochs(plan, data):
    """Seeds, ranks and steps: a run whose world changes at will sees every sample once an epoch."""
    tickets = []
    for step in range(40):
        world = data.draw(st.sampled_from([1, 2, 4, 8]))
        tickets += [t for rank in range(world) for t in plan.batch(step, rank, world)]
    assert [t.position for t in tickets] == list(range(40 * plan.global_batch))
    for number, shard_sizes in enumerate(plan.shard_sizes):
        places = Counter((t.epoch, t.index) for t in tickets if t.shard_set == number)
        assert all(count == 1 for count in places.values())
        whole = max((epoch for epoch, _ in places), default=0)
        assert sum(epoch < whole for epoch, _ in places) == whole * sum(shard_sizes)


@given(plans(), st.integers(0, 50))
@examples(60)
def test_resume_sees_exactly_the_rest(plan, stop):
    fresh = replace(plan)
    assert fresh == plan
    assert stream(fresh, 5, start=stop) == stream(plan, stop + 5)[stop * plan.global_batch :]


@given(plans(max_sets=4), st.integers(0, 10**9))
@examples(40)
def test_mixing_is_exact_to_within_the_number_of_shard_sets(plan, block):
    """The epoch of a shard set with one sample is the number of samples that it gave before."""
    shares = Plan(((1,),) * len(plan.weights), plan.weights, plan.seed, MIX_BLOCK)
    first, last = {}, {}
    for ticket in shares.batch(block):
        first.setdefault(ticket.shard_set, ticket.epoch)
        last[ticket.shard_set] = ticket.epoch + 1
    start, total = block * MIX_BLOCK, sum(Fraction(weight) for weight in plan.weights)
    for counts, position in ((first, start), (last, start + MIX_BLOCK)):
        for number, count in counts.items():
            exact = position * Fraction(plan.weights[number]) / total
            assert abs(count - exact) <= len(plan.weights)


def test_a_rare_shard_set_is_neither_lost_nor_doubled():
    """Shares so small that rounding each on its own would take samples back again."""
    plan = Plan(((1,), (10**6,), (1,)), (1e-4, 1.0, 3e-4), 0, MIX_BLOCK)
    tickets = stream(plan, 200)
    for rare in (0, 2):  # gives its only sample in epoch 0, 1, 2, ...
        epochs = [ticket.epoch for ticket in tickets if ticket.shard_set == rare]
        assert epochs == list(range(len(epochs)))
    assert sum(ticket.shard_set == 0 for ticket in tickets) in range(18, 23)
    common = [ticket.index for ticket in tickets if ticket.shard_set == 1]
    assert len(set(common)) == len(common)


@pytest.mark.parametrize("window", [None, 10, 64])
def test_epochs_and_seeds_differ(window):
    plan = Plan(((16,) * 8,), (1.0,), 0, 128, window)
    epochs = [[t.index for t in plan.batch(e)] for e in range(4)]
    epochs += [[t.index for t in Plan(((16,) * 8,), (1.0,), 1, 128, window).batch(0)]]
    assert len({tuple(e) for e in epochs}) == 5
    assert all(sorted(e) == list(range(128)) for e in epochs)


def test_a_window_bounds_how_many_shards_are_open():
    """The purpose of a window: neighbours in the stream come from few shards."""
    plan = Plan(((16,) * 64,), (1.0,), 3, 32, window=32)
    for step in range(32):
        shards = {t.index // 16 for t in plan.batch(step)}
        assert len(shards) <= 5  # two windows of 32, each cutting at most 3 shards, one shared
    full = Plan(((16,) * 64,), (1.0,), 3, 32)
    assert max(len({t.index // 16 for t in full.batch(s)}) for s in range(32)) > 15


def test_the_shuffle_is_not_biased_to_a_place():
    """Each sample stands at each place of an epoch about equally often."""
    plan = Plan(((4, 4),), (1.0,), 0, 8)
    counts = Counter((i, t.index) for e in range(2000) for i, t in enumerate(plan.batch(e)))
    assert len(counts) == 64
    assert all(170 < n < 340 for n in counts.values())  # 250 expected, 6 standard deviations


def test_golden_order():
    """The order is part of a run's identity: a change here breaks resuming of old runs."""
    plan = Plan(((3, 2), (4,)), (2.0, 1.0), seed=7, global_batch=12, window=3)
    assert [(t.shard_set, t.epoch, t.index) for t in plan.batch(0)] == GOLDEN
    assert plan.rng(plan.batch(0)[0]).bit_generator.random_raw() == GOLDEN_BITS


def test_rng_depends_on_the_sample_and_epoch_only():
    plan = Plan(((4,), (4,)), (1.0, 1.0), 0, 8)
    draws = [plan.rng(t).integers(2**62) for t in stream(plan, 50)]
    assert len(set(draws)) == len(draws)
    other_batch = Plan(((4,), (4,)), (1.0, 1.0), 0, 2)
    assert [other_batch.rng(t).integers(2**62) for t in stream(other_batch, 200)] == draws


@given(st.integers(0, 2**70), st.integers(0, 3), st.integers(0, 2**33), st.integers(0, 2**33))
def test_the_rng_is_the_default_one_of_its_key(seed, number, epoch, index):
    plan = Plan(((4,),), (1.0,), seed, 1)
    expected = np.random.default_rng([seed, number, epoch, index])
    found = plan.rng(Ticket(0, number, epoch, index))
    assert found.bit_generator.state == expected.bit_generator.state


def test_the_examples_are_true():
    result = doctest.testmod(plan_module)
    assert result.attempted
    assert not result.failed


def test_a_million_samples_cost_little():
    plan = Plan(((250,) * 4000,), (1.0,), 0, 64, window=16384)
    start = time.process_time()  # other work on the machine does not count
    for step in (0, 10**7, 12345):
        assert len({t.index for t in plan.batch(step)}) == 64
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), (), 0, 4), "at least one"),
        ((((3,),), (1.0, 2.0), 0, 4), "a weight for each of 1 shard sets"),
        ((((0,),), (1.0,), 0, 4), "shard set 0 has no samples"),
        ((((3,),), (0.0,), 0, 4), "weight of shard set 0 is 0.0"),
        ((((3,),), (float("nan"),), 0, 4), "weight of shard set 0 is nan"),
        ((((3,),), (1.0,), -1, 4), "seed is -1"),
        ((((3,),), (1.0,), 0, 0), "global_batch is 0"),
        ((((3,),), (1.0,), 0, 4, 0), "window is 0"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Plan(*arguments)


@pytest.mark.parametrize(("step", "rank", "world"), [(0, 0, 3), (0, 2, 2), (-1, 0, 1), (0, 0, 0)])
def test_a_slice_that_does_not_exist_is_refused(step, rank, world):
    with pytest.raises(UsageError, match="plan: "):
        Plan(((3,),), (1.0,), 0, 4).batch(step, rank, world)


GOLDEN = [
    (0, 0, 3),
    (1, 0, 0),
    (0, 0, 0),
    (0, 0, 4),
    (0, 0, 2),
    (0, 0, 1),
    (0, 1, 0),
    (0, 1, 1),
    (1, 0, 3),
    (1, 0, 2),
    (0, 1, 3),
    (1, 0, 1),
]
GOLDEN_BITS = 10869250789734106812
