"""The two encoders and their key/value heads, for each backbone.

``B`` clips, ``N`` objects of all clips, ``C`` channels, ``H W`` pixels, ``h w`` the stride-16 grid.
RGB frames and soft masks become features of stride 4, 8 and 16. Module names are those of the
published checkpoints. Source: Oh et al. 2019, section 3.1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from stmtrain.model.objects import per_object
from stmtrain.model.resnest import ResNeSt

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that, while ``frozen``, uses its running statistics in training too.

    Its weight and bias are trained in either case. STM is trained frozen, because its batches are
    small and the statistics of memory and query frames differ. The running statistics are also used
    for a single value per channel, which has no variance.
    """

    frozen = True

    def __init__(self, num_features: int) -> None:
        """Start frozen."""
        super().__init__(num_features)
        self.train(self.training)

    def train(self, mode: bool = True) -> "BatchNorm":
        """Enter training mode, unless frozen."""
        return super().train(mode and not self.frozen)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B,C,h,w)."""
        if self.training and input.numel() == self.num_features:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(input, mean, var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


@dataclass(frozen=True)
class Backbone:
    """The properties that differ between STM variants.

    Attributes:
        name: Name in options and checkpoints: that of its classification network.
        network: Builds that network; stem and stages have the names of torchvision's ``ResNet``.
        channels: Of the features of stride 4, 8 and 16.
        key_channels: Channels of keys, in memory and query.
        value_channels: Channels of values, in memory and query.
        first_layer: Name of the first convolution; a deep stem has several.
        aspp: Whether the readout passes through atrous convolutions before the decoder.
        rectified_skip: Whether the residual blocks of the decoder add to relu(x) instead of x, as
            published ones do that rectify in place.
    """

    name: str
    network: Callable[[], ResNet | ResNeSt]
    channels: tuple[int, int, int]
    key_channels: int = 128
    value_channels: int = 512
    first_layer: str = "conv1"
    aspp: bool = False
    rectified_skip: bool = False


def _resnet(block: type[BasicBlock] | type[Bottleneck], *depths: int) -> ResNet:
    # torchvision requires a fourth stage; the shortest possible one is built and dropped.
    return ResNet(block, [*depths, 1], norm_layer=BatchNorm)


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone("resnet50", partial(_resnet, Bottleneck, 3, 4, 6), (256, 512, 1024)),
        Backbone(
            "resnet18",
            partial(_resnet, BasicBlock, 2, 2, 2),
            (64, 128, 256),
            key_channels=32,
            value_channels=128,
        ),
        Backbone(
            "resnest101",
            partial(ResNeSt, (3, 4, 23), BatchNorm),
            (256, 512, 1024),
            first_layer="conv1.0",
            aspp=True,
            rectified_skip=True,
        ),
    )
}


class Features(NamedTuple):
    """The output of an encoder: features of stride 4, 8 and 16, each ``(·, C, ·, ·)``."""

    r2: Tensor
    r3: Tensor
    r4: Tensor


class Encoder(nn.Module):
    """Base of both encoders: a network up to its third stage, with ImageNet normalisation."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone) -> None:
        """Build the layers with the network's random initialisation."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).reshape(1, -1, 1, 1))
        network = backbone.network()
        self.conv1 = network.conv1
        self.bn1 = network.bn1
        self.relu = network.relu
        self.maxpool = network.maxpool
        self.res2 = network.layer1
        self.res3 = network.layer2
        self.res4 = network.layer3

    def stem(self, frames: Tensor) -> Tensor:
        """Normalise ``frames`` (B,3,H,W) and apply the first layers, stride 2."""
        return self.conv1((frames - self.mean) / self.std)

    def stages(self, x: Tensor) -> Features:
        """Apply all layers after the stem."""
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
        """Build the network and the two mask convolutions that are added to its stem."""
        super().__init__(backbone)
        width = self.bn1.num_features
        self.conv1_m = nn.Conv2d(1, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.conv1_o = nn.Conv2d(1, width, kernel_size=7, stride=2, padding=3, bias=False)

    def forward(self, frames: Tensor, masks: Tensor, others: Tensor, owner: Tensor) -> Features:
        """Encode every object of every frame; RGB is convolved once per frame.

        Args:
            frames: (B,3,H,W) RGB in [0,1].
            masks: (N,H,W) the object's mask in [0,1].
            others: (N,H,W) the sum of the other masks of the same clip, clamped to [0,1].
            owner: (N,) int64, the clip of each object.

        Returns:
            Features of N objects.
        """
        x = per_object(self.stem(frames), owner)  # N C H/2 W/2
        x = x + self.conv1_m(masks.unsqueeze(1)) + self.conv1_o(others.unsqueeze(1))
        return self.stages(x)


class KeyValue(nn.Module):
    """Stride-16 features to keys, for addressing, and values, for reading."""

    def __init__(self, backbone: Backbone) -> None:
        """Build the two 3x3 convolutions."""
        super().__init__()
        width = backbone.channels[-1]
        self.Key = nn.Conv2d(width, backbone.key_channels, kernel_size=3, padding=1)
        self.Value = nn.Conv2d(width, backbone.value_channels, kernel_size=3, padding=1)

    def forward(self, r4: Tensor) -> tuple[Tensor, Tensor]:
        """Return key (·,Ck,h,w) and value (·,Cv,h,w)."""
        return self.Key(r4), self.Value(r4)
