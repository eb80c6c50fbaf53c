"""The memory of one video: which frames stay, the buffers of their keys and values, and the read.

Frames are written in place into buffers that are allocated once, and read through views of them:
an object costs a few megabytes per memory frame at 480p, and nothing else. Without a limit the
frames that stay are those of Oh et al. 2019, section 3.5.

Legend: ``n`` objects that appeared in the same frame, ``N`` all objects, ``T`` memory frames, ``C``
channels (``Ck`` of keys, ``Cv`` of values), ``h w`` the stride-16 grid.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stmtrain.model import read_memory

_FIRST_ROOM = 4  # frames allocated first if neither a limit nor the length is known


class History:
    """Which frame is stored at which place of a memory; integers only.

    The first and the latest frame are always kept. Of the others, those stay whose index is a
    multiple of ``every``, as in the paper. When ``limit`` places are full, the interval doubles,
    and the oldest frame that is not a multiple of the new interval is replaced. In this way the
    memory thins out evenly: it spans the complete video at any length, so that an object is found
    again after it was hidden. Consecutive frames in it are never further apart than ``every`` or
    2/(limit-2) of the time since the first, whichever is larger. (If the oldest frames were
    replaced, only the first frame and predictions of the recent past would be kept.)

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
            limit: Most frames kept, >= 2; ``None`` has no limit.
        """
        self.frames: list[int] = []
        self._interval, self._limit = every, limit
        self._latest = 0

    def place(self, frame: int) -> int:
        """Return the place of ``frame``, which must be newer than all before it.

        The frame that was there is replaced. Places are filled one after another, without a gap.
        """
        self._latest = self._next_place()
        if self._latest == len(self.frames):
            self.frames.append(frame)
        else:
            self.frames[self._latest] = frame
        return self._latest

    def _next_place(self) -> int:
        if self.frames and self._is_temporary(self._latest):
            return self._latest
        if self._limit is None or len(self.frames) < self._limit:
            return len(self.frames)
        while not (temporary := [p for p in range(self._limit) if self._is_temporary(p)]):
            self._interval *= 2
        return min(temporary, key=self.frames.__getitem__)

    def _is_temporary(self, place: int) -> bool:
        """Return whether a later frame may replace the frame at a place."""
        return place > 0 and self.frames[place] % self._interval != 0


@dataclass
class _Group:
    """Memory of the objects that appeared in the same frame.

    Attributes:
        history: Which frame is at which place.
        keys: (n,Ck,room,h,w), filled up to the number of frames in ``history``.
        values: (n,Cv,room,h,w), likewise.
    """

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

    Only objects that exist use memory, and an object's memory begins with the frame that gives it.
    Buffers are allocated once if ``limit`` or ``length`` bounds the number of frames, and grow by
    doubling otherwise. They have the dtype and device of what is written: bfloat16 halves them.

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
            length: Number of frames of the video, if known. It may be wrong: more frames only cost
                a reallocation.
        """
        self._every, self._limit, self._top_k, self._length = every, limit, top_k, length
        self._groups: list[_Group] = []

    @property
    def objects(self) -> int:
        """Number of objects with a memory."""
        return sum(len(group.keys) for group in self._groups)

    @property
    def frames(self) -> list[list[int]]:
        """The frames in memory, in time order, for each group of objects given together."""
        return [sorted(group.history.frames) for group in self._groups]

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, used or not."""
        return sum(group.keys.nbytes + group.values.nbytes for group in self._groups)

    def write(self, frame: int, keys: Tensor, values: Tensor) -> None:
        """Store one frame for every object; the memory of new objects begins with it.

        Args:
            frame: Index of the frame in the video, larger than all before.
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
        room = self._limit or _FIRST_ROOM
        if self._length is not None:
            # The first frame, every Nth frame after it, and the latest.
            due = 2 + max(0, (self._length - 1) // self._every - frame // self._every)
            room = due if self._limit is None else min(due, self._limit)
        history = History(self._every, self._limit)
        return _Group(history, _room(keys, room), _room(values, room))


def _room(like: Tensor, room: int) -> Tensor:
    """Allocate a buffer (n,C,room,h,w) for frames (n,C,h,w).

    On a GPU the channels of a position are contiguous, because fused attention would otherwise
    copy the complete memory. On a CPU the positions of a channel are, which was measured to be up
    to 2.5 times as fast in bfloat16.
    """
    count, channels, *grid = like.shape
    if like.is_cuda:
        return like.new_empty(count, room, *grid, channels).permute(0, 4, 1, 2, 3)
    return like.new_empty(count, channels, room, *grid)


def _enlarge(buffer: Tensor, room: int) -> Tensor:
    larger = _room(buffer[:, :, 0], room)
    larger[:, :, : buffer.shape[2]] = buffer
    return larger
