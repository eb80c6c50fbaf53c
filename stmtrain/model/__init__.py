"""The STM model; no files and no recipes, only tensors."""

from stmtrain.model.encoders import BACKBONES, Backbone
from stmtrain.model.memory import read_memory
from stmtrain.model.objects import aggregate, on_device, per_object, slots
from stmtrain.model.stm import STM, Query, set_batchnorm

__all__ = [
    "BACKBONES",
    "STM",
    "Backbone",
    "Query",
    "aggregate",
    "on_device",
    "per_object",
    "read_memory",
    "set_batchnorm",
    "slots",
]
