"""Torch tensors as NumPy arrays over the same memory, and back.

torch is never imported here: whoever hands us a tensor has done so. NumPy lacks some of torch's types, so bits cross.
"""

import sys
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from cuvee.errors import CheckpointError

Tensor: TypeAlias = Any
"""A NumPy array or a torch tensor."""

_OWN_TYPES = {
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8_e8m0fnu": ml_dtypes.float8_e8m0fnu,
}
"""Types that NumPy has from ml_dtypes only, by torch's names for them."""


def as_numpy(tensor: Tensor, name: str = "tensor") -> np.ndarray:
    """Return the tensor as an array, without a copy if it lies whole in the main memory. `name` is for messages."""
    if isinstance(tensor, np.ndarray):
        return tensor
    if not _is_torch(tensor):
        found = type(tensor).__name__
        raise CheckpointError(f"'{name}': expected a NumPy array or a torch tensor, found {found}")
    plain = tensor.detach().cpu().contiguous()
    own = _OWN_TYPES.get(_word(plain))
    array: np.ndarray = plain.numpy() if own is None else plain.view(_bits(own)).numpy().view(own)
    return array


def in_kind_of(like: Tensor, array: np.ndarray) -> Tensor:
    """Return the array in the kind of `like`: itself, or a torch tensor over its memory, on the device of `like`."""
    if not _is_torch(like):
        return array
    torch: Any = sys.modules["torch"]
    own = _OWN_TYPES.get(_word(like))
    if own is None:
        return torch.from_numpy(array).to(like.device)
    integers = np.int16 if array.itemsize == 2 else np.uint8
    return torch.from_numpy(array.view(integers)).view(like.dtype).to(like.device)


def _is_torch(tensor: Tensor) -> bool:
    return "torch" in sys.modules and isinstance(tensor, sys.modules["torch"].Tensor)


def _word(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _bits(own: Any) -> Any:
    torch: Any = sys.modules["torch"]
    return torch.int16 if np.dtype(own).itemsize == 2 else torch.uint8
