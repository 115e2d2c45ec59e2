"""Any model and any text to statistics in a folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from cuvee.calibrate.network import TRIAL_TOKENS, BlockNetwork  # first, for it says which extra is missing

# isort: split
from cuvee.calibrate.collect import Collecting, collect
from cuvee.calibrate.text import read_text
from cuvee.checkpoint import TensorSource, digest_of_source, open_checkpoint
from cuvee.checkpoint.write import refuse_existing
from cuvee.engine.plain import loadable_folder
from cuvee.errors import CheckpointError, EvaluationError, RecipeError
from cuvee.evaluation.library import has_encoder
from cuvee.evaluation.model import Device, LanguageModel, pick_device
from cuvee.hub import Hub
from cuvee.plan.resolve import model_to_read
from cuvee.progress import Progress
from cuvee.statistics import ModelRecord, Record, fingerprint
from cuvee.tokenizers.read import read_tokenizer


def calibrate(
    model: str,
    text: str,
    out: Path,
    how: Collecting,
    *,
    tokens: int = 65536,
    template: Path | None = None,
    device: Device = "auto",
    hub: Hub,
    progress: Progress,
) -> Record:
    """Write the statistics of a model, a folder, a name on a hub or base+adapter, on a text to the folder `out`.

    `template` is a file with a chat template, by which chats are rendered in place of the model's own.
    Raises RecipeError for too little or private text and for an `out` that exists, CheckpointError for the model,
    EvaluationError for a model with an encoder or whose blocks cannot be run alone.
    """
    refuse_existing(out, overwrite=None)
    how.check()
    source = model_to_read(model, hub, progress)
    folder, weights = _runnable(model, source, hub, progress)
    if has_encoder(folder):
        message = "it has an encoder and a decoder, of which no statistics can be made"
        raise EvaluationError(message, where=model, hint="`cuvee align` repairs merges of such models")
    network = BlockNetwork(weights, folder, model, device=pick_device(device))
    if template is not None:
        network.tokenizer.chat_template = _read_template(template)
    reader: Any = LanguageModel(model, "", network.module, network.tokenizer, context_length=how.length)
    documents = read_text(text, reader, tokens=tokens, length=how.length)
    network.check_alone(documents.documents[0].ids[:TRIAL_TOKENS])
    identity = ModelRecord(
        name=model,
        weights_digest=digest_of_source(source),
        fingerprint=fingerprint(source),
        tokens_digest=tokens_digest(folder),
    )
    return collect(network, documents, out, how, model=identity, progress=progress)


def folders_of(models: Sequence[str], out: Path) -> dict[str, Path]:
    """Return the folder in `out` for the statistics of each of several models: it is called like the model.

    Raises RecipeError for a folder that exists, and for two models of one name.
    """
    folders: dict[str, Path] = {}
    for model in models:
        folder = out / Path(os.path.abspath(model)).name
        if folder in folders.values():
            message = f"two models are called {folder.name}, and the statistics of both would go to {folder}"
            raise RecipeError(message, where=model, hint="calibrate one of them by itself: MODEL TEXT OUT")
        refuse_existing(folder, overwrite=None)
        folders[model] = folder
    return folders


def _read_template(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read a chat template: {error}", where=str(file)) from error


def _runnable(model: str, source: TensorSource, hub: Hub, progress: Progress) -> tuple[Path, TensorSource]:
    """Return a folder with the config and tokenizer of a model, and its weights."""
    if source.place is not None and (source.place / "config.json").is_file():
        return source.place, source
    folder = loadable_folder(model, hub, progress)
    return folder, cast(TensorSource, open_checkpoint(folder))


def tokens_digest(folder: Path) -> str | None:
    """Return the digest of a folder's vocabulary, None where it has none that is understood."""
    try:
        return read_tokenizer(folder).digest
    except CheckpointError:
        return None
