"""The statistics that a recipe names for its models: found, opened, and refused where they are of something else."""

from dataclasses import replace
from pathlib import Path

from cuvee.addition import modifiers, weight_rules
from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError, CuveeError, RecipeError
from cuvee.ops.input_statistics import InputStatistic
from cuvee.plan.draft import Draft, unaligned
from cuvee.plan.matrices import cut_of
from cuvee.plan.plan import Input, MergeStep, Plan
from cuvee.recipe.reference import ModelRef
from cuvee.statistics import Statistics, fingerprint, open_statistics
from cuvee.structure import TensorPlace
from cuvee.tokenizers.read import read_tokenizer

PRIVATE = "-private"
"""The end of the name of a task's part that nobody but the final score may see."""


def find_statistics(draft: Draft, *, only_places: bool) -> None:
    """Open the statistics that the recipe names, and note what is wrong with them.

    `only_places` says that nothing but given folders may be looked at.
    """
    written = _written(draft)
    if written and only_places:
        message = "'statistics' cannot be used here: only the models' own folders may be read"
        draft.problems.append(RecipeError(message, where=draft.recipe.source))
        return
    statistics: dict[ModelRef, Statistics] = {}
    for model, folder in written.items():
        try:
            statistics[model] = open_statistics(_place_of(folder, draft.recipe.folder))
            check_model(statistics[model], str(model), draft.sources[model])
        except CuveeError as error:
            draft.problems.extend(error.problems or (error,))
    draft.statistics = statistics
    if len(statistics) == len(written):
        _check_need(draft)
        _check_losses(draft)
    _check_tokens(draft)


def _written(draft: Draft) -> dict[ModelRef, str]:
    """Return the folder that the recipe names for each model; a model has one, however often it is named."""
    folders: dict[ModelRef, str] = {}
    for part in draft.recipe.slices:
        for source in part.sources:
            if source.statistics is None:
                continue
            if folders.setdefault(source.model, source.statistics) != source.statistics:
                message = f"two statistics are named for {source.model}, which has one"
                draft.problems.append(RecipeError(message, where=draft.recipe.source))
    return folders


def _place_of(folder: str, beside: Path | None) -> Path:
    """Find a folder from the current one, or else from the recipe's, as models are found."""
    here = Path(folder).expanduser()
    if here.exists() or beside is None or here.is_absolute():
        return here
    return beside / here


def check_model(statistics: Statistics, model: str, source: TensorSource) -> None:
    """Refuse statistics of other weights, or of a private part. What is not downloaded or made yet is checked later.

    Raises CheckpointError.
    """
    record = statistics.record
    if record.text.name.endswith(PRIVATE) or Path(record.text.name).stem.endswith(PRIVATE):
        message = f"these statistics are of '{record.text.name}', the private part of a task"
        raise CheckpointError(message, where=str(statistics.folder), hint="calibrate on the public part")
    try:
        found = fingerprint(unaligned(source))
    except CheckpointError:
        return
    if found != record.model.fingerprint:
        message = f"these statistics are of other weights than {model}: of {record.model.name}, as it was then"
        hint = f"cuvee calibrate {model} TEXT OUT"
        raise CheckpointError(message, where=str(statistics.folder), hint=hint)


def check_statistics(plan: Plan) -> None:
    """Refuse statistics of other weights than those that are here now. Raises CheckpointError."""
    for model, source, statistics in zip(plan.models, plan.sources, plan.statistics, strict=False):
        if statistics is not None:
            check_model(statistics, str(model), source)


def _check_need(draft: Draft) -> None:
    """Note models that have no statistics at all where the method, a modifier or the weights need them."""
    recipe = draft.recipe
    if draft.method.inputs:
        for part in recipe.slices:
            base = draft.base_of(part)
            for source in part.sources:
                if source.model != base:
                    _need(draft, source.model, f"'{draft.method.key}'", next(iter(draft.method.inputs.values())))
    for chosen in recipe.post:
        for statistic in modifiers()[chosen.key].inputs.values():
            for base in {draft.base_of(part) for part in recipe.slices} - {None}:
                if base is not None:
                    _need(draft, base, f"'{chosen.key}'", statistic)


