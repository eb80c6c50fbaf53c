"""The space-time memory read: attention of every query position over every memory position.

``N`` objects, ``T`` memory frames, ``C`` channels, ``h w`` the stride-16 grid. Pure functions.
Source: Oh et al. 2019, section 3.2, equations 1 and 2.
"""

import math

import torch
from torch import Tensor

from stmtrain.model.precision import at_least_float32

__all__ = ["read_memory"]

_MAX_WEIGHTS = 1 << 26  # attention weights held at once: 256 MiB, whatever the video's length


def read_memory(query_key: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Read from each object's memory what resembles the query.

    The order of memory frames does not matter. Similarity and softmax are float32 even under
    autocast, the weighted sum has the dtype of ``values``. Query positions are independent, so
    they are read in pieces where all weights at once would be large.

    Args:
        query_key: (N,Ck,h,w).
        keys: (N,Ck,T,h,w), T >= 1.
        values: (N,Cv,T,h,w).

    Returns:
        (N,Cv,h,w), dtype of ``values``; at every position a convex combination of memory values.
    """
    count, _, *grid = query_key.shape
    with torch.autocast(query_key.device.type, enabled=False):
        query = at_least_float32(query_key).flatten(2)  # N Ck hw
        memory = at_least_float32(keys).flatten(2).transpose(1, 2)  # N Thw Ck
        content = values.flatten(2)  # N Cv Thw
        piece = max(1, _MAX_WEIGHTS // max(1, count * memory.shape[1]))
        read = [_attend(part, memory, content) for part in query.split(piece, dim=2)]
    return torch.cat(read, dim=2).unflatten(2, grid)  # N Cv h w


def _attend(query: Tensor, memory: Tensor, content: Tensor) -> Tensor:
    weights = (torch.bmm(memory, query) / math.sqrt(query.shape[1])).softmax(dim=1)  # N Thw q
    return torch.bmm(content, weights.to(content.dtype))  # N Cv q
