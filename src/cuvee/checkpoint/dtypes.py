"""The number types of the safetensors format, by the names in its headers and by the names in recipes."""

import math
from collections.abc import Sequence

import ml_dtypes
import numpy as np

NUMPY: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "C64": np.dtype(np.complex64),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
    "F6_E2M3": np.dtype(np.uint8),
    "F6_E3M2": np.dtype(np.uint8),
    "F4": np.dtype(np.uint8),
}
"""Header name -> NumPy type of the entries, little-endian as the format is."""

PACKED = {"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
"""Types of which several numbers share a byte -> bits of a number. Their entries are bytes."""

MERGEABLE = ("F64", "F32", "F16", "BF16")
"""Types whose numbers are weights. Eight-bit floats are codes that need a scale."""

COUNTS = ("I64", "I32", "BOOL")
"""Types of buffers that hold counts, positions or masks. Narrower integers are codes, too, in most files."""

NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Recipe and config.json name -> header name."""

WORDS = {header: word for word, header in NAMES.items()}


def entry_count(dtype: str, shape: Sequence[int]) -> int:
    """Return how many entries of NumPy's type a tensor is stored in: its numbers, or bytes where they share them."""
    numbers = math.prod(shape)
    return -(-numbers * PACKED[dtype] // 8) if dtype in PACKED else numbers


def kind_of(dtype: str) -> str:
    """Name the contents of a tensor of a type that cannot be merged."""
    if dtype == "C64":
        return "complex numbers"
    return "codes" if dtype.startswith("F") else "integers"


def name_of(dtype: np.dtype) -> str:
    """Return the header's name of a NumPy type. Raises KeyError for a type that the format lacks."""
    for name, numpy_type in NUMPY.items():
        if numpy_type == dtype:
            return name
    raise KeyError(f"safetensors has no type {dtype}")


def promoted(names: list[str]) -> str:
    """Return the smallest float type that holds all of `names` exactly (bfloat16 with float16 gives float32)."""
    kinds = set(names)
    if len(kinds) == 1:
        return kinds.pop()
    return "F64" if "F64" in kinds else "F32"
