"""Blocks are those of llama.cpp's quantiser, byte for byte, and hold the numbers within their rounding."""

import ctypes
import platform
from collections.abc import Callable

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")

from cuvee.export.gguf_blocks import quantized  # noqa: E402  # after the skip

KINDS = ("Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q5_1", "Q5_0", "Q4_0", "MXFP4")
ROWS, WIDTH = 24, 1024


def _uneven(generator: np.random.Generator) -> np.ndarray:
    """Parts of very different sizes within a block."""
    numbers = generator.standard_normal((ROWS, WIDTH // 16, 16))
    return (numbers * 10.0 ** generator.uniform(-8, 3, (ROWS, WIDTH // 16, 1))).reshape(ROWS, WIDTH)


PATTERNS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "weights": lambda generator: generator.standard_normal((ROWS, WIDTH)) * 0.02,
    "heavy tails": lambda generator: generator.standard_t(2, (ROWS, WIDTH)),
    "parts of very different sizes": _uneven,
    "tiny": lambda generator: generator.laplace(size=(ROWS, WIDTH)) * 1e-6,
    "smaller than float16 holds": lambda generator: generator.standard_normal((ROWS, WIDTH)) * 1e-20,
    "large": lambda generator: generator.standard_normal((ROWS, WIDTH)) * 1e4,
    "above zero": lambda generator: np.abs(generator.standard_normal((ROWS, WIDTH))),
    "below zero": lambda generator: -np.abs(generator.standard_normal((ROWS, WIDTH))),
    "mostly zero": lambda generator: np.abs(generator.standard_normal((ROWS, WIDTH))) * (
        generator.random((ROWS, WIDTH)) < 0.05
    ),
    "whole numbers": lambda generator: generator.integers(-3, 4, (ROWS, WIDTH)),
    "hardly different": lambda generator: -1 + generator.integers(-2, 3, (ROWS, WIDTH)) * 6e-8,
    "all the same": lambda generator: np.repeat(generator.standard_normal((ROWS, 1)), WIDTH, axis=1),
    "zero": lambda generator: np.zeros((ROWS, WIDTH)),
}  # fmt: skip


def llama_cpp_blocks(rows: np.ndarray, kind: str) -> np.ndarray:
    """Quantise with ggml's own function, which the library of xllamacpp lets out."""
    library = ctypes.CDLL(pytest.importorskip("xllamacpp").xllamacpp.__file__)
    if not hasattr(library, "ggml_quantize_chunk"):
        pytest.skip("this build of llama.cpp lets no function out")
    chosen = gguf.GGMLQuantizationType[kind]
    block, block_bytes = gguf.GGML_QUANT_SIZES[chosen]
    blocks = np.empty((len(rows), WIDTH // block * block_bytes), np.uint8)
    pointers = (ctypes.c_void_p(rows.ctypes.data), ctypes.c_void_p(blocks.ctypes.data))
    sizes = (ctypes.c_int64(0), ctypes.c_int64(len(rows)), ctypes.c_int64(WIDTH))
    library.ggml_quantize_chunk(int(chosen), *pointers, *sizes, None)
    return blocks


def numbers_of(pattern: str) -> np.ndarray:
    return PATTERNS[pattern](np.random.default_rng(0)).astype(np.float32)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere compilers fuse products and sums")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_blocks_are_those_of_llama_cpp(pattern, kind):
    rows = numbers_of(pattern)
    assert np.array_equal(quantized(rows, kind), llama_cpp_blocks(rows, kind))


@pytest.mark.parametrize(("kind", "share"), [("Q4_K", 0.08), ("Q5_K", 0.04), ("Q6_K", 0.02)])
@pytest.mark.parametrize("pattern", ["weights", "large", "above zero", "below zero"])
def test_little_of_the_numbers_is_lost(pattern, kind, share):
    rows = numbers_of(pattern)
    back = gguf.dequantize(quantized(rows, kind), gguf.GGMLQuantizationType[kind])
    assert np.linalg.norm(back - rows) < share * np.linalg.norm(rows)


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K"])
def test_blocks_do_not_hang_on_what_is_written_with_them(kind):
    rows = np.concatenate([numbers_of(pattern) for pattern in PATTERNS])
    alone = [quantized(row[None], kind) for row in rows[::17]]
    assert np.array_equal(np.concatenate(alone), quantized(rows, kind)[::17])


def test_numbers_that_are_of_mxfp4_come_back_as_they_are():
    generator = np.random.default_rng(0)
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    signed = values[generator.integers(0, 8, (64, 4, 32))] * generator.choice(np.float32([-1, 1]), (64, 4, 32))
    few = values[generator.integers(0, 4, (64, 4, 32))]  # blocks without a large number get a smaller exponent
    rows = np.concatenate([signed, few]) * np.ldexp(np.float32(1), generator.integers(-20, 20, (128, 4, 1)))
    rows = rows.astype(np.float32).reshape(128, 128)
    assert np.array_equal(gguf.dequantize(quantized(rows, "MXFP4"), gguf.GGMLQuantizationType.MXFP4), rows)
