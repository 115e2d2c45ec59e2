"""The statistics that a recipe names for its models: found, opened, and refused where they are of something else."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cuvee.catalogue import modifiers, weight_rules
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.recut import RecutCheckpoint
from cuvee.errors import CheckpointError, CuveeError, RecipeError
from cuvee.ops.input_statistics import InputStatistic
from cuvee.plan.materials import Materials, unaligned
from cuvee.plan.matrices import cut_of
from cuvee.plan.plan import Input, MergeStep, Plan
from cuvee.plan.remarks import Decision, Remark, Remarks
from cuvee.recipe.recipe import ONLY_IN_COMPETITION, competition_text
from cuvee.recipe.reference import ModelRef
from cuvee.statistics import FISHER, Statistics, fingerprint, open_statistics
from cuvee.structure import TensorPlace
from cuvee.tokenizers.read import read_tokenizer
from cuvee.tokenizers.rows import AlignedCheckpoint

PRIVATE = "-private"
"""The end of the name of a task's part that nobody but the final score may see."""


def statistics_name(model: ModelRef, written: str) -> str:
    """Return the name of statistics that are handed over: which, and of which model."""
    return f"{written} of {model}"


def with_statistics(materials: Materials, handed: Mapping[str, Path], *, only_places: bool) -> Remarks[Materials]:
    """Return the materials with the statistics that the recipe names, opened and checked.

    `handed` are folders of statistics by `statistics_name`. `only_places` says that besides them only the models' own
    folders may be read.
    """
    written = yield from _written(materials)
    missing = [model for model, name in written.items() if statistics_name(model, name) not in handed]
    if missing and only_places:
        message = "'statistics' cannot be used here: only the models' own folders may be read"
        yield RecipeError(message, where=materials.recipe.source)
        return materials
    statistics: dict[ModelRef, Statistics] = {}
    for model, folder in written.items():
        try:
            place = handed.get(statistics_name(model, folder)) or _place_of(folder, materials.recipe.folder)
            statistics[model] = open_statistics(place)
            check_model(statistics[model], str(model), materials.sources[model])
        except CuveeError as error:
            yield from error.problems or (error,)
    materials = replace(materials, statistics=statistics)
    if len(statistics) == len(written):
        yield from _needed(materials)
        yield from _losses(materials)
    yield from _other_tokens(materials)
    return materials


def _written(materials: Materials) -> Remarks[dict[ModelRef, str]]:
    """Return the folder that the recipe names for each model, which may be named several times but not otherwise."""
    folders: dict[ModelRef, str] = {}
    for part in materials.recipe.slices:
        for source in part.sources:
            if source.statistics is None:
                continue
            if folders.setdefault(source.model, source.statistics) != source.statistics:
                message = f"two statistics are named for {source.model}, which has one"
                yield RecipeError(message, where=materials.recipe.source)
    return folders


def _place_of(folder: str, beside: Path | None) -> Path:
    """Find a folder from the current folder, or else from the recipe's, as models are found."""
    text = competition_text(folder)
    if text is not None:
        raise RecipeError(f"'{folder}' is a text of a competition", hint=ONLY_IN_COMPETITION)
    here = Path(folder).expanduser()
    if here.exists() or beside is None:
        return here
    return beside / here  # an absolute path stays as it is


def check_model(statistics: Statistics, model: str, source: TensorSource) -> None:
    """Refuse statistics of other weights, or of a private part of a task. Raises CheckpointError.

    The weights of a model that is not downloaded or made yet are checked later.
    """
    record = statistics.record
    if record.text.name.endswith(PRIVATE) or Path(record.text.name).stem.endswith(PRIVATE):
        message = f"these statistics are of '{record.text.name}', the private part of a task"
        raise CheckpointError(message, where=str(statistics.folder), hint="calibrate on the public part")
    try:
        print_of_weights = fingerprint(unaligned(source))
    except CheckpointError:
        return
    if print_of_weights != record.model.fingerprint:
        message = f"these statistics are of other weights than {model}: of {record.model.name}, as it was then"
        hint = f"cuvee calibrate {model} TEXT OUT"
        raise CheckpointError(message, where=str(statistics.folder), hint=hint)


def check_statistics(plan: Plan) -> None:
    """Refuse statistics of other weights than those that are here now. Raises CheckpointError."""
    for model, source, statistics in zip(plan.models, plan.sources, plan.statistics, strict=False):
        if statistics is not None:
            check_model(statistics, str(model), source)


def _needed(materials: Materials) -> Iterator[RecipeError]:
    """Yield the models that have no statistics at all where the method or a modifier needs them."""
    recipe = materials.recipe
    for statistic in list(materials.method.inputs.values())[:1]:
        for part in recipe.slices:
            base = materials.base_of(part)
            models = [source.model for source in part.sources if source.model != base]
            for model in models:
                yield from _needed_of(model, f"'{materials.method.key}'", statistic, materials)
    bases = {materials.base_of(part) for part in recipe.slices}
    for chosen in recipe.post:
        for statistic in modifiers()[chosen.key].inputs.values():
            for base in bases:
                if base is not None:
                    yield from _needed_of(base, f"'{chosen.key}'", statistic, materials)


