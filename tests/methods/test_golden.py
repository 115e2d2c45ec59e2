"""Each method against values from other implementations; tests/golden/README.md says where they come from."""

import json
from pathlib import Path

import numpy as np
import pytest

from cuvee import merge_tensors

GOLDEN = Path(__file__).parent.parent / "golden"
MERGEKIT = json.loads((GOLDEN / "mergekit.json").read_text())
PAPER = json.loads((GOLDEN / "paper.json").read_text())

BASE = np.array(MERGEKIT["base"], np.float32).reshape(3, 4)
DELTAS = [np.array(MERGEKIT[f"tau{i}"], np.float32).reshape(3, 4) for i in (1, 2, 3)]
EXPERTS = [BASE + delta for delta in DELTAS]
C = np.array([2, 1, -1, 0, 1, -2, 3, 1, 0, 1, 2, -1], np.float32).reshape(3, 4)
W = [0.5, 0.3, 0.2]

WEIGHTS = {
    "linear w=.5,.3,.2 (experts)": ("linear", EXPERTS, None, {"weight": W}),
    "linear w=1,1,2 normalize": ("linear", EXPERTS, None, {"weight": [1, 1, 2]}),
    "linear w=1,1,2 normalize=false": ("linear", EXPERTS, None, {"weight": [1, 1, 2], "normalize": False}),
    "slerp(base,A1) t=.3": ("slerp", EXPERTS[:1], BASE, {"t": 0.3}),
    "slerp(A1,C) t=.3 ": ("slerp", [C], EXPERTS[0], {"t": 0.3}),
    "nuslerp(A1,C) w=.7,.3": ("nuslerp", [EXPERTS[0], C], None, {"weight": [0.7, 0.3]}),
    "nuslerp rows flatten=false": (
        "nuslerp",
        [EXPERTS[0], C],
        None,
        {"weight": [0.7, 0.3], "nuslerp_flatten": False},
    ),
    "nuslerp cols flatten=false row_wise=true": (
        "nuslerp",
        [EXPERTS[0], C],
        None,
        {"weight": [0.7, 0.3], "nuslerp_flatten": False, "nuslerp_row_wise": True},
    ),
    "multislerp(A1,A2,C) W": ("multislerp", [*EXPERTS[:2], C], None, {"weight": W}),
    "karcher(A1,A2,C)": ("karcher", [*EXPERTS[:2], C], None, {}),
}

DELTA = {
    "task_arithmetic delta": ("task_arithmetic", {"weight": W}),
    "task_arithmetic normalize,w=1,1,1 delta": ("task_arithmetic", {"weight": 1, "normalize": True}),
    "task_arithmetic lambda .3 w=1 delta": ("task_arithmetic", {"weight": 1, "lambda": 0.3}),
    "ties density 1 w=1 delta": ("ties", {"weight": 1}),
    "ties density 1 w=.5,.3,.2 delta": ("ties", {"weight": W}),
    "ties density .5 w=1 delta": ("ties", {"weight": 1, "density": 0.5}),
    "ties density .5 w=1 normalize=false lambda .7": (
        "ties",
        {"weight": 1, "density": 0.5, "normalize": False, "lambda": 0.7},
    ),
    "ties density .5 w=1 rescale=true": ("ties", {"weight": 1, "density": 0.5, "rescale": True}),
    "dare_linear density 1 w=W": ("dare_linear", {"weight": W}),
    "model_stock delta": ("model_stock", {}),
    # its last row has a negative cosine, which mergekit lets turn the change around
    "model_stock filter_wise delta": ("model_stock", {"filter_wise": True, "clamp": False}),
    "multislerp base delta": ("multislerp", {"weight": W}),
    "breadcrumbs density .5 gamma .1 w=1": ("breadcrumbs", {"weight": 1, "density": 0.5, "gamma": 0.1}),
    "breadcrumbs_ties density .5 gamma .1 w=1": ("breadcrumbs_ties", {"weight": 1, "density": 0.5, "gamma": 0.1}),
    "sce topk 1": ("sce", {}),
    "sce topk .5": ("sce", {"select_topk": 0.5}),
    "ram delta eps .145": ("ram", {"epsilon": 0.145}),
    "ramplus_tl eps .145": ("ramplus_tl", {"epsilon": 0.145}),
}

