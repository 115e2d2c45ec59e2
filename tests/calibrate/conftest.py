"""The bundled family, a merge of it, and texts of its skills."""

from pathlib import Path

import pytest
import torch

from cuvee import demo
from cuvee.engine import merge


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def blend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of every task vector, added: the merge that is repaired."""
    folder = tmp_path_factory.mktemp("blend")
    models = "".join(f"  - model: {demo.model_folder(name)}\n" for name in demo.expert_names())
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"merge_method: task_arithmetic\nbase_model: {demo.model_folder(demo.BASE)}\nmodels:\n{models}"
        "parameters: {weight: 1.0, lambda: 0.5}\ndtype: bfloat16\n"
    )
    return merge(recipe, folder / "blend").folder


def experts(documents: int, folder: Path, names: list[str] | None = None) -> dict[str, str]:
    """Write the first documents of each expert's text and return the texts by model."""
    texts = {}
    for name in names or demo.expert_names():
        lines = demo.text_file(name).read_text(encoding="utf-8").splitlines(keepends=True)
        own = folder / f"{name}-{documents}.jsonl"
        own.write_text("".join(lines[:documents]), encoding="utf-8")
        texts[str(demo.model_folder(name))] = str(own)
    return texts
