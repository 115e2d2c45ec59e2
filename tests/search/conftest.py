"""A tiny family that answers: a base and three fine-tunes of it, and two tasks of a few items."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.task import Sample, Task
from evaluation.conftest import byte_tokenizer, save_model

EXPERTS = ("e0", "e1", "e2")
WORDS = ("sort", "turn", "middle", "odd one", "shift by one", "left", "right", "up")

Family = Callable[..., Path]


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Write a family of a type, tied or not, once; return the folder with `base` and the experts."""
    folders: dict[tuple[str, bool], Path] = {}

    def make(dtype: str = "bfloat16", *, tied: bool = False) -> Path:
        if (dtype, tied) not in folders:
            folders[dtype, tied] = _written(tmp_path_factory.mktemp("family"), dtype, tied=tied)
        return folders[dtype, tied]

    return make


def _written(root: Path, dtype: str, *, tied: bool) -> Path:
    tokenizer = byte_tokenizer()
    save_model(root / "plain", tokenizer, tie_word_embeddings=tied)
    base = AutoModelForCausalLM.from_pretrained(root / "plain", dtype=torch.float32)
    for seed, name in enumerate(("base", *EXPERTS)):
        network = AutoModelForCausalLM.from_pretrained(root / "plain", dtype=torch.float32)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for own, origin in zip(network.parameters(), base.parameters(), strict=True):
                change = torch.randn(own.shape, generator=generator) * (0.1 if seed else 0.0)
                own.copy_(origin + change)
        network.to(getattr(torch, dtype)).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


@pytest.fixture(scope="session")
def tasks() -> list[Task]:
    choosing = tuple(
        Sample(f"c{place}", f"Which of {word}?", "multiple_choice", WORDS[:4], place % 4)
        for place, word in enumerate(WORDS)
    )
    writing = tuple(Sample(f"w{place}", f"Write {word}:", "generation", (), word) for place, word in enumerate(WORDS))
    return [
        Task("choosing", choosing, ("accuracy",)),
        Task("writing", writing, ("f1",), prompt=Prompt(max_new_tokens=6)),
    ]


@pytest.fixture(scope="session")
def items(tasks: list[Task]) -> dict[str, list[str]]:
    return {task.name: [sample.id for sample in task.samples] for task in tasks}
