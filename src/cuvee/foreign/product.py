"""Codes times scales: the numbers that stored codes stand for, worked out for the rows that are read.

Products are taken in float32 and rounded once, to the scales' type, as compressed-tensors and transformers do.
"""

import numpy as np

from cuvee.checkpoint import TensorSpec
from cuvee.checkpoint.dtypes import MERGEABLE
from cuvee.foreign.decoded import Decoding
from cuvee.foreign.grid import Grid, Rows, is_exponent


def product(
    stored: TensorSpec,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    codes: Rows,
    scales: Grid,
    zero: Grid | None = None,
) -> Decoding:
    """View a matrix, or a stack of them as a tall matrix, as (codes - zero points) × scales, of type `dtype`."""
    width = shape[-1]

    def decode(first: int, last: int) -> np.ndarray:
        low, high = first // width, -(-last // width)
        numbers: np.ndarray = codes(low, high)
        if zero is not None:
            numbers = numbers - zero.over(low, high, width)
        numbers = numbers * scales.over(low, high, width)
        return numbers.reshape(-1)[first - low * width : last - low * width]

    return Decoding(TensorSpec(name, dtype, shape, stored.file, 0), decode)


def rounded_to(scales: str) -> str:
    """Return the type that products with scales of a type are rounded to; bfloat16 for scales of one byte."""
    if is_exponent(scales) or scales not in MERGEABLE:
        return "BF16"
    return "F32" if scales == "F64" else scales
