"""The STM model, as functions of tensors: it knows neither files nor recipes."""

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
