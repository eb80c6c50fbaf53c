"""One batch in the making: a job that follows the plan, then a job for each clip.

A JPEG decoder leaves little of anything else in the processor's caches, so what comes after one
takes twice its time. Hence like comes after like: the first job reads the records and draws the
frames, objects and colours of all clips, and each clip's job pauses before its frames are decoded,
until the other clips are as far. What is drawn depends on the step alone, never on which thread
comes first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from stmtrain.errors import DataError, ShardError
from stmtrain.images.decode import MAX_PIXELS, decode_frame, decode_mask
from stmtrain.images.masks import ids_to_slots
from stmtrain.shards.sample import Sample, SampleRecord
from stmtrain.streaming.batch import Batch, BatchArrays
from stmtrain.streaming.clips import ClipChoice, ClipRecipe, choose_clip
from stmtrain.streaming.colour import colour_matrices, colour_numbers
from stmtrain.streaming.plan import Plan, Ticket
from stmtrain.streaming.threads import Job, Jobs, Workers, job
from stmtrain.streaming.warps import draw_warps

__all__ = ["BatchJob", "ShardSource", "Stream"]

T = TypeVar("T")

_MOST_IN_A_ROW = 64  # bad samples after which skipping stops: then the data or the disk is at fault


class ShardSource(Protocol):
    """What the loader needs of a shard set; :class:`stmtrain.shards.reader.ShardSet` is one."""

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples in each shard."""

    def record(self, index: int) -> SampleRecord:
        """Read a sample's record."""

    def read(
        self, index: int, frames: Sequence[str] | None = None, record: SampleRecord | None = None
    ) -> Sample:
        """Read the bytes of some frames and their masks."""

    def where(self, index: int) -> str:
        """Name shard and sample for an error message."""


@dataclass(frozen=True)
class Stream:
    """What decides each batch of one rank; see :class:`stmtrain.streaming.loader.Loader`."""

    sources: tuple[ShardSource, ...]
    plan: Plan
    recipe: ClipRecipe
    size: int
    rank: int
    world: int
    max_skip: Callable[[int], int]
    skip_bad: bool


class _Clip(NamedTuple):
    """A clip to make: all that is known and drawn before its pixels are there."""

    ticket: Ticket
    where: str
    record: SampleRecord
    choice: ClipChoice
    numbers: NDArray[np.float64]  # its colours are made of them
    rng: np.random.Generator