DELTA_OF_FEWER = {
    "nearswap t=.15 delta": ("nearswap", 1, {"t": 0.15}),
    "arcee_fusion delta A1": ("arcee_fusion", 1, {}),
    "nuslerp base B deltas": ("nuslerp", 2, {"weight": [0.7, 0.3]}),
}

PAPER_DELTA = {
    "ties_merge {'method_params': {'topk': 0.5, 'merging_type': 'mean'}}": ("ties", {"weight": 1, "density": 0.5}),
    "ties_merge {'method_params': {'topk': 0.5, 'merging_type': 'sum'}}": (
        "ties",
        {"weight": 1, "density": 0.5, "normalize": False},
    ),
    "geometric median": ("geometric_median", {}),
    "magmax (first wins ties)": ("magmax", {}),
    "consensus k=2 lambda=0.4": ("consensus", {"k": 2, "mask_lambda": 0.4}),
    "consensus k=1 lambda=0.4": ("consensus", {"k": 1, "mask_lambda": 0.4}),
    "consensus k=2 lambda=0.6": ("consensus", {"k": 2, "mask_lambda": 0.6}),
    "EMR unified": ("emr", {}),
    "pcb {'method_params': {'att_ratio': 0.25, 'lam': 1.0}}": (
        "pcb",
        {"density": 0.25, "clip": 0.01, "scope": "tensor"},
    ),
    "tsv_merge {}": ("tsv_m", {}),
    "isoc_merge {}": ("iso_c", {}),
    "isocts_merge {}": ("iso_cts", {}),
    "isocts_merge {'method_params': {'common_space_fraction': 0.5}}": ("iso_cts", {"common_fraction": 0.5}),
    "wudi {'method_params': {'work_dtype': 'float64', 'ridge': 1e-10}}": ("wudi", {}),
    "actmerge {}": ("actmat", {}),
    "cart_merge {'method_params': {'pruning_rank': 0.5, 'scaling_coeffs': 1.0}}": ("cart", {"fraction": 0.5}),
}

PAPER_DELTA_OF_TWO = {
    "tsv_merge N=2 {}": ("tsv_m", {}),
    "isoc_merge N=2 {}": ("iso_c", {}),
    "isocts_merge N=2 {'method_params': {'common_space_fraction': 0.4}}": ("iso_cts", {"common_fraction": 0.4}),
}


def rounded(values: list[float]) -> np.ndarray:
    return np.array(values, np.float32).reshape(3, 4)


@pytest.mark.parametrize("key", WEIGHTS)
def test_weights_equal_those_of_mergekit(key: str) -> None:
    method, tensors, base, settings = WEIGHTS[key]
    np.testing.assert_allclose(merge_tensors(method, tensors, base=base, **settings), rounded(MERGEKIT[key]), atol=6e-5)


@pytest.mark.parametrize("key", DELTA)
def test_task_vectors_equal_those_of_mergekit(key: str) -> None:
    method, settings = DELTA[key]
    merged = merge_tensors(method, EXPERTS, base=BASE, **settings)
    np.testing.assert_allclose(merged - BASE, rounded(MERGEKIT[key]), atol=6e-5)


@pytest.mark.parametrize("key", DELTA_OF_FEWER)
def test_fewer_task_vectors_equal_those_of_mergekit(key: str) -> None:
    method, count, settings = DELTA_OF_FEWER[key]
    merged = merge_tensors(method, EXPERTS[:count], base=BASE, **settings)
    np.testing.assert_allclose(merged - BASE, rounded(MERGEKIT[key]), atol=6e-5)


@pytest.mark.parametrize("key", PAPER_DELTA)
def test_task_vectors_equal_those_of_the_papers(key: str) -> None:
    method, settings = PAPER_DELTA[key]
    merged = merge_tensors(method, EXPERTS, base=BASE, semantics="paper", **settings)
    np.testing.assert_allclose(merged - BASE, rounded(PAPER[key]), atol=6e-5)


@pytest.mark.parametrize("key", PAPER_DELTA_OF_TWO)
def test_two_task_vectors_equal_those_of_the_papers(key: str) -> None:
    method, settings = PAPER_DELTA_OF_TWO[key]
    merged = merge_tensors(method, EXPERTS[:2], base=BASE, **settings)
    np.testing.assert_allclose(merged - BASE, rounded(PAPER[key]), atol=6e-5)
