"""Which sample stands at which place of training: a pure function of the step.

``Plan`` maps (step, rank, world) to tickets. Nothing is stored while training runs: to resume is to
ask for a later step, and a change of world size changes who reads a sample, never which global
batch it belongs to. No torch, no file access.

Randomness policy. Every random choice comes from a seed sequence of plain numbers, so that it can
be made again anywhere, in any order: ``[seed, source, epoch, index]`` for what is drawn inside a
sample (:meth:`Plan.rng`), ``[seed, source, epoch, window, 1]`` for the order of an epoch and
``[seed, block, 0, 0, 2]`` for the mixing of sources. Orders are made from the raw bits of PCG64, a
stream that NumPy keeps the same across its releases.
"""

import math
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import UsageError

__all__ = ["MIX_BLOCK", "Plan", "Ticket"]

MIX_BLOCK = 1024
"""Positions over which the sources' shares are exact (to within one sample per source)."""

_ORDER, _MIX = 1, 2


@dataclass(frozen=True)
class Ticket:
    """One sample's place in training.

    Attributes:
        position: Place in the endless stream of samples, from 0; ``step * global_batch + ...``.
        source: Position of the shard set among the plan's sources.
        epoch: Passes over this source finished before this one.
        index: Sample of the source, in ``[0, samples)``.
    """

    position: int
    source: int
    epoch: int
    index: int


