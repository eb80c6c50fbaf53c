"""How a training step is computed, as opposed to what: precision, layout, compilation, memory.

Every choice leaves the method as it is. All but ``bfloat16`` and ``tf32`` leave the numbers as they
are too, up to the rounding of float32.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stmtrain.errors import UsageError
from stmtrain.model import STM
from stmtrain.model.precision import Precision

__all__ = ["Acceleration", "adam", "prepare"]

_FUSED_ADAM = ("cuda", "cpu")  # measured twice as fast on a CPU; one kernel for all on a GPU


@dataclass(frozen=True)
class Acceleration:
    """How to compute, in plain values.

    Attributes:
        precision: Of convolutions and of the weighted sum of the memory read. Weights, gradients
            and Adam are float32 always, and so are similarity and softmax of the memory read,
            aggregation and loss.
        tf32: Let float32 convolutions and matrix products on NVIDIA GPUs round their factors to
            10 bits, several times as fast. PyTorch itself does so for convolutions unless told
            otherwise; here it is off unless asked for, so that float32 is float32 on any device.
        channels_last: Keep pictures as NHWC, which the matrix units of GPUs and CPUs read directly.
        compile: ``torch.compile`` the stages of the encoders and the blocks of the decoder; takes
            minutes at the start, and again for the second and third number of objects it meets.
        checkpoint_activations: Keep what enters encoders and decoder only, and compute what is
            inside them again in the backward pass: a third more work, far less memory.
    """

    precision: Precision = "float32"
    tf32: bool = False
    channels_last: bool = False
    compile: bool = False
    checkpoint_activations: bool = False


def prepare(model: STM, how: Acceleration) -> STM:
    """Make a model compute as asked for, in place; names in its state dict stay.

    Call it once, when the model is on its device and before the optimiser is made. A deep copy of a
    compiled model is not compiled. ``tf32`` is a switch of the whole process.

    Raises:
        UsageError: The device of the model has no bfloat16 arithmetic.
    """
    device = next(model.parameters()).device
    if how.precision == "bfloat16" and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise UsageError(
                    f"precision = bfloat16: {torch.cuda.get_device_name()} has no bfloat16 "
                    "arithmetic; use float32"
                )
    torch.backends.cuda.matmul.allow_tf32 = how.tf32
    torch.backends.cudnn.allow_tf32 = how.tf32
    if how.channels_last:
        model.to(memory_format=torch.channels_last)
    model.checkpoint_activations = how.checkpoint_activations
    if how.compile:
        for part in _compilable(model):
            part.compile()
    return model


def adam(
    model: nn.Module,
    *,
    learning_rate: float,
    betas: tuple[float, float],
    eps: float,
    saved: Mapping[str, Any] | None = None,
) -> torch.optim.Adam:
    """Make Adam for a model, new or as it was saved, fused where the model's device has that.

    Fused and plain Adam differ in the last bits of float32. What was saved on one kind of device
    goes on on another in the way of the new one.

    Args:
        model: Its parameters are updated; on its final device.
        learning_rate: Step size, until it is set for a step.
        betas: Decays of the two moments.
        eps: Offset of the denominator.
        saved: ``state_dict()`` of the optimiser that is to go on.
    """
    parameters = list(model.parameters())
    fused = all(p.device.type in _FUSED_ADAM for p in parameters)
    optimizer = torch.optim.Adam(parameters, learning_rate, betas, eps, fused=fused)
    if saved is not None:
        # The flag decides where the step counter lives, so it must be right before it is loaded.
        groups = [group | {"fused": fused} for group in saved["param_groups"]]
        optimizer.load_state_dict({**saved, "param_groups": groups})
    return optimizer


def _compilable(model: STM) -> Iterator[nn.Module]:
    """Yield the parts whose graph depends on nothing but the shapes of tensors.

    What runs between them (the choice of a frame's objects, the memory read) depends on the counts
    of objects and would be compiled again and again.
    """
    for encoder in (model.Encoder_M, model.Encoder_Q):
        yield from (encoder.res2, encoder.res3, encoder.res4)
    yield from (model.KV_M_r4, model.KV_Q_r4)
    yield model.Decoder.ResMM
    for refine in (model.Decoder.RF3, model.Decoder.RF2):
        yield from (refine.ResFS, refine.ResMM)
