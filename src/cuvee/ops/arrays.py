"""Arrays of any library that follows the array API standard (NumPy, torch), and numbers laid along their models."""

from typing import Any, TypeAlias

from array_api_compat import array_namespace

__all__ = ["Array", "along_models", "array_namespace", "sum_models"]

Array: TypeAlias = Any
"""An array of the standard. The libraries share no base class that a type checker could use."""


def along_models(numbers: Array, stack: Array) -> Array:
    """Return one number a model as an array of `stack`'s type that multiplies `stack` [models, *shape]."""
    xp = array_namespace(stack)
    return xp.reshape(xp.astype(xp.asarray(numbers), stack.dtype), (-1,) + (1,) * (stack.ndim - 1))


def sum_models(stack: Array) -> Array:
    """Add `stack` [models, *shape] over the models, strictly in their order.

    A library's own sum may pair terms up, in a way that depends on the shape. Numbers of 16 bits are added up in
    float32 and rounded once.
    """
    xp = array_namespace(stack)
    narrow = stack.dtype.itemsize == 2
    wide = xp.astype(stack, xp.float32) if narrow else stack
    total = wide[0, ...]
    for i in range(1, wide.shape[0]):
        total = total + wide[i, ...]
    return xp.astype(total, stack.dtype) if narrow else total
