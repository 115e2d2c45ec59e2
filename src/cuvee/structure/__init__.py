"""Which tensor belongs to which layer, inferred from names: no table of architectures."""

from cuvee.structure.layers import Layer, Stack, is_before_layers, layer_of, stacks

__all__ = ["Layer", "Stack", "is_before_layers", "layer_of", "stacks"]
