"""The memory of one video: which frames stay, where their keys and values lie, and reading them.

``n`` objects that appeared in the same frame, ``T`` memory frames, ``C`` channels, ``h w`` the
stride-16 grid. Frames are written in place into buffers that are made once, and read through
views of them: an object costs a few megabytes per memory frame at 480p, and nothing else.
Source: Oh et al. 2019, section 3.5, for what stays where memory has no limit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stmtrain.model import read_memory

__all__ = ["History", "MemoryBank"]

_LEAST_ROOM = 4  # places made at first where neither limit nor length says how many there will be


class History:
    """Which frame is held at which place of a memory; integers only.

    The first frame and the latest one are always held. Of the others those stay whose index is a
    multiple of ``every``, as in the paper. Where ``limit`` places are full, the interval doubles,
    and the oldest frame that is not a multiple of the new one gives way. So the memory thins out
    evenly: it spans the whole video at any length, which brings an object back after it was
    hidden, and neighbours in it are never further apart than ``every`` or 2/(limit-2) of the time
    since the first, whichever is more. (Forgetting the oldest would keep only the recent past,
    all of it predicted, beside the first frame.)

    Attributes:
        frames: The frame at each place; the first is never replaced.

    Example:
        >>> history = History(every=1, limit=4)
        >>> for frame in range(8):
        ...     _ = history.place(frame)
        >>> sorted(history.frames)
        [0, 4, 6, 7]
    """

    def __init__(self, every: int, limit: int | None = None) -> None:
        """Start empty.

        Args:
            every: Every how many frames of the video one stays, >= 1.
            limit: Most frames held, >= 2; ``None`` keeps all that are due.
        """
        self.frames: list[int] = []
        self._interval, self._limit = every, limit
        self._latest = 0

    def place(self, frame: int) -> int:
        """Return where to write ``frame``, which is newer than all before; replaces what is there.

        Places are taken one after another without a gap.
        """
        self._latest = self._next_place()
        if self._latest == len(self.frames):
            self.frames.append(frame)
        else:
            self.frames[self._latest] = frame
        return self._latest

    def _next_place(self) -> int:
        if self.frames and self._passing(self._latest):
            return self._latest
        if self._limit is None or len(self.frames) < self._limit:
            return len(self.frames)
        while not (passing := [p for p in range(self._limit) if self._passing(p)]):
            self._interval *= 2
        return min(passing, key=self.frames.__getitem__)

    def _passing(self, place: int) -> bool:
        return place > 0 and self.frames[place] % self._interval != 0


@dataclass
class _Group:
    """Memory of the objects that appeared in the same frame: keys (n,Ck,room,h,w), values alike."""

    history: History
    keys: Tensor
    values: Tensor

    def write(self, frame: int, key: Tensor, value: Tensor, limit: int | None) -> None:
        place = self.history.place(frame)
        room = self.keys.shape[2]
        if place == room:
            more = 2 * room if limit is None else min(2 * room, limit)
            self.keys, self.values = _enlarge(self.keys, more), _enlarge(self.values, more)
        self.keys[:, :, place] = key
        self.values[:, :, place] = value

    def read(self, query_key: Tensor, top_k: int | None) -> Tensor:
        filled = len(self.history.frames)
        query = query_key.expand(len(self.keys), -1, -1, -1)
        return read_memory(query, self.keys[:, :, :filled], self.values[:, :, :filled], top_k)


class MemoryBank:
    """The memory of one video's objects, in slot order.

    Objects that exist take memory, slots that are empty do not, and an object's memory begins
    with the frame in which it was given. Buffers are made once where ``limit`` or ``length``
    bounds the frames to come, and otherwise grow by doubling. They have the dtype and device of
    what is written: bfloat16 halves them.

    Example:
        >>> bank = MemoryBank(every=5, limit=2)
        >>> for frame in range(100):
        ...     bank.write(frame, torch.rand(3, 8, 2, 2), torch.rand(3, 16, 2, 2))
        >>> bank.objects, bank.frames, bank.read(torch.rand(1, 8, 2, 2)).shape
        (3, [[0, 99]], torch.Size([3, 16, 2, 2]))
    """

    def __init__(
        self,
        every: int,
        limit: int | None = None,
        *,
        top_k: int | None = None,
        length: int | None = None,
    ) -> None:
        """Start without objects.

        Args:
            every: Every how many frames one stays, >= 1; see :class:`History`.
            limit: Most frames per object, >= 2; ``None`` has no limit.
            top_k: Memory positions that a query position reads; ``None`` reads all.
            length: Frames of the video if known; more of them cost a reallocation, no more.
        """
        self._every, self._limit, self._top_k, self._length = every, limit, top_k, length
        self._groups: list[_Group] = []

    @property
    def objects(self) -> int:
        """Number of objects with a memory."""
        return sum(len(group.keys) for group in self._groups)

    @property
    def frames(self) -> list[list[int]]:
        """The frames that are held, in time order, for each group of objects given together."""
        return [sorted(group.history.frames) for group in self._groups]

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, in use or made in advance."""
        return sum(group.keys.nbytes + group.values.nbytes for group in self._groups)

    def write(self, frame: int, keys: Tensor, values: Tensor) -> None:
        """Store one frame for every object; objects that are new here start their memory with it.

        Args:
            frame: Its index in the video, larger than all before.
            keys: (N,Ck,h,w), N at least :attr:`objects`.
            values: (N,Cv,h,w).
        """
        new = len(keys) - self.objects
        if new:
            self._groups.append(self._new_group(frame, keys[-new:], values[-new:]))
        sizes = [len(group.keys) for group in self._groups]
        parts = zip(self._groups, torch.split(keys, sizes), torch.split(values, sizes), strict=True)
        for group, key, value in parts:
            group.write(frame, key, value, self._limit)

    def read(self, query_key: Tensor) -> Tensor:
        """Read for every object; ``query_key`` (1,Ck,h,w) of one frame gives (N,Cv,h,w)."""
        return torch.cat([group.read(query_key, self._top_k) for group in self._groups])

    def _new_group(self, frame: int, keys: Tensor, values: Tensor) -> _Group:
        room = self._limit or _LEAST_ROOM
        if self._length is not None:
            # The first frame, those that are due after it, and the latest.
            due = 2 + max(0, (self._length - 1) // self._every - frame // self._every)
            room = due if self._limit is None else min(due, self._limit)
        history = History(self._every, self._limit)
        return _Group(history, _room(keys, room), _room(values, room))


def _room(like: Tensor, room: int) -> Tensor:
    """Return an unwritten (n,C,room,h,w) for frames such as (n,C,h,w).

    Each position's channels lie side by side on a GPU, where fused attention reads them so and
    would copy the whole memory otherwise; on a CPU each channel's positions do, whose products
    were measured up to 2.5 times as fast in bfloat16.
    """
    count, channels, *grid = like.shape
    if like.is_cuda:
        return like.new_empty(count, room, *grid, channels).permute(0, 4, 1, 2, 3)
    return like.new_empty(count, channels, room, *grid)


def _enlarge(buffer: Tensor, room: int) -> Tensor:
    larger = _room(buffer[:, :, 0], room)
    larger[:, :, : buffer.shape[2]] = buffer
    return larger
