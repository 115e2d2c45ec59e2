"""What each tensor is and where, inferred from names, shapes and config: no table of architectures."""

from cuvee.structure.infer import infer
from cuvee.structure.layers import Layer, Stack, is_before_layers, layer_of, stacks
from cuvee.structure.structure import Blocks, Fused, Structure, TensorPlace, Tie

__all__ = [
    "Blocks",
    "Fused",
    "Layer",
    "Stack",
    "Structure",
    "TensorPlace",
    "Tie",
    "infer",
    "is_before_layers",
    "layer_of",
    "stacks",
]