@dataclass(frozen=True)
class Plan:
    """The endless, elastic, resumable order of training samples.

    Sources are mixed by weight in blocks of ``MIX_BLOCK`` positions. A block holds each source's
    exact quota, shuffled, so the number of samples that a source gave before any block is a formula
    and any step is reached at once. Epochs of a source follow each other without a gap: none of its
    samples is dropped or repeated, whatever the batch size.

    In an epoch the shards are shuffled, then the samples within windows of ``window`` samples of
    that sequence, the first window being cut at a random place. Bias: a sample stays within one
    window of its shard's place, so samples of one shard stay near each other unless the window
    spans many shards, and with a single shard a window much smaller than it keeps the order of the
    files. Cost: 4 bytes per sample of a window and one sort of it, plus one of the shards
    (full shuffle of 10^6 samples: about 0.1 s and 4 MB per epoch; a window of 16384: 2 ms).

    Attributes:
        shard_sizes: Per source, the number of samples in each shard.
        weights: Per source, its share of the stream in any unit, > 0.
        seed: Of everything random in the stream, >= 0.
        global_batch: Samples per step over all ranks.
        window: Samples that are shuffled together; None shuffles the whole epoch.

    Raises:
        UsageError: No source, an empty source, or a number out of range.

    Example:
        >>> plan = Plan(((4, 4), (2,)), weights=(3.0, 1.0), seed=0, global_batch=4)
        >>> halves = [plan.batch(7, rank, world=2) for rank in range(2)]
        >>> halves[0] + halves[1] == plan.batch(7)
        True
    """

    shard_sizes: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    seed: int
    global_batch: int
    window: int | None = None

    def __post_init__(self) -> None:
        """Refuse a plan that cannot be followed."""
        if not self.shard_sizes or len(self.shard_sizes) != len(self.weights):
            raise UsageError(
                f"plan: expected one weight for each of {len(self.shard_sizes)} sources (at least "
                f"one), found {len(self.weights)}; give --shards DIR=WEIGHT for each"
            )
        for source, (sizes, weight) in enumerate(zip(self.shard_sizes, self.weights, strict=True)):
            if sum(sizes) < 1 or min(sizes) < 0:
                raise UsageError(
                    f"plan: source {source} has no samples; pack it again or leave it out"
                )
            if not (math.isfinite(weight) and weight > 0):
                raise UsageError(
                    f"plan: weight of source {source} is {weight}, expected more than 0"
                )
        for name, least in (("seed", 0), ("global_batch", 1), ("window", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"plan: {name} is {value}, expected at least {least}")

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the fields alone: caches are rebuilt where the plan arrives."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def batch(self, step: int, rank: int = 0, world: int = 1) -> list[Ticket]:
        """Return the tickets of one rank in one step, in the order of the global batch.

        Rank r of W takes positions ``[step*G + r*G/W, step*G + (r+1)*G/W)`` of the stream.

        Raises:
            UsageError: ``world`` does not divide the global batch, or ``step`` or ``rank`` is out
                of range.
        """
        if world < 1 or self.global_batch % world:
            raise UsageError(
                f"plan: a global batch of {self.global_batch} cannot be split evenly over {world} "
                f"processes; choose a batch that is a multiple of {world}"
            )
        if not 0 <= rank < world or step < 0:
            raise UsageError(f"plan: rank {rank} of {world}, step {step}: out of range")
        share = self.global_batch // world
        start = step * self.global_batch + rank * share
        return self._tickets(np.arange(start, start + share, dtype=np.int64))

    def ticket(self, position: int) -> Ticket:
        """Return the ticket of one position of the stream: ``batch`` gives the same one there."""
        return self._tickets(np.array([position], np.int64))[0]

    def rng(self, ticket: Ticket) -> np.random.Generator:
        """Return a fresh generator for everything that is drawn inside this ticket's sample."""
        key = [self.seed, ticket.source, ticket.epoch, ticket.index]
        # What default_rng(key) gives, in two thirds of its time: NumPy is slow with Python's ints.
        words = np.array(key, np.uint32) if max(key) < 1 << 32 else key
        return np.random.Generator(np.random.PCG64(words))

    def _tickets(self, positions: NDArray[np.int64]) -> list[Ticket]:
        tickets = []
        for position in positions.tolist():
            block, inside = divmod(position, MIX_BLOCK)
            sources, counts = self._block(block)
            source = int(sources[inside])
            epoch, place = divmod(int(counts[inside]), self._samples[source])
            index = self._orders[source].index(epoch, place)
            tickets.append(Ticket(position, source, epoch, index))
        return tickets

    def _quotas(self, position: int) -> list[int]:
        """Split the first ``position`` places by weight: exact integers, never decreasing.

        Each source takes its share, rounded down, of what the sources before it left. That differs
        from the exact share by less than the number of sources, and, unlike rounding every share on
        its own, no count ever shrinks as ``position`` grows.
        """
        rest, quotas = position, []
        for share in self._shares:
            quotas.append(rest * share.numerator // share.denominator)
            rest -= quotas[-1]
        return quotas

    @cached_property
    def _samples(self) -> tuple[int, ...]:
        return tuple(sum(sizes) for sizes in self.shard_sizes)

    @cached_property
    def _shares(self) -> tuple[Fraction, ...]:
        """Each source's share of what the sources before it leave; the last takes all of it."""
        weights = [Fraction(w) for w in self.weights]
        return tuple(w / sum(weights[s:]) for s, w in enumerate(weights))

    @cached_property
    def _orders(self) -> tuple["_Order", ...]:
        return tuple(
            _Order(np.asarray(sizes, np.int64), self.seed, source, self.window)
            for source, sizes in enumerate(self.shard_sizes)
        )

    @cached_property
    def _block(self) -> Any:
        """``block -> (source of each place, running number of that source's sample)``."""

        @lru_cache(maxsize=8)
        def block(number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            before = self._quotas(number * MIX_BLOCK)
            after = self._quotas((number + 1) * MIX_BLOCK)
            per_source = [np.arange(b, a) for b, a in zip(before, after, strict=True)]
            sources = np.repeat(np.arange(len(per_source)), [len(c) for c in per_source])
            order = _permutation([self.seed, number, 0, 0, _MIX], MIX_BLOCK)
            mixed, counts = sources[order], np.empty(MIX_BLOCK, np.int64)
            for source, running in enumerate(per_source):
                counts[mixed == source] = running
            return mixed, counts

        return block


class _Order:
    """The epochs of one source; the only state is a cache of the windows in use."""

    def __init__(
        self, sizes: NDArray[np.int64], seed: int, source: int, window: int | None
    ) -> None:
        self._sizes, self._seed, self._source = sizes, seed, source
        self._samples = int(sizes.sum())
        self._window = min(window or self._samples, self._samples)
        self._first_of_shard = np.cumsum(sizes) - sizes
        self._shards = lru_cache(maxsize=2)(self._shuffle_shards)
        self._indices = lru_cache(maxsize=2)(self._shuffle_window)

    def index(self, epoch: int, place: int) -> int:
        """Return the sample at ``place`` of the epoch."""
        number, inside = divmod(place + self._phase(epoch), self._window)
        if number == 0:
            inside = place
        return int(self._indices(epoch, number)[inside])

    def _phase(self, epoch: int) -> int:
        """How much of the first window is cut off, so that windows differ between epochs."""
        if self._window == self._samples:
            return 0
        return int(self._shards(epoch)[2])

    def _shuffle_shards(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        key = [self._seed, self._source, epoch, 0, _ORDER]
        order = _permutation(key, len(self._sizes))
        phase = int(np.random.PCG64(np.random.SeedSequence(key).spawn(1)[0]).random_raw())
        return order, np.cumsum(self._sizes[order]), phase % self._window

    def _shuffle_window(self, epoch: int, number: int) -> NDArray[np.uint32]:
        phase = self._phase(epoch)
        start = max(0, number * self._window - phase)
        stop = min(self._samples, (number + 1) * self._window - phase)
        key = [self._seed, self._source, epoch, 1 + number, _ORDER]
        places = start + _permutation(key, stop - start)
        if self._window == self._samples:  # a full shuffle needs no order of shards
            return places.astype(np.uint32)
        order, ends, _ = self._shards(epoch)
        which = np.searchsorted(ends, places, side="right")
        shard = order[which]
        inside = places - (ends[which] - self._sizes[shard])
        return (self._first_of_shard[shard] + inside).astype(np.uint32)


def _permutation(key: list[int], size: int) -> NDArray[np.int64]:
    """Return a uniform permutation of ``range(size)``, the same in every NumPy release."""
    bits = np.random.PCG64(np.random.SeedSequence(key)).random_raw(size)
    return np.argsort(bits, kind="stable")
