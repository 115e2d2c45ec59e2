"""Numbers of 16 and 32 bits for compiled loops: arrays hold words, as `words` says, arithmetic is in float32."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numba import types
from numba.extending import overload

OPTIONS = {"error_model": "numpy", "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""A division by zero gives infinity, as in NumPy: a check for it would stop vectorisation. Nothing is allocated, and
there is no way in from Python: `native` calls the machine code itself."""

MAGNITUDE = np.uint32(0x7FFFFFFF)

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(function: Any, **options: Any) -> Any:
    """Compile a function when it is first called, for the types of its arguments."""
    return numba.njit(**OPTIONS, **options)(function)


def reordered(function: Any) -> Any:
    """Compile sums whose order does not matter, because they are only shown."""
    return compiled(function, fastmath={"reassoc"})


def contracted(function: Any) -> Any:
    """Compile sums of products that are exact: to multiply and add in one instruction gives the same bits."""
    return compiled(function, fastmath={"contract"})


def _by_type(function: Any) -> Callable[[_F], _F]:
    """Choose the body of a function in compiled code by the types of its arguments."""
    decorate: Callable[[_F], _F] = overload(function)
    return decorate


def load(word: Any) -> Any:
    """Return the float32 number that a word holds."""


def rounded(kind: Any, number: Any) -> Any:
    """Return a float32 number rounded to the nearest even number of the type that the word `kind` is of."""


def store(kind: Any, number: Any) -> Any:
    """Return the word of the type of `kind` that holds a float32 number, rounded to nearest even."""


def settle(kind: Any, into: Any, number: Any) -> Any:
    """Return `store(into, number)` of a number that is rounded to the type of `kind` already."""


def bits(number: Any) -> Any:
    """Return the bit pattern of a float32 number."""


def magnitude(word: Any) -> Any:
    """Return the bits of a word without the sign, which are in the order of the magnitudes."""


def infinite(word: Any) -> Any:
    """Return the magnitude's bits of the infinite number of a word's type."""


@_by_type(magnitude)
def _magnitude(word: Any) -> Callable[..., Any]:
    return {types.uint16: _magnitude_half, types.int16: _magnitude_half}.get(word, _magnitude_single)


@_by_type(infinite)
def _infinite(word: Any) -> Callable[..., Any]:
    return {types.uint16: _infinite_brain, types.int16: _infinite_half}.get(word, _infinite_single)


@_by_type(bits)
def _bits(number: Any) -> Callable[..., Any]:
    return _pattern


@_by_type(load)
def _load(word: Any) -> Callable[..., Any]:
    return {types.uint16: _load_brain, types.int16: _load_half}.get(word, _load_single)


@_by_type(store)
def _store(kind: Any, number: Any) -> Callable[..., Any]:
    return {types.uint16: _store_brain, types.int16: _store_half}.get(kind, _store_single)


@_by_type(rounded)
def _rounded(kind: Any, number: Any) -> Callable[..., Any]:
    return {types.uint16: _round_brain, types.int16: _twice}.get(kind, _store_single)


@_by_type(settle)
def _settle(kind: Any, into: Any, number: Any) -> Callable[..., Any]:
    return _cut_brain if kind == into == types.uint16 else _store_settled


def _pattern(number: Any) -> Any:
    return np.float32(number).view(np.uint32)


def _load_single(word: Any) -> Any:
    return word


def _store_single(kind: Any, number: Any) -> Any:
    return number


def _twice(kind: Any, number: Any) -> Any:
    return load(store(kind, number))


def _round_brain(kind: Any, number: Any) -> Any:
    # made of bfloat16 numbers, what is not a number has zeros in its lower half: the carry cannot turn it into zero
    pattern = np.float32(number).view(np.uint32)
    even = np.uint32(np.uint32(pattern >> np.uint32(16)) & np.uint32(1))
    return np.uint32(np.uint32(pattern + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)).view(np.float32)


def _cut_brain(kind: Any, into: Any, number: Any) -> Any:
    return np.uint16(np.float32(number).view(np.uint32) >> np.uint32(16))


def _store_settled(kind: Any, into: Any, number: Any) -> Any:
    return store(into, number)


def _load_brain(word: Any) -> Any:
    return np.uint32(np.uint32(word) << np.uint32(16)).view(np.float32)


def _load_half(word: Any) -> Any:
    pattern = np.uint32(np.uint32(word) & np.uint32(0x7FFF))
    wide = np.uint32(pattern << np.uint32(13))
    # the exponents differ by 112; the product is exact, also for numbers below the normal ones
    number = np.float32(wide.view(np.float32) * np.float32(2.0**112)).view(np.uint32)
    special = np.uint32(wide | np.uint32(0x7F800000))
    sign = np.uint32(np.uint32(np.uint32(word) & np.uint32(0x8000)) << np.uint32(16))
    magnitude = special if pattern >= np.uint32(0x7C00) else number
    return np.uint32(magnitude | sign).view(np.float32)


def _store_brain(kind: Any, number: Any) -> Any:
    pattern = np.float32(number).view(np.uint32)
    even = np.uint32(np.uint32(pattern >> np.uint32(16)) & np.uint32(1))
    near = np.uint32(pattern + np.uint32(0x7FFF) + even)
    quiet = np.uint32(pattern | np.uint32(0x400000))
    # a NaN must stay one: the carry could turn it into zero
    return np.uint16(np.uint32(quiet if number != number else near) >> np.uint32(16))


def _store_half(kind: Any, number: Any) -> Any:
    pattern = np.float32(number).view(np.uint32)
    magnitude = np.uint32(pattern & np.uint32(0x7FFFFFFF))
    even = np.uint32(np.uint32(magnitude >> np.uint32(13)) & np.uint32(1))
    normal = np.uint32(np.uint32(magnitude - np.uint32(112 << 23) + np.uint32(0xFFF) + even) >> np.uint32(13))
    # added to 0.5 a number below the normal ones is rounded to their spacing, 2**-24
    small = np.uint32(np.float32(magnitude.view(np.float32) + np.float32(0.5)).view(np.uint32) - np.uint32(0x3F000000))
    finite = small if magnitude < np.uint32(0x38800000) else normal
    special = np.uint32(0x7E00) if magnitude > np.uint32(0x7F800000) else np.uint32(0x7C00)
    result = special if magnitude >= np.uint32(0x477FF000) else finite
    sign = np.uint32(np.uint32(pattern >> np.uint32(16)) & np.uint32(0x8000))
    return np.int16(np.uint16(np.uint32(result | sign)))


def _magnitude_half(word: Any) -> Any:
    return np.uint16(np.uint16(word) & np.uint16(0x7FFF))


def _magnitude_single(word: Any) -> Any:
    return np.uint32(np.float32(word).view(np.uint32) & np.uint32(0x7FFFFFFF))


def _infinite_brain(word: Any) -> Any:
    return np.uint16(0x7F80)


def _infinite_half(word: Any) -> Any:
    return np.uint16(0x7C00)


def _infinite_single(word: Any) -> Any:
    return np.uint32(0x7F800000)
