"""The role and place of each tensor, inferred from names, shapes and config: no table of architectures."""

from cuvee.structure.config import text_config, text_part
from cuvee.structure.infer import infer
from cuvee.structure.layer_rules import depth_said
from cuvee.structure.layers import Layer, Stack, is_before_layers, layer_of, predicts_ahead, stacks
from cuvee.structure.structure import Blocks, Fused, Structure, TensorPlace, Tie

__all__ = [
    "Blocks",
    "Fused",
    "Layer",
    "Stack",
    "Structure",
    "TensorPlace",
    "Tie",
    "depth_said",
    "infer",
    "is_before_layers",
    "layer_of",
    "predicts_ahead",
    "stacks",
    "text_config",
    "text_part",
]
