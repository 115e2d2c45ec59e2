"""Groups of tensors that a recipe can take from a model instead of merging them, and rules for missing tensors."""

from typing import Literal, get_args

Group = Literal["embeddings", "experts", "routers", "language", "vision", "audio", "projector", "encoder", "decoder"]
GROUPS: tuple[Group, ...] = get_args(Group)

Missing = Literal["fail", "skip", "base"]
"""What becomes of a tensor that only some models have.

fail: the recipe is refused. skip: the models that have it are merged; a single one's is taken as it is. base: the base
model's (or else the first model's) is taken as it is, and what only others have is left out.
"""
