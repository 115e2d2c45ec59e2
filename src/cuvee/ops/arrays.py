"""Arrays of any library that follows the array API standard (NumPy, torch), and numbers laid along their models."""

from typing import Any, TypeAlias

from array_api_compat import array_namespace

__all__ = ["Array", "along_models", "array_namespace", "scaled", "sum_models", "wide"]

Array: TypeAlias = Any
"""An array of the standard. The libraries share no base class that a type checker could use."""


def along_models(numbers: Array, stack: Array) -> Array:
    """Return one number a model as an array of `stack`'s type that multiplies `stack` [models, *shape]."""
    xp = array_namespace(stack)
    return xp.reshape(xp.astype(xp.asarray(numbers), stack.dtype), (-1,) + (1,) * (stack.ndim - 1))


def wide(array: Array) -> Array:
    """Return an array's numbers, those of 16 bits in float32."""
    xp = array_namespace(array)
    return xp.astype(array, xp.float32) if array.dtype.itemsize == 2 else array


def scaled(array: Array, number: float) -> Array:
    """Multiply by a number that is not first rounded to 16 bits; the products are."""
    xp = array_namespace(array)
    return xp.astype(wide(array) * number, array.dtype)


def sum_models(stack: Array) -> Array:
    """Add `stack` [models, *shape] over the models, strictly in their order.

    A library's own sum may pair terms up, in a way that depends on the shape. Numbers of 16 bits are added up in
    float32 and rounded once.
    """
    xp = array_namespace(stack)
    terms = wide(stack)
    total = terms[0, ...]
    for i in range(1, terms.shape[0]):
        total = total + terms[i, ...]
    return xp.astype(total, stack.dtype) if total.dtype != stack.dtype else total