class BatchJob:
    """One batch in the making, started when it is built.

    Attributes:
        arrays: Where it is made.
        bad: What is wrong with the samples that were passed over, by their position in the plan.
            Found again for each batch, so that a batch does not depend on those before it.
    """

    def __init__(self, stream: Stream, step: int, arrays: BatchArrays, workers: Workers) -> None:
        self.arrays = arrays
        self.bad: dict[int, str] = {}
        self._stream, self._step, self._workers = stream, step, workers
        self._clips: list[_Clip] = []
        self._opening = workers.submit([job(self._open)])

    def result(self, patience: float) -> Batch:
        """Wait for every clip; the first failed one, in the plan's order, raises its error.

        Where bad samples are passed over, all clips are made again with others in their places,
        because the new ones may be of another size.
        """
        while True:
            self._wait(self._opening, [f"step {self._step}"], patience)
            filling, clips = self._opening.result(0), self._clips
            self._wait(filling, [clip.where for clip in clips], patience)
            known, counts = len(self.bad), []
            for slot, clip in enumerate(clips):
                try:
                    counts.append(filling.result(slot))
                except DataError as error:
                    self._pass_over(clip.ticket.position, error)
            if len(self.bad) == known:
                keys = tuple(clip.record.sample_key for clip in clips)
                return self.arrays.batch(self._step, keys, torch.tensor(counts))
            self._opening = self._workers.submit([job(self._open)])

    def _wait(self, jobs: Jobs[T], names: Sequence[str], patience: float) -> None:
        stalled = self._workers.wait(jobs, patience)
        if stalled is not None:
            raise _Unreadable(
                f"{names[stalled]}: no data after {patience:g} seconds; check the disk or network "
                "that holds it"
            )

    def _open(self) -> Jobs[int]:
        """Read the records, draw the clips, lay out the arrays, and start a job for each clip."""
        stream = self._stream
        tickets = stream.plan.batch(self._step, stream.rank, stream.world)
        self._clips = clips = [self._find(ticket) for ticket in tickets]
        colours = colour_matrices(stream.recipe, np.array([clip.numbers for clip in clips]))
        self.arrays.lay_out([(clip.record.height, clip.record.width) for clip in clips], colours)
        return self._workers.submit([self._fill(slot, clip) for slot, clip in enumerate(clips)])

    def _find(self, ticket: Ticket) -> _Clip:
        """Return the ticket's clip, or that of the first position after it that is not bad."""
        for position in range(ticket.position, ticket.position + _MOST_IN_A_ROW):
            if position in self.bad:
                continue
            if position > ticket.position:
                ticket = self._stream.plan.ticket(position)
            try:
                return self._draw(ticket)
            except DataError as error:
                self._pass_over(position, error)
        raise DataError(
            f"{self.bad[position]} - and so are {_MOST_IN_A_ROW} samples in a row of the plan; "
            'run "stm shards verify"'
        )

    def _pass_over(self, position: int, error: DataError) -> None:
        """Note what is wrong with the sample at ``position``, if bad samples are passed over."""
        if not self._stream.skip_bad or isinstance(error, _Unreadable):
            raise error
        self.bad[position] = str(error)

    def _draw(self, ticket: Ticket) -> _Clip:
        """Read a sample's record, and draw frames, objects and colours."""
        stream = self._stream
        source, rng = stream.sources[ticket.source], stream.plan.rng(ticket)
        where = source.where(ticket.index)
        try:
            record = source.record(ticket.index)
            _check_pixels(record, where)
            choice = choose_clip(record, stream.recipe, stream.max_skip(self._step), rng)
        except (OSError, ValueError) as error:
            raise _named(error, where) from error
        return _Clip(ticket, where, record, choice, rng.random(colour_numbers(stream.recipe)), rng)

    def _fill(self, slot: int, clip: _Clip) -> Job[int]:
        """Make one clip in its place in the arrays; return its number of objects."""
        try:
            yield from self._decode(slot, clip)
        except (OSError, ValueError) as error:
            raise _named(error, clip.where) from error
        return len(clip.choice.object_ids)

    def _decode(self, slot: int, clip: _Clip) -> Job[None]:
        stream, where = self._stream, clip.where
        names, object_ids = clip.choice.frames, clip.choice.object_ids
        sample = stream.sources[clip.ticket.source].read(clip.ticket.index, names, clip.record)
        frames, masks = self.arrays.clip(slot)
        # Masks first: the crop follows the objects.
        for name, out in zip(names, masks, strict=True):
            decode_mask(sample.masks[name], f"{where}, mask {name}", out)
        ids_to_slots(masks, object_ids)
        warps = draw_warps(masks, len(object_ids), stream.recipe, stream.size, clip.rng)
        self.arrays.warp(slot, warps)
        yield  # for the sake of the caches, see above
        for name, out in zip(names, frames, strict=True):
            decode_frame(sample.frames[name], f"{where}, frame {name}", out)
        self.arrays.pad(slot)


class _Unreadable(ShardError):
    """The disk or network failed, which says nothing about the sample; never passed over."""


def _check_pixels(record: SampleRecord, where: str) -> None:
    if record.height * record.width > MAX_PIXELS:
        raise ShardError(
            f"{where}: its record says {record.width}x{record.height} pixels, expected up to "
            f'{MAX_PIXELS}; run "stm shards verify"'
        )


def _named(error: OSError | ValueError, where: str) -> ShardError:
    """Turn what is wrong with a sample's bytes or record into an error that names the sample."""
    if isinstance(error, OSError):
        return _Unreadable(f"{where}: cannot be read ({error})")
    return ShardError(f"{where}: {error}")
