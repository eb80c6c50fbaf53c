"""The two encoders and their key/value heads, for each backbone.

``B`` clips, ``N`` objects of all clips, ``C`` channels, ``H W`` pixels, ``h w`` the stride-16 grid.
RGB frames and soft masks come in, stride-4, -8 and -16 features go out. Module names are those of
the published checkpoints. Source: Oh et al. 2019, section 3.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

__all__ = [
    "BACKBONES",
    "Backbone",
    "BatchNorm",
    "Features",
    "KeyValue",
    "MemoryEncoder",
    "QueryEncoder",
]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """What distinguishes one STM variant from another.

    Attributes:
        name: As users write it, and as torchvision calls it.
        block: The residual block of torchvision.
        depths: Number of blocks in the stages of stride 4, 8 and 16.
        key_channels: Channels of keys, in memory and query.
        value_channels: Channels of values, in memory and query.
    """

    name: str
    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, int, int]
    key_channels: int
    value_channels: int

    @property
    def channels(self) -> tuple[int, int, int]:
        """Channels of the features of stride 4, 8 and 16."""
        expansion = self.block.expansion
        return 64 * expansion, 128 * expansion, 256 * expansion


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone("resnet50", Bottleneck, (3, 4, 6), key_channels=128, value_channels=512),
        Backbone("resnet18", BasicBlock, (2, 2, 2), key_channels=32, value_channels=128),
    )
}


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that, while ``frozen``, keeps its running statistics in training too.

    Its weight and bias are trained in either case. STM is trained frozen, because its batches are
    small and a memory frame's statistics differ from a query frame's.
    """

    frozen = True

    def __init__(self, num_features: int) -> None:
        """Start frozen."""
        super().__init__(num_features)
        self.train(self.training)

    def train(self, mode: bool = True) -> "BatchNorm":
        """Enter training mode, unless frozen."""
        return super().train(mode and not self.frozen)


class Features(NamedTuple):
    """An encoder's output: features of stride 4, 8 and 16, each ``(·, C, ·, ·)``."""

    r2: Tensor
    r3: Tensor
    r4: Tensor


class Encoder(nn.Module):
    """What both encoders share: a ResNet up to its third stage, and ImageNet's normalisation."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone) -> None:
        """Build the layers with torchvision's random initialisation."""
        super().__init__()
        self.register_buffer("mean", _channel_vector(_IMAGENET_MEAN))
        self.register_buffer("std", _channel_vector(_IMAGENET_STD))
        # torchvision insists on a fourth stage; the shortest possible is built and dropped.
        resnet = ResNet(backbone.block, [*backbone.depths, 1], norm_layer=BatchNorm)
        self.conv1 = resnet.conv1
        self.bn1 = resnet.bn1
        self.relu = resnet.relu
        self.maxpool = resnet.maxpool
        self.res2 = resnet.layer1
        self.res3 = resnet.layer2
        self.res4 = resnet.layer3

    def stem(self, frames: Tensor) -> Tensor:
        """Normalise ``frames`` (B,3,H,W) and apply the first convolution, stride 2."""
        return self.conv1((frames - self.mean) / self.std)

    def stages(self, x: Tensor) -> Features:
        """Everything after the first convolution."""
        x = self.maxpool(self.relu(self.bn1(x)))
        r2 = self.res2(x)
        r3 = self.res3(r2)
        return Features(r2, r3, self.res4(r3))


class QueryEncoder(Encoder):
    """RGB frames to features."""

    def forward(self, frames: Tensor) -> Features:
        """Encode ``frames`` (B,3,H,W), RGB in [0,1]."""
        return self.stages(self.stem(frames))


class MemoryEncoder(Encoder):
    """RGB frames and, per object, its mask and the other objects' masks, to features."""

    def __init__(self, backbone: Backbone) -> None:
        """Build the ResNet and the two mask convolutions that join its first layer."""
        super().__init__(backbone)
        width = self.conv1.out_channels
        self.conv1_m = nn.Conv2d(1, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.conv1_o = nn.Conv2d(1, width, kernel_size=7, stride=2, padding=3, bias=False)

    def forward(self, frames: Tensor, masks: Tensor, others: Tensor, owner: Tensor) -> Features:
        """Encode every object of every frame; RGB is convolved once per frame, not per object.

        Args:
            frames: (B,3,H,W) RGB in [0,1].
            masks: (N,H,W) the object's mask in [0,1].
            others: (N,H,W) the sum of the other masks of the same clip, clamped to [0,1].
            owner: (N,) int64, the clip of each object.

        Returns:
            Features of N objects.
        """
        x = self.stem(frames)[owner]  # N C H/2 W/2
        x = x + self.conv1_m(masks.unsqueeze(1)) + self.conv1_o(others.unsqueeze(1))
        return self.stages(x)


class KeyValue(nn.Module):
    """Stride-16 features to a key, for addressing, and a value, for what is read."""

    def __init__(self, backbone: Backbone) -> None:
        """Build the two 3x3 convolutions."""
        super().__init__()
        width = backbone.channels[-1]
        self.Key = nn.Conv2d(width, backbone.key_channels, kernel_size=3, padding=1)
        self.Value = nn.Conv2d(width, backbone.value_channels, kernel_size=3, padding=1)

    def forward(self, r4: Tensor) -> tuple[Tensor, Tensor]:
        """Return key (·,Ck,h,w) and value (·,Cv,h,w)."""
        return self.Key(r4), self.Value(r4)


def _channel_vector(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).reshape(1, -1, 1, 1)
