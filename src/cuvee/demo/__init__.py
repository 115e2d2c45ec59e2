"""The bundled model family and its tasks: data, and how the questions are drawn.

`models/` holds one base model and its experts (Llama architecture, bfloat16 safetensors, one tokenizer); `tasks/` holds
a `NAME.yaml` and `NAME.csv` for the public part and `NAME-private.yaml` and `NAME-private.csv` for the private part of
each skill; `texts/` a little text of each skill.
"""

from pathlib import Path

ROOT = Path(__file__).parent
BASE = "base"


def model_folder(name: str) -> Path:
    """Return the folder of the bundled model `name` ("base" or an expert)."""
    return ROOT / "models" / name


def expert_names() -> list[str]:
    """Name the experts, in the order of the family's tables."""
    names = {folder.name for folder in (ROOT / "models").iterdir() if folder.is_dir()}
    return sorted(names - {BASE})


def text_file(name: str) -> Path:
    """Return texts of an expert's skill, questions with answers that no task asks: rows of `input` and `target`."""
    return ROOT / "texts" / f"{name}.jsonl"


def task_names() -> list[str]:
    """Name the bundled tasks; `NAME` is the public part, `NAME-private` the private part."""
    return sorted(path.stem for path in (ROOT / "tasks").glob("*.yaml"))


def task_file(name: str) -> Path:
    """Return the `task.yaml` of the bundled task `name`."""
    return ROOT / "tasks" / f"{name}.yaml"
