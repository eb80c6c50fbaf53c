"""One batch in the making: a call that follows the plan, then one call per thread for the pixels.

A JPEG decoder evicts almost everything else from the processor's caches, and any code that runs
after it takes twice as long. Similar work is therefore done together: the first call reads the
records and draws the frames, objects and colours of all clips; each of the others decodes the masks
of its share of the clips, and then their frames. What is drawn depends on the step alone, never on
which thread comes first.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import DataError, ShardError
from stmtrain.images.decode import MAX_PIXELS, decode_frame, decode_mask
from stmtrain.images.masks import ids_to_slots
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample, SampleRecord
from stmtrain.streaming.batch import Batch, BatchArrays, ClipOrigin
from stmtrain.streaming.clips import NO_CLIP, ClipChoice, ClipRecipe, NoClipError, choose_clip
from stmtrain.streaming.colour import colour_matrices, colour_numbers
from stmtrain.streaming.plan import Plan, Ticket
from stmtrain.streaming.threads import DaemonThreads
from stmtrain.streaming.warps import draw_warps

_MAX_SKIPPED = 64  # consecutive bad samples after which skipping stops: the data set is at fault


@dataclass(frozen=True)
class Stream:
    """Everything that determines the batches of one rank, as documented in ``Loader``."""

    shard_sets: tuple[ShardSet, ...]
    plan: Plan
    recipe: ClipRecipe
    size: int
    rank: int
    world: int
    max_skip: Callable[[int], int]
    skip_bad: bool


class _Clip(NamedTuple):
    """Everything that is known and drawn about a clip before its pixels are decoded."""

    ticket: Ticket
    where: str
    record: SampleRecord
    choice: ClipChoice
    numbers: NDArray[np.float64]  # random numbers for its colours
    rng: np.random.Generator

    def origin(self) -> ClipOrigin:
        ticket, choice = self.ticket, self.choice
        return ClipOrigin(ticket.shard_set, ticket.index, choice.frames, choice.object_ids)


class BatchJob:
    """One batch in the making, which starts when the job is built.

    Attributes:
        arrays: The memory that the batch is made in.
        bad: The error messages of the samples that were skipped, by their position in the plan.
            They are found again for each batch, so that no batch depends on those before it.
    """

    def __init__(
        self, stream: Stream, step: int, arrays: BatchArrays, threads: DaemonThreads
    ) -> None:
        self.arrays = arrays
        self.bad: dict[int, str] = {}
        self._stream, self._step, self._threads = stream, step, threads
        self._clips: list[_Clip] = []
        self._samples: dict[int, Sample] = {}
        self._errors: dict[int, BaseException] = {}
        self._active: set[int] = set()
        self._opening = threads.submit(self._open)

    @property
    def ready(self) -> bool:
        """Whether every clip is there, so that :meth:`result` need not wait."""
        return self._opening.done() and all(clip.done() for clip in self._opening.result())

    def result(self, patience: float) -> Batch:
        """Wait for every clip; raise the error of the first one in the plan's order that failed.

        If bad samples are skipped, the complete batch is rebuilt with other samples in their
        places, because these may have another size.
        """
        while True:
            self._wait([self._opening], patience)
            self._wait(self._opening.result(), patience)
            for slot, error in sorted(self._errors.items()):
                self._skip(self._clips[slot].ticket.position, error)
            if not self._errors:
                keys = tuple(clip.record.sample_key for clip in self._clips)
                origins = tuple(clip.origin() for clip in self._clips)
                return self.arrays.batch(self._step, keys, origins)
            self._opening = self._threads.submit(self._open)

    def _wait(self, calls: Sequence[Future[Any]], patience: float) -> None:
        if not self._threads.wait(calls, patience):
            active = self._clips[min(self._active)].where if self._active else f"step {self._step}"
            raise _Unreadable(
                f"{active}: no data after {patience:g} seconds; check the disk or network that "
                "stores it"
            )

    def _open(self) -> list[Future[None]]:
        """Read the records, draw the clips, lay out the arrays, and submit the decoding."""
        stream = self._stream
        tickets = stream.plan.batch(self._step, stream.rank, stream.world)
        self._errors.clear()
        self._clips = clips = [self._find(ticket) for ticket in tickets]
        colours = colour_matrices(stream.recipe, np.array([clip.numbers for clip in clips]))
        self.arrays.lay_out([(clip.record.height, clip.record.width) for clip in clips], colours)
        shares = min(len(self._threads), len(clips))
        return [
            self._threads.submit(partial(self._fill, range(first, len(clips), shares)))
            for first in range(shares)
        ]

    def _find(self, ticket: Ticket) -> _Clip:
        """Return the clip of the ticket, or of the first later position that is not bad."""
        first, skipped = ticket.position, 0
        left = sum(map(sum, self._stream.plan.shard_sizes))
        tried: set[tuple[int, int]] = set()
        for position in count(first):
            ticket = self._stream.plan.ticket(position)
            tried.add((ticket.shard_set, ticket.index))
            if position not in self.bad:
                try:
                    return self._draw(ticket)
                except DataError as error:
                    self._skip(position, error)
                finally:
                    self._threads.progress()
            skipped += NO_CLIP not in self.bad[position]
            if skipped == _MAX_SKIPPED or len(tried) == left:
                break
        raise DataError(
            f"{self.bad[position]}; this and the {position - first} samples before it in the plan "
            'are bad, run "stm shards verify"'
            if skipped
            else f"{self.bad[position]}; no other of the {left} samples gives a clip either, use "
            "fewer frames per clip, or videos with more masks"
        )

    def _skip(self, position: int, error: BaseException) -> None:
        """Record what is wrong with the sample at ``position``; raise what must not be skipped."""
        bad = isinstance(error, DataError) and not isinstance(error, _Unreadable)
        if not isinstance(error, _NoClip) and not (self._stream.skip_bad and bad):
            raise error
        self.bad[position] = str(error)

    def _draw(self, ticket: Ticket) -> _Clip:
        """Read a sample's record, and draw frames, objects and colours."""
        stream = self._stream
        shard_set, rng = stream.shard_sets[ticket.shard_set], stream.plan.rng(ticket)
        where = shard_set.where(ticket.index)
        try:
            record = shard_set.record(ticket.index)
            if record.height * record.width > MAX_PIXELS:
                raise ShardError(
                    f"{where}: its record states {record.width}x{record.height} pixels, expected "
                    f'at most {MAX_PIXELS}; run "stm shards verify"'
                )
            choice = choose_clip(record, stream.recipe, stream.max_skip(self._step), rng)
        except (OSError, ValueError) as error:
            raise _named(error, where) from error
        return _Clip(ticket, where, record, choice, rng.random(colour_numbers(stream.recipe)), rng)

    def _fill(self, slots: range) -> None:
        """Decode the clips of some slots: the masks of all of them first, then the frames."""
        for part in (self._decode_masks, self._decode_frames):
            for slot in slots:
                if self._threads.closed.is_set():
                    return
                if slot not in self._errors:
                    self._active.add(slot)
                    self._attempt(part, slot)
                    self._active.discard(slot)
                    self._threads.progress()

    def _attempt(self, part: Callable[[int], None], slot: int) -> None:
        """Do one part of the work on a clip; keep its error for the consumer."""
        try:
            part(slot)
        except (OSError, ValueError) as error:
            self._errors[slot] = _named(error, self._clips[slot].where)
        except BaseException as error:  # noqa: BLE001 - the consumer raises it
            self._errors[slot] = error

    def _decode_masks(self, slot: int) -> None:
        """Read a clip and decode its masks, which the warps and the crop depend on."""
        stream, clip = self._stream, self._clips[slot]
        names, object_ids = clip.choice.frames, clip.choice.object_ids
        shard_set = stream.shard_sets[clip.ticket.shard_set]
        sample = shard_set.read(clip.ticket.index, names, clip.record)
        _, masks = self.arrays.clip(slot)
        for name, out in zip(names, masks, strict=True):
            decode_mask(sample.masks[name], f"{clip.where}, mask {name}", out)
        ids_to_slots(masks, object_ids)
        warps = draw_warps(masks, len(object_ids), stream.recipe, stream.size, clip.rng)
        self.arrays.warps[slot] = warps
        self._samples[slot] = sample

    def _decode_frames(self, slot: int) -> None:
        clip, sample = self._clips[slot], self._samples.pop(slot)
        frames, _ = self.arrays.clip(slot)
        for name, out in zip(clip.choice.frames, frames, strict=True):
            decode_frame(sample.frames[name], f"{clip.where}, frame {name}", out)
        self.arrays.pad(slot)


class _NoClip(ShardError):
    """No clip can be cut from a sample; training passes over it, whatever else is an error."""


class _Unreadable(ShardError):
    """A disk or network failure. It does not mean that the sample is bad, so it always raises."""


def _named(error: OSError | ValueError, where: str) -> ShardError:
    """Turn a problem with a sample's bytes or record into an error that names the sample."""
    if isinstance(error, OSError):
        return _Unreadable(f"{where}: cannot be read ({error})")
    kind = _NoClip if isinstance(error, NoClipError) else ShardError
    return kind(f"{where}: {error}")
