"""Which kind of model a folder holds, and the answerer that goes with it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from blake3 import blake3

from cuvee.evaluation.classifier import Classifier
from cuvee.evaluation.embedder import MODULES, make_embedder, transformer_folder
from cuvee.evaluation.masked import Masked
from cuvee.evaluation.model import Device, Dtype, LanguageModel, files_digest, load_headed
from cuvee.evaluation.reads import Judge, Judging

Kind = Literal["writer", "classifier", "masked", "embedder"]
_HEADS: dict[str, Kind] = {"ForSequenceClassification": "classifier", "ForMaskedLM": "masked"}


def kind_of(folder: Path) -> Kind:
    """Tell a model's kind by its files: `modules.json`, or the class that its config names; else it writes text."""
    if (folder / MODULES).is_file():
        return "embedder"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        classes = list(map(str, config.get("architectures") or ()))
    except (OSError, ValueError, AttributeError, TypeError):
        return "writer"  # loading says what is wrong
    for ending, kind in _HEADS.items():
        if any(name.endswith(ending) for name in classes):
            return kind
    return "writer"


def open_judge(folder: Path, kind: Kind, device: Device, dtype: Dtype) -> Judging:
    """Load a model that judges texts. Raises EvaluationError for a model that transformers cannot load as it is."""
    if kind == "embedder":
        model = load_headed(transformer_folder(folder), "embedder", device=device, dtype=dtype)
        model = replace(model, name=str(folder), files_digest=_digest_of_parts(folder))
        return Judging(make_embedder(folder, model))
    makers: dict[Kind, Callable[[LanguageModel], Judge]] = {"classifier": Classifier, "masked": Masked}
    return Judging(makers[kind](load_headed(folder, kind, device=device, dtype=dtype)))


def _digest_of_parts(folder: Path) -> str:
    """Return a digest of the small files of a folder and of its sub-folders, and of their weights' sizes."""
    hasher = blake3()
    hasher.update(files_digest(folder).encode())
    for part in sorted(filter(Path.is_dir, folder.iterdir())):
        hasher.update(part.name.encode())
        hasher.update(files_digest(part).encode())
    return hasher.hexdigest()
