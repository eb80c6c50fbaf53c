"""The training order: which samples make up each step, as a pure function of the step.

``Plan`` maps (step, rank, world) to tickets. No state is kept while training runs: resuming means
asking for a later step, and a change of the world size changes which rank reads a sample, never the
global batch that the sample belongs to. No torch, no file access.

Randomness. Every random choice comes from a seed sequence of plain numbers, so that it can be
reproduced anywhere and in any order: ``[seed, shard set, epoch, index]`` for what is drawn inside a
sample (:meth:`Plan.rng`), ``[seed, shard set, epoch, window, 1]`` for the order of an epoch and
``[seed, block, 0, 0, 2]`` for the mixing of shard sets. Orders are computed from the raw bits of
PCG64, a stream that NumPy keeps the same across its releases.
"""

import math
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import UsageError

MIX_BLOCK = 1024
"""Number of positions over which the shares are exact, to within one sample per shard set."""

_ORDER, _MIX = 1, 2


@dataclass(frozen=True)
class Ticket:
    """One sample's place in the training order.

    Attributes:
        position: Position in the endless stream of samples: ``step * global_batch`` plus the place
            in the batch, from 0.
        shard_set: Number of the shard set in the plan, from 0.
        epoch: Number of completed passes over this shard set.
        index: Index of the sample in the shard set, in ``[0, samples)``.
    """

    position: int
    shard_set: int
    epoch: int
    index: int


