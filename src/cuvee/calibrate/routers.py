"""Routers of a mixture of experts: found by their outputs when they are tried, solved so as to choose as models do.

A router that gives shares of softmax(x·Wᵀ) is solved by the curvature of that choice (HARC, arXiv:2606.03391; see
`cuvee.upcycle.regression`): each model's own router says on that model's text which choice is wanted. Routers that
choose by sigmoids or with biases beside stay as they are in the merge.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cuvee.calibrate.sites import LINEAR, Linear, Site
from cuvee.calibrate.solve import Rows
from cuvee.upcycle.regression import Wanted, fit_router, wanted_of_router

Tensor = torch.Tensor

MOST_POSITIONS = 4096
"""Positions of an expert's text that routers are solved from, spread over the text."""

MOST_STEPS = 100
"""Of conjugate gradients: further ones only fit what few positions ask for."""

LARGEST_DIFFERENCE = 1e-3
"""Between a router's scores and those of a softmax, as a part of the largest."""

Call = tuple[Tensor, Any]
"""What a module was shown, and what it gave."""


def find_routers(block: Any, positions: int, run: Callable[[], object]) -> tuple[Site, ...]:
    """Return the routers of a block as sites of one map each. `run` runs the block once on so many positions."""
    calls: dict[str, list[Call]] = {}
    handles = []
    for name, module in block.named_modules():
        if _holds_one_matrix(module):
            noting = _noting(calls.setdefault(name, []))
            handles.append(module.register_forward_hook(noting))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    routers = []
    for name, own in calls.items():
        weight = block.get_submodule(name).weight
        if len(own) == 1 and _chooses_by_softmax(weight, own[0], positions):
            routers.append(Site(name, int(weight.shape[1]), (Linear(name, input_first=False),)))
    return tuple(routers)


def _holds_one_matrix(module: Any) -> bool:
    """Say whether a module has a matrix and nothing beside it, and is not a plain linear map."""
    names = [name for name, _ in module.named_parameters(recurse=False)]
    others = [*module.buffers(recurse=False), *module.children()]
    if names != ["weight"] or others:
        return False
    return bool(module.weight.dim() == 2) and not isinstance(module, LINEAR)


def _noting(calls: list[Call]) -> Any:
    def hook(module: Any, arguments: tuple[Any, ...], output: Any) -> None:
        if arguments and isinstance(arguments[0], Tensor):
            calls.append((arguments[0], output))

    return hook


def _choice(output: tuple[Any, ...], positions: int) -> tuple[Tensor, Tensor] | None:
    """Find the chosen experts and their scores, [positions, experts], in an output; None where that is not clear."""
    tables = [own for own in output if _is_table(own, positions)]
    chosen = [own for own in tables if own.dtype == torch.int64]
    numbers = [own for own in tables if own.is_floating_point()]
    if len(chosen) != 1:
        return None
    scores = [own for own in numbers if own.shape == chosen[0].shape]
    return (chosen[0], scores[0]) if len(scores) == 1 else None


def _is_table(value: Any, positions: int) -> bool:
    """Say whether a value is a tensor with a row for each position."""
    return isinstance(value, Tensor) and value.dim() == 2 and len(value) == positions


def _chooses_by_softmax(weight: Tensor, call: Call, positions: int) -> bool:
    """Say whether a module that was shown each position once gives experts with shares of softmax(x·Wᵀ)."""
    inputs, output = call
    if not isinstance(output, tuple) or inputs.numel() != positions * weight.shape[1]:
        return False
    shares = torch.softmax(inputs.reshape(positions, -1) @ weight.T, dim=-1)
    found = _choice(output, positions)
    if found is None:
        return False
    chosen, own = found
    expected = shares.gather(1, chosen)
    if own.shape[1] == 1:
        expected, own = expected.T, own.T  # a row of one score fits any scale: all rows must then have the same one
    scale = own.sum(1, keepdim=True) / expected.sum(1, keepdim=True)
    return bool(((own - scale * expected).abs() <= LARGEST_DIFFERENCE * own.amax(1, keepdim=True)).all())


class RouterFits:
    """The wishes of experts to a block's routers, for a ridge; `anchors` are the routers by name, [experts, width].

    Without a ridge, None, routers stay at the anchors.
    """

    def __init__(self, anchors: Mapping[str, Tensor], ridge: float | None) -> None:
        self._anchors, self._ridge = anchors, ridge
        self._wanted: dict[str, list[Wanted]] = {name: [] for name in anchors}

    def add(self, name: str, router: Tensor, rows: Rows, weight: float) -> None:
        """Add an expert's own router, and the inputs of its text to the merge's router and to its own."""
        matrix, targets = router.cpu().double().numpy(), rows.targets.cpu().numpy()
        wanted = wanted_of_router(matrix, targets, weight)
        self._wanted[name].append(replace(wanted, inputs=rows.inputs.cpu().double().numpy()))

    def solve(self) -> dict[str, Tensor]:
        """Return the solved routers; none without a ridge."""
        if self._ridge is None:
            return {}
        solved = {}
        for name, anchor in self._anchors.items():
            start = anchor.cpu().double().numpy()
            fit = fit_router(start, self._wanted[name], ridge=self._ridge, most_steps=MOST_STEPS)
            solved[name] = torch.from_numpy(fit.weight)
        return solved

    def residual(self, name: str, router: Tensor) -> float:
        """Return the mean over experts of Σ(W·x - z)ᵀH(W·x - z)/ΣzᵀHz: how far a router is from their choices."""
        matrix = router.cpu().double().numpy()
        parts = []
        for wanted in self._wanted[name]:
            apart = _curved(wanted, wanted.inputs @ matrix.T - wanted.logits)
            size = _curved(wanted, wanted.logits)
            parts.append(apart / size if size > 0 else 0.0)
        return sum(parts) / len(parts) if parts else 0.0


def _curved(wanted: Wanted, logits: np.ndarray) -> float:
    """Return ΣzᵀHz for logits z [n, experts]: the sum of their variances under the wanted choices."""
    means = (wanted.probabilities * logits).sum(axis=1, keepdims=True)
    return float((wanted.probabilities * (logits - means) ** 2).sum())
