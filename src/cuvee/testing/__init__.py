"""For tests, ours and those of plug-in authors: tiny models made from a seed, and the contract of merge methods.

Nothing of cuvee imports this room.
"""

from cuvee.testing.method_contract import MethodContract
from cuvee.testing.models import TINY_LLAMA, llama_shapes, random_weights, write_model

__all__ = ["TINY_LLAMA", "MethodContract", "llama_shapes", "random_weights", "write_model"]
