"""Linear layers multiplied by oneDNN where torch would take a slower library.

In float32 torch multiplies by MKL, which does not use the AVX-512 of processors by AMD: there oneDNN, which torch has
too, took 0.4 to 0.6 of the time from 4 rows on (torch 2.13, EPYC of Zen 5, weights of 576 × 1536 and 576 × 49152), and
as long for a single row. The sums are the same but for their order.
"""

from pathlib import Path
from typing import Any

import torch

FEWEST_WEIGHTS = 2**18
"""Of a layer that is worth it."""

CPU_INFO = Path("/proc/cpuinfo")


class OneDnnLinear(torch.nn.Linear):
    """A linear layer that oneDNN multiplies, except where gradients are asked for."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or input.dtype != torch.float32:
            return super().forward(input)
        product: torch.Tensor = _product(input, self.weight, self.bias)
        return product


def hasten(module: Any) -> int:
    """Let oneDNN multiply the large linear layers of a float32 model in memory, and return how many those are."""
    large = [layer for layer in module.modules() if _is_large(layer)]
    if not large or not mkl_is_slow() or not _works(large[0]):
        return 0
    for layer in large:
        layer.__class__ = OneDnnLinear
    return len(large)


def mkl_is_slow() -> bool:
    """Whether this is a processor by AMD with AVX-512, and a torch that has both libraries."""
    backends: Any = torch.backends
    if not backends.mkl.is_available() or not backends.mkldnn.is_available():
        return False
    try:
        processor = CPU_INFO.read_text(encoding="utf-8")
    except OSError:
        return False
    return "AuthenticAMD" in processor and "avx512f" in processor


def _is_large(layer: Any) -> bool:
    if type(layer) is not torch.nn.Linear or layer.weight.device.type != "cpu":
        return False
    return layer.weight.dtype == torch.float32 and layer.weight.numel() >= FEWEST_WEIGHTS


@torch.inference_mode()
def _works(layer: torch.nn.Linear) -> bool:
    """Whether this release of torch multiplies a layer as it should: it does not document the operation."""
    rows = torch.linspace(-1, 1, 3 * layer.in_features).reshape(3, -1)
    expected = torch.nn.functional.linear(rows, layer.weight, layer.bias)
    try:
        product = _product(rows, layer.weight, layer.bias)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return False
    return torch.allclose(product, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def _product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return product