def _needed_of(model: ModelRef, who: str, statistic: InputStatistic, materials: Materials) -> Iterator[RecipeError]:
    """Yield that a model lacks the statistic that a method or modifier needs."""
    statistics = materials.statistics.get(model)
    if statistics is None:
        message = f"{who} needs statistics of this model on a text"
        options = " --keep fisher" if statistic.kind == FISHER else ""
        yield RecipeError(message, where=str(model), hint=_how_to_calibrate(model, options))
    elif statistic.kind not in statistics.record.keep:
        message = f"{who} needs '{statistic.kind}', and its statistics keep {', '.join(statistics.record.keep)}"
        hint = f"`cuvee calibrate {model} TEXT OUT --keep {statistic.kind}`"
        yield RecipeError(message, where=str(model), hint=hint)


def _how_to_calibrate(model: ModelRef, options: str = "") -> str:
    return f"`cuvee calibrate {model} TEXT OUT{options}`, and `statistics: OUT` below the model in `models`"


def _other_tokens(materials: Materials) -> Iterator[CheckpointError]:
    """Yield the statistics of other tokens than their model has, or than the statistics of the first model have."""
    first: tuple[ModelRef, str] | None = None
    for model, statistics in materials.statistics.items():
        digest = statistics.record.model.tokens_digest
        if digest is None:
            continue
        first = first or (model, digest)
        where = str(statistics.folder)
        if _tokens_digest(model, materials) not in (None, digest):
            message = f"these statistics were made with other tokens than {model} has"
            yield CheckpointError(message, where=where)
        if first[1] != digest:
            message = f"statistics of {first[0]} and {model} were made with other tokens"
            yield CheckpointError(message, where=where)


def _tokens_digest(model: ModelRef, materials: Materials) -> str | None:
    """Return the digest of the tokens that a model has now; None where it has no tokenizer that can be read."""
    place = materials.aligned.opening.models[materials.index[model]].place
    if place is None or not place.is_dir():
        return None
    try:
        return read_tokenizer(place).digest
    except CheckpointError:
        return None


def _losses(materials: Materials) -> Iterator[RecipeError]:
    """Yield the models without a loss that a rule weighs by losses, and losses on different texts."""
    chosen = materials.recipe.weights
    if chosen is None or not weight_rules()[chosen.key].by_loss:
        return
    weighed = _weighed(materials)
    texts = set()
    for model in materials.models:
        if model not in weighed:
            continue
        statistics = materials.statistics.get(model)
        if statistics is None or statistics.record.loss is None:
            message = f"'weights: {chosen.key}' needs the loss of this model on a text"
            yield RecipeError(message, where=str(model), hint=_how_to_calibrate(model))
        if statistics is not None:
            texts.add(statistics.record.text.digest)
    if len(texts) > 1:
        message = f"'weights: {chosen.key}' compares losses, and the statistics are of {len(texts)} texts"
        hint = "calibrate every model on the one text that shows what the merge is for"
        yield RecipeError(message, where=materials.recipe.source, hint=hint)


def _weighed(materials: Materials) -> set[ModelRef]:
    """Return the models that get a weight."""
    is_subtracted = materials.method.base in ("delta", "optional")
    models: set[ModelRef] = set()
    for part in materials.recipe.slices:
        base = materials.base_of(part)
        own = {source.model for source in part.sources}
        if base is not None and is_subtracted:
            own.discard(base)
        elif base is not None:
            own.add(base)
        models |= own
    return models


def has_inputs(step: MergeStep, materials: Materials) -> bool:
    """Say whether every model has the statistics of a step's inputs that the method needs."""
    for statistic in materials.method.inputs.values():
        if not all(_statistics_have(statistic, source, materials) for source in step.inputs):
            return False
    return True


def _statistics_have(statistic: InputStatistic, source: Input, materials: Materials) -> bool:
    statistics = materials.statistics.get(materials.models[source.model])
    return statistics is not None and statistics.has(statistic.kind, source.tensor)


def _entries(step: MergeStep, materials: Materials) -> Iterator[Remark]:
    """Yield that a tensor has no statistics of its entries, or that they are in another order than it is read in."""
    if not has_inputs(step, materials) or any(source.rows is not None for source in step.inputs):
        yield Decision("tensors without statistics of their entries are averaged by the weights")
        return
    for source in step.inputs:
        model = materials.models[source.model]
        if source.tensor in _recut(materials.sources[model]):
            message = f"'{source.tensor}' is read in another order than its statistics have"
            hint = "merge models whose tensors are cut alike"
            yield CheckpointError(message, where=str(model), hint=hint)


def _recut(source: TensorSource) -> Collection[str]:
    """Return the tensors of a model whose blocks are put in another order."""
    if isinstance(source, AlignedCheckpoint):
        source = source.source
    return source.orders if isinstance(source, RecutCheckpoint) else ()


def _takes_grams(materials: Materials) -> bool:
    return any(statistic.kind == "gram" for statistic in materials.method.inputs.values())


def with_room_for_statistics(step: MergeStep, materials: Materials) -> MergeStep:
    """Count the memory in which the largest Gram matrix of a model is read."""
    if step.cut is None or not _takes_grams(materials):
        return step
    sizes = []
    for source in step.inputs:
        statistics = materials.statistics[materials.models[source.model]]
        sizes.append(statistics.gram_bytes(source.tensor))
    return replace(step, holds=step.holds + max(sizes))


def lacking_statistics(step: MergeStep, place: TensorPlace, materials: Materials) -> Iterator[Remark]:
    """Yield that a matrix, or for a method of entries any tensor, has no statistics, so that the plan counts them."""
    if not materials.method.inputs or step.cut is not None:
        return
    if not _takes_grams(materials):
        yield from _entries(step, materials)
        return
    if cut_of(place, step.shape) is not None:
        fallback = step.settings["fallback"]
        yield Decision(f"matrices without statistics of their inputs are merged by 'fallback: {fallback}'")