def _need(draft: Draft, model: ModelRef, who: str, statistic: InputStatistic) -> None:
    if model not in draft.statistics:
        message = f"{who} needs statistics of what this model's weights see"
        hint = f"`cuvee calibrate {model} TEXT OUT`, and `statistics: OUT` below the model in `models`"
    elif statistic.kind not in draft.statistics[model].record.keep:
        message = (
            f"{who} needs '{statistic.kind}', and its statistics keep {', '.join(draft.statistics[model].record.keep)}"
        )
        hint = f"`cuvee calibrate {model} TEXT OUT --keep {statistic.kind}`"
    else:
        return
    draft.problems.append(RecipeError(message, where=str(model), hint=hint))


def _check_tokens(draft: Draft) -> None:
    """Statistics belong to the tokens of their model, and those of several models are compared on the same tokens."""
    first: tuple[ModelRef, str] | None = None
    for model, statistics in draft.statistics.items():
        then = statistics.record.model.tokens_digest
        now = _tokens_digest(draft, model)
        if then is not None and now is not None and then != now:
            message = f"these statistics were made with other tokens than {model} has"
            draft.problems.append(CheckpointError(message, where=str(statistics.folder)))
        if then is None:
            continue
        if first is not None and first[1] != then:
            message = f"statistics of {first[0]} and {model} were made with other tokens"
            draft.problems.append(CheckpointError(message, where=str(statistics.folder)))
        first = first or (model, then)


def _tokens_digest(draft: Draft, model: ModelRef) -> str | None:
    place = draft.aligned.opening.models[draft.index[model]].place
    if place is None or not place.is_dir():
        return None
    try:
        return read_tokenizer(place).digest
    except CheckpointError:
        return None


def _check_losses(draft: Draft) -> None:
    """Losses are compared on one text, of every model that the rule weighs."""
    chosen = draft.recipe.weights
    if chosen is None or not weight_rules()[chosen.key].by_loss:
        return
    for model in draft.models:
        own = draft.statistics.get(model)
        if model in _weighed(draft) and (own is None or own.record.loss is None):
            message = f"'weights: {chosen.key}' needs the loss of this model on a text"
            hint = f"`cuvee calibrate {model} TEXT OUT`, and `statistics: OUT` below the model in `models`"
            draft.problems.append(RecipeError(message, where=str(model), hint=hint))
    texts = {draft.statistics[model].record.text.digest for model in _weighed(draft) if model in draft.statistics}
    if len(texts) > 1:
        message = f"'weights: {chosen.key}' compares losses, and the statistics are of {len(texts)} texts"
        hint = "calibrate every model on the one text that shows what the merge is for"
        draft.problems.append(RecipeError(message, where=draft.recipe.source, hint=hint))


def _weighed(draft: Draft) -> set[ModelRef]:
    """Return the models that get a weight."""
    subtracted = draft.method.base in ("delta", "optional")
    models: set[ModelRef] = set()
    for part in draft.recipe.slices:
        base = draft.base_of(part)
        models |= {source.model for source in part.sources if not (subtracted and source.model == base)}
        if base is not None and not subtracted:
            models.add(base)
    return models


def has_inputs(step: MergeStep, draft: Draft) -> bool:
    """Say whether there is what the method asks to know of the inputs of a step, of every model."""
    return all(
        _statistics_have(statistic, given, draft) for statistic in draft.method.inputs.values() for given in step.inputs
    )


def _statistics_have(statistic: InputStatistic, given: Input, draft: Draft) -> bool:
    own = draft.statistics.get(draft.models[given.model])
    return own is not None and own.has(statistic.kind, given.tensor)


def with_room_for_statistics(step: MergeStep, draft: Draft) -> MergeStep:
    """Count the memory in which one model's Gram matrix is read."""
    if step.cut is None or not draft.method.inputs:
        return step
    bytes_read = max(draft.statistics[draft.models[given.model]].gram_bytes(given.tensor) for given in step.inputs)
    return replace(step, holds=step.holds + bytes_read)


def note_fallback(step: MergeStep, place: TensorPlace, draft: Draft) -> None:
    """Say of how many matrices there are no statistics."""
    if draft.method.inputs and step.cut is None and cut_of(place, step.shape) is not None:
        fallback = step.settings["fallback"]
        draft.decided[f"matrices without statistics of their inputs are merged by 'fallback: {fallback}'"] += 1
