"""STM, the Space-Time Memory network: memorise frames with masks, segment frames from memory.

``B`` clips, ``N`` objects of all clips, ``K`` the most objects of one clip, ``T`` memory frames,
``C`` channels, ``H W`` pixels, ``h w`` the stride-16 grid of the padded frame.
Source: Oh, Lee, Xu, Kim, "Video Object Segmentation Using Space-Time Memory Networks", ICCV 2019.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stmtrain.model.decoder import ASPP, Decoder
from stmtrain.model.encoders import (
    BACKBONES,
    BatchNorm,
    Features,
    KeyValue,
    MemoryEncoder,
    QueryEncoder,
)
from stmtrain.model.memory import read_memory
from stmtrain.model.objects import aggregate, other_masks, per_object, spread
from stmtrain.model.recompute import run_again

_STRIDE = 16


class Query(NamedTuple):
    """What is computed once per query frame, for any number of objects.

    Attributes:
        key: (B,Ck,h,w).
        value: (B,Cv,h,w).
        features: Of stride 4, 8 and 16.
        size: ``(H, W)`` before padding, pixels.
    """

    key: Tensor
    value: Tensor
    features: Features
    size: torch.Size

    def split(self, clips: int) -> "list[Query]":
        """Split into queries of ``clips`` frames each, without a copy; the last may have fewer."""
        parts = (part.split(clips) for part in (self.key, self.value, *self.features))
        return [
            Query(key, value, Features(*features), self.size)
            for key, value, *features in zip(*parts, strict=True)
        ]


class STM(nn.Module):
    """The model; the caller stores the memory.

    Objects of all clips are flattened: ``owner`` (N,) int64 is the clip of each object, in
    ``[0, B)`` and non-decreasing. On the CPU, it costs no device synchronisation. To memorise a
    prediction, use ``masks = logits.softmax(1)[owner, slots(owner)]``. BatchNorm starts frozen, see
    :func:`set_batchnorm`.

    Example:
        >>> model = STM("resnet18").eval()
        >>> owner = torch.tensor([0, 0])                      # one clip with two objects
        >>> frames, masks = torch.rand(1, 3, 64, 64), torch.zeros(2, 64, 64)
        >>> key, value = model.memorize(frames, masks, owner)
        >>> model.segment(frames, key.unsqueeze(2), value.unsqueeze(2), owner).shape
        torch.Size([1, 3, 64, 64])
    """

    checkpoint_activations = False
    """Keep only the inputs of encoders and decoder, and recompute activations for gradients."""

    def __init__(self, backbone: str) -> None:
        """Build with random weights.

        Args:
            backbone: A name in ``BACKBONES``.

        Raises:
            ValueError: The name is unknown.
        """
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f"expected a backbone of {', '.join(BACKBONES)}, found {backbone!r}")
        self.backbone = BACKBONES[backbone]
        self.Encoder_M = MemoryEncoder(self.backbone)
        self.Encoder_Q = QueryEncoder(self.backbone)
        self.KV_M_r4 = KeyValue(self.backbone)
        self.KV_Q_r4 = KeyValue(self.backbone)
        self.Decoder = Decoder(self.backbone)
        width = 2 * self.backbone.value_channels
        self.aspp = ASPP(width) if self.backbone.aspp else nn.Identity()

    def memorize(self, frames: Tensor, masks: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Encode one frame per clip, with the masks of its objects, into memory.

        Args:
            frames: (B,3,H,W) float RGB in [0,1].
            masks: (N,H,W) float in [0,1], hard or soft.
            owner: (N,) int64 clip of each object, non-decreasing.

        Returns:
            Keys (N,Ck,h,w) and values (N,Cv,h,w); append them at dimension 2 of the memory.
        """
        frames, masks = _pad(frames), _pad(masks)
        others = other_masks(masks, owner)
        return self.KV_M_r4(self._run(self.Encoder_M, frames, masks, others, owner).r4)

    def segment(self, frames: Tensor, keys: Tensor, values: Tensor, owner: Tensor) -> Tensor:
        """Segment one frame per clip from its objects' memories.

        Args:
            frames: (B,3,H,W) float RGB in [0,1], the size of the memorised frames.
            keys: (N,Ck,T,h,w) of T memory frames.
            values: (N,Cv,T,h,w).
            owner: (N,) int64 clip of each object, non-decreasing.

        Returns:
            (B,1+K,H,W) float32 logits: background, then the clip's objects in the order of
            ``owner``. Empty slots have the logit of probability 1e-7.
        """
        query = self.encode_query(frames)
        return self.decode(query, read_memory(per_object(query.key, owner), keys, values), owner)

    def encode_query(self, frames: Tensor) -> Query:
        """Encode frames (B,3,H,W) to be segmented; the first half of :meth:`segment`.

        It does not depend on the memory, so frames of several time steps can be encoded at once.
        """
        features = self._run(self.Encoder_Q, _pad(frames))
        key, value = self.KV_Q_r4(features.r4)
        return Query(key, value, features, frames.shape[-2:])

    def decode(self, query: Query, read: Tensor, owner: Tensor) -> Tensor:
        """Segment from the memory readout of each object; the second half of :meth:`segment`.

        Args:
            query: Result of :meth:`encode_query`, B frames.
            read: (N,Cv,h,w), result of :func:`read_memory`.
            owner: (N,) int64 clip of each object, non-decreasing.

        Returns:
            (B,1+K,H,W) float32 logits, as for :meth:`segment`.
        """
        readout = torch.cat([read, per_object(query.value, owner)], dim=1)  # N 2Cv h w
        prob = self._run(self.Decoder, self.aspp(readout), query.features, owner)  # N 16h 16w
        return aggregate(spread(_crop(prob, query.size), owner, len(query.value)))

    def _run(self, part: nn.Module, *inputs: Any) -> Any:
        return run_again(part, *inputs) if self.checkpoint_activations else part(*inputs)


def set_batchnorm(model: nn.Module, mode: Literal["frozen", "train"]) -> None:
    """Choose what BatchNorm does in training mode; ``model.train()`` does not change it.

    Args:
        model: An :class:`STM`, or a module that contains one.
        mode: ``"frozen"`` normalises with the stored statistics and does not update them (as in the
            paper, for pretrained encoders); ``"train"`` uses and updates batch statistics. Weights
            and biases are trained in both modes.

    Raises:
        ValueError: The mode is neither.
    """
    if mode not in ("frozen", "train"):
        raise ValueError(f"expected BatchNorm mode 'frozen' or 'train', found {mode!r}")
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.frozen = mode == "frozen"
            module.train(model.training)


def _margins(height: int, width: int) -> tuple[int, int, int, int]:
    """Return the zeros to add left, right, above, below: sizes become multiples of the stride."""
    down, right = -height % _STRIDE, -width % _STRIDE
    return right // 2, right - right // 2, down // 2, down - down // 2


def _pad(x: Tensor) -> Tensor:
    """Pad the last two dimensions with zeros: black for RGB, because it is not normalised yet."""
    return F.pad(x, _margins(*x.shape[-2:]))


def _crop(x: Tensor, size: torch.Size) -> Tensor:
    """Undo the padding of a tensor that had the size (H, W)."""
    height, width = size
    left, _, above, _ = _margins(height, width)
    return x[..., above : above + height, left : left + width]
