"""How a training step is computed: precision, memory layout, compilation, recomputation.

No choice changes the method. All but ``bfloat16`` and ``tf32`` also leave the numbers unchanged, up
to the rounding of float32.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from stmtrain.errors import UsageError
from stmtrain.model import STM
from stmtrain.training.recipe import TrainRecipe

_FUSED_ADAM = ("cuda", "cpu")  # measured twice as fast on a CPU; a single kernel on a GPU


def prepare(model: STM, recipe: TrainRecipe) -> STM:
    """Make a model compute as the recipe says, in place; its state dict keeps its names.

    Call it once, when the model is on its device and before the optimiser is created. A deep copy
    of a compiled model is not compiled.

    - ``tf32`` is set for the complete process. It lets float32 convolutions and matrix products on
      NVIDIA GPUs round their factors to 10 bits, which is several times as fast. PyTorch does so
      for convolutions by default; here it is off by default: float32 is float32 on every device.
    - ``channels_last`` stores images as NHWC, which matrix units of GPUs and CPUs read directly.
    - ``compile`` compiles the stages of the encoders and the blocks of the decoder. It takes
      minutes at the start, and again for the second and third number of objects.
    - ``checkpoint_activations`` keeps only the inputs of encoders and decoder, and recomputes the
      rest in the backward pass: a third more work, far less memory.

    ``precision`` takes effect in the forward pass (:func:`stmtrain.model.precision.autocast`):
    weights, gradients and Adam are always float32, and so are similarity and softmax of the memory
    read, aggregation and loss.

    Raises:
        UsageError: The GPU has no bfloat16 arithmetic.
    """
    device = next(model.parameters()).device
    if recipe.precision == "bfloat16" and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise UsageError(
                    f"precision = bfloat16: {torch.cuda.get_device_name()} has no bfloat16 "
                    "arithmetic; use float32"
                )
    torch.backends.cuda.matmul.allow_tf32 = recipe.tf32
    torch.backends.cudnn.allow_tf32 = recipe.tf32
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    model.checkpoint_activations = recipe.checkpoint_activations
    if recipe.compile:
        for part in _compilable(model):
            part.compile()
    return model


def adam(
    model: nn.Module, recipe: TrainRecipe, saved: Mapping[str, Any] | None = None
) -> torch.optim.Adam:
    """Create Adam for a model, new or with a saved state, fused where the device supports it.

    Fused and plain Adam differ in the last bits of float32. A state that was saved on one kind of
    device can be loaded on another.

    Args:
        model: Its parameters are updated; must be on its final device.
        recipe: Step size (the training step changes it), decays and denominator offset.
        saved: ``state_dict()`` of the optimiser to continue, checked against the model by
            :func:`stmtrain.weights.checkpoint.load_training_state`.
    """
    parameters = list(model.parameters())
    fused = all(p.device.type in _FUSED_ADAM for p in parameters)
    optimizer = torch.optim.Adam(
        parameters, recipe.learning_rate, recipe.adam_betas, recipe.adam_eps, fused=fused
    )
    if saved is not None:
        # Only the moments are taken, in the memory layout of their parameters: fused kernels read
        # both as one run of numbers. The settings are those of the recipe and of this device.
        states = {
            number: {
                name: value
                if value.dim() == 0
                else torch.empty_like(parameters[number]).copy_(value)
                for name, value in state.items()
            }
            for number, state in saved["state"].items()
        }
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": states, "param_groups": groups})
    return optimizer


def _compilable(model: STM) -> Iterator[nn.Module]:
    """Yield the parts whose graph depends only on the shapes of tensors.

    The code between them (selection of a frame's objects, memory read) depends on the numbers of
    objects and would be recompiled again and again.
    """
    for encoder in (model.Encoder_M, model.Encoder_Q):
        yield from (encoder.res2, encoder.res3, encoder.res4)
    yield from (model.KV_M_r4, model.KV_Q_r4)
    yield model.Decoder.ResMM
    for refine in (model.Decoder.RF3, model.Decoder.RF2):
        yield from (refine.ResFS, refine.ResMM)