@dataclass(frozen=True)
class Plan:
    """The endless, elastic, resumable order of training samples.

    Shard sets are mixed by weight in blocks of ``MIX_BLOCK`` positions. A block contains the exact
    quota of each set, shuffled. The number of samples that a set contributed before any block is
    therefore a formula, and any step is reached at once. The epochs of a set follow each other
    without a gap: no sample is dropped or repeated, whatever the batch size.

    Within an epoch the shards are shuffled, and then the samples within windows of ``window``
    samples of that sequence; the first window is cut at a random place. Bias: a sample stays within
    one window of its shard's place, so the samples of a shard stay near each other unless the
    window spans many shards, and a window much smaller than the only shard of a set roughly
    preserves the order of the file. Cost: 4 bytes per sample of a window and one sort of it, plus
    one sort of the shards (a full shuffle of 10^6 samples takes about 0.1 s and 4 MB per epoch, a
    window of 16384 takes 2 ms).

    Attributes:
        shard_sizes: For each shard set, the number of samples in each of its shards.
        weights: For each shard set, its share of the stream in any unit, > 0.
        seed: Seed of every random choice in the stream, >= 0.
        global_batch: Samples per step over all ranks.
        window: Number of samples that are shuffled together; None shuffles the complete epoch.

    Raises:
        UsageError: No shard set, an empty one, or a number out of range.

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
        """Raise UsageError for a plan that cannot be followed."""
        if not self.shard_sizes or len(self.shard_sizes) != len(self.weights):
            raise UsageError(
                f"plan: expected a weight for each of {len(self.shard_sizes)} shard sets (at least "
                f"one), found {len(self.weights)}; give --shards DIR=WEIGHT for each"
            )
        for number, (sizes, weight) in enumerate(zip(self.shard_sizes, self.weights, strict=True)):
            if sum(sizes) < 1 or min(sizes) < 0:
                raise UsageError(
                    f"plan: shard set {number} has no samples; pack it again or remove it"
                )
            if not (math.isfinite(weight) and weight > 0):
                raise UsageError(
                    f"plan: weight of shard set {number} is {weight}, expected more than 0"
                )
        for name, least in (("seed", 0), ("global_batch", 1), ("window", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"plan: {name} is {value}, expected at least {least}")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was computed on the way, which another process cannot read."""
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
        """Return the ticket of one position of the stream, the same as in its ``batch``."""
        return self._tickets(np.array([position], np.int64))[0]

    def rng(self, ticket: Ticket) -> np.random.Generator:
        """Return a new generator for everything that is drawn inside this ticket's sample."""
        key = [self.seed, ticket.shard_set, ticket.epoch, ticket.index]
        # Equals default_rng(key) in two thirds of its time: NumPy is slow with Python integers.
        words = np.array(key, np.uint32) if max(key) < 1 << 32 else key
        return np.random.Generator(np.random.PCG64(words))

    def _tickets(self, positions: NDArray[np.int64]) -> list[Ticket]:
        tickets = []
        for position in positions.tolist():
            block, inside = divmod(position, MIX_BLOCK)
            numbers, counts = self._block(block)
            number = int(numbers[inside])
            order = self._orders[number]
            epoch, place = divmod(int(counts[inside]), order.samples)
            tickets.append(Ticket(position, number, epoch, order.index(epoch, place)))
        return tickets

    def _quotas(self, position: int) -> list[int]:
        """Split the first ``position`` places by weight into exact integers that never decrease.

        Each shard set takes its share, rounded down, of what the sets before it left. The result
        differs from the exact share by less than the number of sets. If each share were rounded on
        its own instead, a count could decrease while ``position`` grows.
        """
        rest, quotas = position, []
        for share in self._shares:
            quotas.append(rest * share.numerator // share.denominator)
            rest -= quotas[-1]
        return quotas

    @cached_property
    def _shares(self) -> tuple[Fraction, ...]:
        """The share of each set in what the sets before it leave; the last one takes all of it."""
        weights = [Fraction(w) for w in self.weights]
        return tuple(w / sum(weights[s:]) for s, w in enumerate(weights))

    @cached_property
    def _orders(self) -> tuple["_Order", ...]:
        return tuple(
            _Order(np.asarray(sizes, np.int64), self.seed, number, self.window)
            for number, sizes in enumerate(self.shard_sizes)
        )

    @cached_property
    def _block(self) -> Any:
        """The function ``block -> (shard set of each place, running number of its sample)``."""

        @lru_cache(maxsize=8)
        def block(number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            before = self._quotas(number * MIX_BLOCK)
            after = self._quotas((number + 1) * MIX_BLOCK)
            running = [np.arange(b, a) for b, a in zip(before, after, strict=True)]
            in_order = np.repeat(np.arange(len(running)), [len(count) for count in running])
            order = _permutation([self.seed, number, 0, 0, _MIX], MIX_BLOCK)
            mixed, counts = in_order[order], np.empty(MIX_BLOCK, np.int64)
            for shard_set, count in enumerate(running):
                counts[mixed == shard_set] = count
            return mixed, counts

        return block


class _Order:
    """The epochs of one shard set; the only state is a cache of the windows in use."""

    def __init__(
        self, sizes: NDArray[np.int64], seed: int, number: int, window: int | None
    ) -> None:
        self._sizes, self._seed, self._number = sizes, seed, number
        self.samples = int(sizes.sum())
        self._window = min(window or self.samples, self.samples)
        self._first_of_shard = np.cumsum(sizes) - sizes
        self._shards = lru_cache(maxsize=2)(self._shuffle_shards)
        self._indices = lru_cache(maxsize=2)(self._shuffle_window)

    def index(self, epoch: int, place: int) -> int:
        """Return the index of the sample at ``place`` of the epoch."""
        number, inside = divmod(place + self._phase(epoch), self._window)
        if number == 0:
            inside = place
        return int(self._indices(epoch, number)[inside])

    def _phase(self, epoch: int) -> int:
        """Return how much of the first window is cut off, so that windows differ by epoch."""
        if self._window == self.samples:
            return 0
        return int(self._shards(epoch)[2])

    def _shuffle_shards(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        key = [self._seed, self._number, epoch, 0, _ORDER]
        order = _permutation(key, len(self._sizes))
        phase = int(np.random.PCG64(np.random.SeedSequence(key).spawn(1)[0]).random_raw())
        return order, np.cumsum(self._sizes[order]), phase % self._window

    def _shuffle_window(self, epoch: int, number: int) -> NDArray[np.uint32]:
        phase = self._phase(epoch)
        start = max(0, number * self._window - phase)
        stop = min(self.samples, (number + 1) * self._window - phase)
        key = [self._seed, self._number, epoch, 1 + number, _ORDER]
        places = start + _permutation(key, stop - start)
        if self._window == self.samples:  # a full shuffle does not depend on the order of shards
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
