"""What a network of a family is: how it is built, and its inputs by sizes."""

import dataclasses
import typing

import torch
from torch import nn


@dataclasses.dataclass
class Network:
    family: str
    name: str
    build: typing.Callable[[], nn.Module]
    # Of sizes by name: tensors by name.
    inputs: typing.Callable[[dict], dict]
    # Of each input, its axes: the name of a size, or None where it is fixed.
    axes: dict
    # The first are those of the export.
    sizes: list
    # Versions of the operators, which the forms of an export take in turn.
    versions: tuple
    # By which exporters.
    exporters: tuple = ("old", "new")


def randomised(model):
    """Statistics, scales and shifts that are not those of a fresh network."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.3, 0.3)
            nn.init.uniform_(part.running_var, 0.6, 1.5)
        if getattr(part, "weight", None) is not None and part.weight.dim() == 1:
            nn.init.uniform_(part.weight, 0.7, 1.3)
        if isinstance(getattr(part, "bias", None), torch.Tensor):
            nn.init.uniform_(part.bias, -0.1, 0.1)
    return model
