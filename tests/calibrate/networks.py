"""Tiny random networks beside one another, their average, and rows of text that shows them all directions."""

import json
import random
import string
from pathlib import Path
from typing import Any

import torch

from evaluation.conftest import byte_tokenizer

SIGNS = string.ascii_letters + string.digits + string.punctuation
"""More than a state is wide, so that the first block sees all directions."""


def save(folder: Path, network: Any) -> Path:
    network.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def nearby(network: Any, seed: int) -> Any:
    """Return a network with the numbers of another, moved a little."""
    torch.manual_seed(seed)
    other = type(network)(network.config).eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return other


def average(networks: list[Any]) -> Any:
    merged = type(networks[0])(networks[0].config).eval()
    states = [network.state_dict() for network in networks]
    merged.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    return merged


def write_rows(path: Path, *, seed: int, rows: int = 80) -> str:
    draws = random.Random(seed)

    def words(count: int) -> str:
        return " ".join("".join(draws.choices(SIGNS, k=4)) for _ in range(count))

    lines = [{"input": words(3), "target": words(1 + number % 2)} for number in range(rows)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(path)
