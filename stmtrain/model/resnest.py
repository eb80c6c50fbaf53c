"""ResNeSt up to its third stage: residual blocks whose 3x3 convolution is a split attention.

``B`` pictures, ``C`` channels, ``R`` splits ("radix"), ``h w`` the grid of a stage. Written from
Zhang et al., "ResNeSt: Split-Attention Networks", 2020 (arXiv 2004.08955), for one cardinal group.
Names and order of modules match the published weights of the authors, so that they can be loaded.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

_RADIX = 2
_REDUCTION = 4
_EXPANSION = 4
_STEM = 64  # channels within the deep stem; it ends with twice as many

Norm = Callable[[int], nn.BatchNorm2d]


class ResNeSt(nn.Module):
    """Stem and stages under the names of torchvision's ``ResNet``; without a forward method."""

    def __init__(self, depths: tuple[int, int, int], norm: Norm) -> None:
        """Build the layers with random weights.

        Args:
            depths: Number of blocks in the stages of stride 4, 8 and 16.
            norm: Builds the normalisation for a number of channels.
        """
        super().__init__()
        self.conv1 = nn.Sequential(
            _conv3x3(3, _STEM, stride=2),
            norm(_STEM),
            nn.ReLU(inplace=True),
            _conv3x3(_STEM, _STEM),
            norm(_STEM),
            nn.ReLU(inplace=True),
            _conv3x3(_STEM, 2 * _STEM),
        )
        self.bn1 = norm(2 * _STEM)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(2 * _STEM, 64, depths[0], 1, norm)
        self.layer2 = _stage(64 * _EXPANSION, 128, depths[1], 2, norm)
        self.layer3 = _stage(128 * _EXPANSION, 256, depths[2], 2, norm)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class SplitAttention(nn.Module):
    """A 3x3 convolution to R splits of C channels, mixed by attention over the splits.

    Source: section 3.1, figure 2 (right).
    """

    def __init__(self, width: int, norm: Norm) -> None:
        """Build the layers; ``width`` channels in and out."""
        super().__init__()
        hidden = max(32, width * _RADIX // _REDUCTION)
        self.conv = _conv3x3(width, width * _RADIX, groups=_RADIX)
        self.bn0 = norm(width * _RADIX)
        self.fc1 = nn.Conv2d(width, hidden, kernel_size=1)
        self.bn1 = norm(hidden)
        self.fc2 = nn.Conv2d(hidden, width * _RADIX, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B,C,h,w) to the same shape."""
        splits = F.relu(self.bn0(self.conv(x))).unflatten(1, (_RADIX, -1))  # B R C h w
        context = splits.sum(dim=1).mean(dim=(2, 3), keepdim=True)  # B C 1 1
        scores = self.fc2(F.relu(self.bn1(self.fc1(context))))  # B RC 1 1
        weights = scores.unflatten(1, (_RADIX, -1)).softmax(dim=1)  # B R C 1 1
        return (weights * splits).sum(dim=1)


class Block(nn.Module):
    """Bottleneck block; with a stride of 2, it halves the resolution by average pooling."""

    def __init__(self, channels: int, width: int, stride: int, norm: Norm) -> None:
        """Build the layers.

        Args:
            channels: Of the input; the output has ``4 * width``.
            width: Channels of the split attention.
            stride: 1, or 2 for average pooling after the split attention.
            norm: Builds the normalisation for a number of channels.
        """
        super().__init__()
        out = width * _EXPANSION
        self.conv1 = _conv1x1(channels, width)
        self.bn1 = norm(width)
        self.conv2 = SplitAttention(width, norm)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else nn.Identity()
        self.conv3 = _conv1x1(width, out)
        self.bn3 = norm(out)
        self.downsample = (
            nn.Identity() if channels == out else _shortcut(channels, out, stride, norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B,C,h,w) to (B,4*width,h/stride,w/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.pool(self.conv2(y))))
        return F.relu(y + self.downsample(x))


def _stage(channels: int, width: int, depth: int, stride: int, norm: Norm) -> nn.Sequential:
    out = width * _EXPANSION
    first = Block(channels, width, stride, norm)
    return nn.Sequential(first, *(Block(out, width, 1, norm) for _ in range(depth - 1)))


def _shortcut(channels: int, out: int, stride: int, norm: Norm) -> nn.Sequential:
    # The part of a window outside the picture does not count in its average.
    pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
    return nn.Sequential(pool, _conv1x1(channels, out), norm(out))


def _conv3x3(channels: int, out: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, stride, padding=1, groups=groups, bias=False)


def _conv1x1(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel_size=1, bias=False)
