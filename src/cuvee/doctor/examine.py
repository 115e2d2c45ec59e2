"""Examines a model folder: reads passages, writes on, and does the same with its parents while time is left."""

import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from cuvee.doctor.findings import Diagnosis, Kinship, Signs, findings
from cuvee.errors import CheckpointError, EvaluationError
from cuvee.evaluation.parents import RECORD, Parent, parents_of
from cuvee.hub import Hub
from cuvee.progress import Progress, Silent

if TYPE_CHECKING:
    from cuvee.doctor.signs import Reading
    from cuvee.evaluation.model import Device, Dtype, LanguageModel

SECONDS = 40.0
"""No parent is taken up after these."""

MOST_ENTRIES = 2**27
"""Log-probabilities that are kept for a model: half a gigabyte."""

MOST_PASSAGES = 12
SHOWN = 3


def examine(
    model: Path,
    *,
    text: Path | None = None,
    device: "Device" = "auto",
    dtype: "Dtype" = "float32",
    hub: Hub | None = None,
    recipe_folder: Path | None = None,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
    progress: Progress | None = None,
) -> Diagnosis:
    """Say whether a model is broken. `text` holds passages with blank lines between; a few are shipped.

    A blend's parents are examined beside it, no new one after so many `seconds`. Raises EvaluationError for a folder
    that cannot be loaded or that is no decoder.
    """
    from cuvee.evaluation.model import fitting_threads, load_model

    started, shown = clock(), progress or Silent()
    passages = read_text(text)
    parents, notes = _parents(model, hub or Hub(), shown, recipe_folder)
    kin: list[Kinship] = []
    shown.start("examine", 1 + len(parents), "models")
    try:
        loaded = load_model(model, device=device, dtype=dtype)
        _check_decoder(loaded)
        with fitting_threads(loaded):
            passages = _fitting(loaded, passages)
            reading, signs, continuations = _examined(loaded, passages)
            samples = _samples(loaded, reading, continuations)
        shown.advance(1)
        del loaded  # its memory goes to the parents
        for which, parent in enumerate(parents):
            if clock() - started > seconds:
                notes.append(f"parents left out after {seconds:.0f} seconds: {len(parents) - which}")
                break
            try:
                other = load_model(parent.folder, device=device, dtype=dtype)
            except EvaluationError as error:
                notes.append(f"a parent cannot be examined: {error}")
                continue
            kin.append(_kinship(parent, other, passages, reading))
            shown.advance(1)
    finally:
        shown.finish()
    for relative in kin:
        if relative.divergence is None:
            notes.append(f"{relative.parent} has other tokens: no divergence")
    return Diagnosis(str(model), signs, tuple(kin), findings(signs, kin), samples, clock() - started, tuple(notes))


def read_text(file: Path | None) -> list[str]:
    """Return the passages of a file, or the shipped passages. Raises EvaluationError for a file without any."""
    source = file or resources.files("cuvee.doctor") / "passages.txt"
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"this text cannot be read: {error}", where=str(file)) from error
    stripped = [passage.strip() for passage in text.split("\n\n")]
    passages = list(filter(None, stripped))
    if not passages:
        raise EvaluationError("the text is empty", where=str(file), hint="write passages with blank lines between")
    return passages[:MOST_PASSAGES]


def _parents(
    model: Path, hub: Hub, progress: Progress, recipe_folder: Path | None
) -> tuple[tuple[Parent, ...], list[str]]:
    """Find the parents; a model can be examined without them."""
    if not (model / RECORD).is_file():
        return (), [f"no {RECORD}: examined without parents"]
    try:
        return parents_of(model, hub, progress, recipe_folder=recipe_folder), []
    except CheckpointError as error:
        return (), [f"examined without parents: {error}"]


def _check_decoder(model: "LanguageModel") -> None:
    if model.encoder_decoder:
        raise EvaluationError("only decoder models can be examined", where=model.name)


def _fitting(model: "LanguageModel", passages: Sequence[str]) -> list[str]:
    """Take as many passages as there is room for their log-probabilities."""
    from cuvee.doctor.signs import MOST_TOKENS

    vocabulary = int(model.network.get_output_embeddings().weight.shape[0])
    return list(passages[: max(1, MOST_ENTRIES // (vocabulary * MOST_TOKENS))])


def _examined(model: "LanguageModel", passages: Sequence[str]) -> "tuple[Reading, Signs, list[list[int]]]":
    from cuvee.doctor.signs import continuations_of, read_passages, signs_of

    reading = read_passages(model, passages)
    if not reading.rows:
        raise EvaluationError("the passages are shorter than two tokens", where=model.name)
    continuations = continuations_of(model, reading)
    return reading, signs_of(model, reading, continuations), continuations


def _kinship(parent: Parent, loaded: "LanguageModel", passages: Sequence[str], own: "Reading") -> Kinship:
    from cuvee.doctor.signs import divergence
    from cuvee.evaluation.model import fitting_threads

    with fitting_threads(loaded):
        reading, signs, _ = _examined(loaded, passages)
    distance, agreement = divergence(own, reading) or (None, None)
    return Kinship(parent.reference, signs, distance, agreement)


def _samples(
    model: "LanguageModel", reading: "Reading", continuations: Sequence[list[int]]
) -> tuple[tuple[str, str], ...]:
    from cuvee.doctor.signs import PROMPT_TOKENS

    samples = []
    for row, continuation in zip(reading.rows[:SHOWN], continuations, strict=False):
        pair = [row[:PROMPT_TOKENS], continuation]
        prompt, text = model.tokenizer.batch_decode(pair, skip_special_tokens=True)
        samples.append((prompt, text))
    return tuple(samples)
