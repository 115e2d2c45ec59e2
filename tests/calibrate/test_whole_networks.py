"""A repair is what hooks on whole networks and the formula, written out in NumPy, give block after block."""

import json
import random
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from cuvee.calibrate.repair import align
from cuvee.calibrate.settings import Alignment, alignment
from evaluation.conftest import byte_tokenizer
from evaluation.families import make_network

FAMILIES = {
    "gpt 2": "attn.c_attn",
    "olmo 2": "self_attn.q_proj",  # its maps see hidden states that no norm has copied
    "llama 4": "feed_forward.shared_expert.down_proj",  # what it gives is changed in place
    "falcon": "self_attention.query_key_value",  # its maps are of a class of their own
}
"""Families, and a map that each must have repaired."""

HOW = alignment(ridge=3e-3)


def write_model(folder: Path, network: Any) -> str:
    network.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def moved(network: Any, states: Mapping[str, torch.Tensor], seed: int) -> Any:
    """Return the network with numbers near `states`."""
    draw = torch.Generator().manual_seed(seed)
    network.load_state_dict(states)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    return network


def write_text(path: Path, seed: int) -> list[str]:
    draw = random.Random(seed)
    texts = ["".join(draw.choices(string.printable, k=draw.randint(1, 30))) for _ in range(16)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return texts


def loaded(folder: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def shown(network: Any, texts: list[str], maps: list[str]) -> dict[str, np.ndarray]:
    """Return what maps of a whole network see of texts, [positions, in] each, one text at a time."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in maps}

    def note(name: str) -> Any:
        return lambda module, arguments: seen[name].append(arguments[0].flatten(0, -2).clone())

    handles = [network.get_submodule(name).register_forward_pre_hook(note(name)) for name in maps]
    with torch.no_grad():
        for text in texts:
            network(input_ids=torch.tensor([byte_tokenizer()(text)["input_ids"]]), use_cache=False)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts).double().numpy() for name, parts in seen.items()}


def numbers(network: Any, name: str) -> np.ndarray:
    module = network.get_submodule(name)
    matrix = module.weight.detach().double().numpy()
    return matrix.T if isinstance(module, Conv1D) else matrix


def solved(
    merged: Any, experts: list[Any], seen: list[np.ndarray], own: list[np.ndarray], name: str, how: Alignment
) -> np.ndarray:
    """Return W of one map by the formula as it stands in the documentation."""
    anchor = numbers(merged, name)
    system = float(how.ridge) * np.eye(anchor.shape[1])
    wanted = float(how.ridge) * anchor
    for expert, inputs, theirs in zip(experts, seen, own, strict=True):
        targets = how.mix * theirs + (1 - how.mix) * inputs
        gram = inputs.T @ inputs / len(inputs)
        share = 1 / np.linalg.norm(gram)
        wanted = wanted + share * numbers(expert, name) @ (targets.T @ inputs / len(inputs))
        system = system + share * gram
    return np.linalg.solve(system, wanted.T).T


@pytest.mark.parametrize("family", FAMILIES)
def test_a_repair_is_what_whole_networks_and_the_formula_give(family: str, tmp_path: Path) -> None:
    network = make_network(family)
    states = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folders = [write_model(tmp_path / f"expert-{seed}", moved(network, states, seed)) for seed in (1, 2)]
    merge = write_model(tmp_path / "merge", moved(network, states, 3))
    texts = [write_text(tmp_path / f"{seed}.jsonl", seed) for seed in (1, 2)]

    named = {folder: str(tmp_path / f"{seed}.jsonl") for seed, folder in enumerate(folders, start=1)}
    aligned = align(merge, tmp_path / "out", named, HOW)

    repaired, merged, experts = loaded(str(tmp_path / "out")), loaded(merge), [loaded(folder) for folder in folders]
    blocks = maps_by_block(aligned.rules)
    assert any(name.endswith(FAMILIES[family]) for maps in blocks.values() for name in maps)
    every = [name for maps in blocks.values() for name in maps]
    own = [shown(expert, words, every) for expert, words in zip(experts, texts, strict=True)]
    for number, maps in sorted(blocks.items()):
        before = repaired_before(number, repaired, merged)
        seen = [shown(before, words, maps) for words in texts]
        for name in maps:
            parts = [inputs[name] for inputs in seen], [inputs[name] for inputs in own]
            wanted = solved(merged, experts, *parts, name, HOW)
            change = np.abs(wanted - numbers(merged, name)).max()
            np.testing.assert_allclose(numbers(repaired, name), wanted, rtol=0, atol=1e-3 * change, err_msg=name)


def maps_by_block(rules: Mapping[str, str]) -> dict[int, list[str]]:
    blocks: dict[int, list[str]] = {}
    for name, rule in rules.items():
        if rule == "aligned" and name.endswith(".weight"):
            blocks.setdefault(block_of(name), []).append(name.removesuffix(".weight"))
    return blocks


def repaired_before(number: int, repaired: Any, merged: Any) -> Any:
    """Return a network that is repaired in the blocks before `number`, and the merge from there."""
    network = type(merged)(merged.config).eval()
    later = {name: value for name, value in merged.state_dict().items() if block_of(name) >= number}
    network.load_state_dict(repaired.state_dict() | later)
    return network


def block_of(name: str) -> int:
    """Return the number of the block that a tensor is of; a large one for those outside blocks."""
    digits = [part for part in name.split(".") if part.isdigit()]
    return int(digits[0]) if digits else 1_000_000
