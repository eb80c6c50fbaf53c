"""The space-time memory read: attention of every query position over every memory position.

``N`` objects, ``T`` memory frames, ``C`` channels, ``h w`` the stride-16 grid. Pure functions.
Source: Oh et al. 2019, section 3.2, equations 1 and 2.
"""

import math

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from stmtrain.model.precision import at_least_float32

_MAX_WEIGHTS = 1 << 26  # attention weights in memory at a time: 256 MiB for any video length
_MAX_HEAD = 256  # channels of a fused kernel's query

# Without cuDNN's kernel, which is planned again for each number of objects and memory frames.
_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def read_memory(
    query_key: Tensor, keys: Tensor, values: Tensor, top_k: int | None = None
) -> Tensor:
    """Read the memory of each object by similarity to the query.

    The order of memory frames does not matter. Similarity and softmax are float32 even under
    autocast; the weighted sum has the dtype of ``values``. Query positions are independent, so they
    are read in pieces if the weights of all positions together would be too large. Half precision
    on a GPU is read by a fused kernel that does not store the weights and is as exact.

    Args:
        query_key: (N,Ck,h,w).
        keys: (N,Ck,T,h,w), T >= 1.
        values: (N,Cv,T,h,w).
        top_k: Number of memory positions that a query position reads, >= 1: the most similar ones,
            and all that tie with the last of them (so that order still does not matter). ``None``
            or a number of at least T h w reads all. Cheng et al. 2021 (STCN) and 2022 (XMem) read
            20 and 30 in networks that were trained to read all: in a long memory, many positions
            that resemble the query slightly outweigh the few that match.

    Returns:
        (N,Cv,h,w), dtype of ``values``; at every position a convex combination of memory values.
    """
    if top_k is None and _fusable(query_key, keys, values):
        return _read_fused(query_key, keys, values)
    count, _, *grid = query_key.shape
    with torch.autocast(query_key.device.type, enabled=False):
        query = at_least_float32(query_key).flatten(2)  # N Ck hw
        memory = at_least_float32(keys).flatten(2).transpose(1, 2)  # N Thw Ck
        content = values.flatten(2)  # N Cv Thw
        piece = max(1, _MAX_WEIGHTS // max(1, count * memory.shape[1]))
        read = [_attend(part, memory, content, top_k) for part in query.split(piece, dim=2)]
    return torch.cat(read, dim=2).unflatten(2, grid)  # N Cv h w


def _attend(query: Tensor, memory: Tensor, content: Tensor, top_k: int | None) -> Tensor:
    similarity = torch.bmm(memory, query) / math.sqrt(query.shape[1])  # N Thw q
    if top_k is not None and top_k < similarity.shape[1]:
        least = similarity.topk(top_k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
        similarity.masked_fill_(similarity < least, -math.inf)
    return torch.bmm(content, similarity.softmax(dim=1).to(content.dtype))  # N Cv q


def _fusable(query_key: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Tell whether a fused kernel is as exact as :func:`_attend`, and faster.

    It multiplies half-precision keys exactly, as float32 does, and its softmax is float32. It is
    not used for float32 keys, whose results should be the same on every device. On a CPU, the
    kernel takes 2 to 5 times as long.
    """
    width = keys.shape[1]
    half = keys.dtype in (torch.bfloat16, torch.float16)
    same = query_key.dtype == keys.dtype == values.dtype
    return keys.is_cuda and half and same and values.shape[1] % width == 0 and width <= _MAX_HEAD


def _read_fused(query_key: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Read with :func:`torch.nn.functional.scaled_dot_product_attention`.

    The fast kernels require values as wide as keys, so values are split into heads of Ck channels
    that share one query and one key. Similarity is computed once per head, 4 times for STM, which
    is still a small part of the time, because only the result is written to memory.
    """
    width, grid = keys.shape[1], query_key.shape[2:]
    heads = values.shape[1] // width
    query, key = (_rows(x.flatten(2).transpose(1, 2)) for x in (query_key, keys))  # N . Ck
    content = values.flatten(2).unflatten(1, (heads, width)).transpose(2, 3)  # N heads Thw Ck
    query, key = (x.unsqueeze(1).expand(-1, heads, -1, -1) for x in (query, key))
    with sdpa_kernel(_FUSED):
        read = scaled_dot_product_attention(query, key, _rows(content))  # N heads hw Ck
    return read.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, grid)  # N Cv h w


def _rows(x: Tensor) -> Tensor:
    """Make the last dimension contiguous; on a GPU, that of a memory bank is already."""
    return x if x.stride(-1) == 1 else x.contiguous()
