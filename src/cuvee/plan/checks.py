"""Problems and warnings of a plan as a whole. Each check yields its findings, and changes nothing."""

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cuvee.checkpoint.companions import Companions, companions_of, in_words, sort_out
from cuvee.checkpoint.model_card import Facts, licence_conflict, stated_facts
from cuvee.errors import CheckpointError, CuveeError, RecipeError, closest
from cuvee.extras import install_command
from cuvee.ops.survey import Survey
from cuvee.plan.agree import name_problems
from cuvee.plan.materials import Materials
from cuvee.plan.modify import misplaced
from cuvee.plan.names import View, whole_modules_lacking
from cuvee.plan.outline import Outline
from cuvee.plan.plan import MergeStep, merged_steps
from cuvee.plan.remarks import PlanNote, PlanWarning
from cuvee.plan.settings import measures_weights
from cuvee.plan.vocabulary import GENERATION, generation_settings
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.recipe.setting import Settings
from cuvee.structure.structure import Module
from cuvee.tokenizers.gguf import can_read_gguf, lies_in_gguf


@dataclass(frozen=True)
class Unlike:
    """A model that has other tensors than the donor: the names that it lacks, and the problems with that."""

    model: ModelRef
    missing: frozenset[str]
    problems: tuple[CuveeError, ...]


def _besides(names: Iterable[str], others: Container[str]) -> list[str]:
    return [name for name in names if name not in others]


def unlike_names(materials: Materials, excused: Mapping[ModelRef, Collection[str]]) -> Iterator[Unlike]:
    """Yield the models whose tensors are not the donor's: a merge would lose those that only some models have.

    `excused` are names by model about which a rule of the recipe decides.
    """
    donor = materials.donor
    for model in materials.models[1:]:
        expected = _besides(materials.names(donor), excused[model])
        names = _besides(materials.names(model), excused[model])
        for module, lacking in whole_modules_lacking(materials.views[donor], materials.views[model], expected):
            yield Unlike(model, lacking, (_lacks_module(str(model), module, lacking, donor),))
            expected = _besides(expected, lacking)
        missing, problems = name_problems(str(donor), expected, str(model), names)
        yield Unlike(model, frozenset(missing), tuple(problems))


def _lacks_module(model: str, module: str, lacking: frozenset[str], donor: ModelRef) -> CheckpointError:
    message = f"has nothing of the {module} part that {donor} has ({len(lacking)} tensors)"
    ways = f"for example `{module}: base`, or `missing: base` for all such tensors"
    return CheckpointError(message, where=model, hint=f"say which model it comes from, {ways}")


def module_problems(materials: Materials) -> Iterator[RecipeError]:
    """Every tensor belongs to a module that the recipe names, and the donor has every such module."""
    recipe, donor = materials.recipe, materials.donor
    named = [part.module for part in recipe.slices if part.module is not None]
    if not named:
        return
    modules = _modules_of(materials.views[donor])
    for module in modules:
        if module not in named:
            message = f"the recipe has no module '{module}', which {donor} has"
            yield RecipeError(message, where=recipe.source, hint="name it under 'modules', too")
    for name in named:
        if name not in modules:
            message = f"{donor} has no module '{name}'; it has {', '.join(modules)}"
            yield RecipeError(message, where=recipe.source)


def _modules_of(view: View) -> list[Module]:
    """List a model's modules in the order of its tensors."""
    modules = [view.structure.of(own_name).module for own_name in view.called.values()]
    return list(dict.fromkeys(modules))


def whole_model_problems(steps: Sequence[MergeStep], materials: Materials) -> Iterator[RecipeError]:
    """A number that a survey finds over the whole model needs settings that are the same in all of it."""
    recipe, method = materials.recipe, materials.method
    merges = merged_steps(steps)
    for survey in method.surveys.values():
        if not _counts_over_whole_model(survey, merges, recipe):
            continue
        if _number_of_families(merges, materials) > 1:
            message = f"'{method.key}' looks at whole models here, but the slices do not name the same ones"
            hint = "name the same models in the same order in every slice"
            yield RecipeError(message, where=recipe.source, hint=hint)
            return
        for name in survey.reads:
            values = {repr(step.settings.get(name)) for step in merges}
            if len(values) > 1:
                message = f"'{name}' differs between tensors, but here it counts for the whole model"
                hint = "give one number, or use semantics: mergekit"
                yield RecipeError(message, where=recipe.source, hint=hint)


def _counts_over_whole_model(survey: Survey, merges: Sequence[MergeStep], recipe: Recipe) -> bool:
    """Say whether a survey finds its number over the whole model in any of the merges."""
    return any(survey.scope(recipe.semantics, step.settings) == "model" for step in merges)


def _number_of_families(merges: Sequence[MergeStep], materials: Materials) -> int:
    """Count the different lists of models that steps merge."""
    families = set()
    for step in merges:
        families.add(tuple(materials.models[source.model] for source in step.inputs))
    return len(families)


def measured_weights_problems(steps: Sequence[MergeStep], materials: Materials) -> Iterator[RecipeError]:
    """Weights that a rule finds over whole models need the same models in the same order everywhere."""
    rule = materials.recipe.weights
    if rule is None or not measures_weights(materials.recipe):
        return
    merges = merged_steps(steps)
    if _number_of_families(merges, materials) > 1:
        yield RecipeError(f"'weights: {rule.key}' needs the same models in every slice", where=materials.recipe.source)


def misplaced_modifiers(steps: Sequence[MergeStep], materials: Materials) -> Iterator[RecipeError]:
    """Modifiers of matrices come before those that scale what comes out."""
    complaint = misplaced(materials.recipe.post)
    if complaint is not None:
        yield RecipeError(complaint, where=materials.recipe.source)


STEP_CHECKS: tuple[Callable[[Sequence[MergeStep], Materials], Iterator[RecipeError]], ...] = (
    whole_model_problems, measured_weights_problems, misplaced_modifiers,
)  # fmt: skip


def warnings_of(outlines: Sequence[Outline], materials: Materials, *, custom_code: bool) -> Iterator[PlanWarning]:
    """Yield warnings for readers of the plan, though nothing forbids the merge."""
    yield from idle_filters(outlines, materials)
    yield from conflicting_licences(materials)
    if not custom_code:
        yield from code_not_copied(materials)
    yield from lost_tokenizer(materials)
    yield from generation_without_cache(materials)
    yield from lacking_config(materials)


def idle_filters(outlines: Sequence[Outline], materials: Materials) -> Iterator[PlanWarning]:
    """Yield the filters that are in no tensor's name: they are probably misspelt."""
    names: dict[str, None] = {}
    for out in outlines:
        names |= dict.fromkeys(_names_for_filters(out, materials))
    for key, text in _filters(materials.recipe):
        is_in_a_name = any(text in name for name in names)
        if text == "*" or is_in_a_name:
            continue
        guess = closest(text, _words(names))
        meant = f"; did you mean '{guess}'?" if guess else ""
        yield PlanWarning(f"the filter '{text}' of '{key}' is in no tensor's name{meant}")


def _names_for_filters(out: Outline, materials: Materials) -> list[str]:
    """Return the names that a filter can be part of: the output tensor's, and its sources' for settings by model."""
    names = [out.name]
    if any(setting.per_model for setting in materials.method.settings.values()):
        names += [name for name in out.names if name]
    return names


def _filters(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield every filter of a recipe once, with the setting that it is for."""
    scopes: list[Settings] = [recipe.settings]
    scopes += [part.settings for part in recipe.slices]
    for part in recipe.slices:
        scopes += [source.settings for source in part.sources]
    filters: dict[tuple[str, str], None] = {}
    for scope in scopes:
        for key, choices in scope.items():
            filters |= {(key, choice.filter): None for choice in choices}
    yield from filters


def _words(names: Iterable[str]) -> list[str]:
    """List the words of tensors' names, without the numbers of layers and experts."""
    words: set[str] = set()
    for name in names:
        words.update(name.split("."))
    return sorted(word for word in words if not word.isdecimal())


def conflicting_licences(materials: Materials) -> Iterator[PlanWarning]:
    """Yield which of the parents' licences do not go together, if any."""
    facts: dict[str, Facts] = {}
    for model in materials.aligned.opening.models:
        adapter_place = model.adapter.place if model.adapter is not None else None
        facts |= stated_facts(str(model.reference), model.place, adapter_place)
    conflict = licence_conflict(list(facts), [fact.licence for fact in facts.values()])
    if conflict:
        yield PlanWarning(conflict)


def code_not_copied(materials: Materials) -> Iterator[PlanWarning]:
    """Yield the donor's code, which is copied only if asked for: it runs where the output is loaded."""
    code = [name for name in _companions(materials).copied if name.endswith(".py")]
    if code:
        message = f"{materials.donor} brings code of its own ({', '.join(code)}), which is not copied"
        yield PlanWarning(f"{message}; --custom-code copies it")


def lost_tokenizer(materials: Materials) -> Iterator[PlanWarning]:
    """Yield that the tokenizer of a GGUF file is not written, where the package that reads it is not installed."""
    donor = materials.aligned.vocabulary.donor
    if lies_in_gguf(materials.aligned.opening.models[donor].place) and not can_read_gguf():
        message = f"the tokenizer in {materials.models[donor]} is not written: that needs transformers"
        yield PlanWarning(f"{message}, {install_command('eval')}")


def generation_without_cache(materials: Materials) -> Iterator[PlanWarning]:
    """Yield that transformers would compute each token anew from the first: training turns its cache off for good.

    generation_config.json decides, as transformers reads it; where it is lacking, config.json does.
    """
    if materials.config.get("use_cache") is not False:
        return
    file = "config.json"
    if GENERATION in _companions(materials).copied:
        file = GENERATION
        place = materials.aligned.opening.models[0].place
        settings = generation_settings(place) if place is not None else None  # on a hub it is not read yet
        if settings is None or settings.get("use_cache", True) is not False:
            return
    message = f"'use_cache' is false in {file} of {materials.donor}, which the output copies"
    yield PlanWarning(f"{message}: transformers generates many times slower so; set it to true in the output")


def lacking_config(materials: Materials) -> Iterator[PlanWarning]:
    """Yield that the donor has no config, and so the output has none."""
    if not materials.config:
        yield PlanWarning(f"{materials.donor} has no config.json; the output will have none")


def left_out(materials: Materials) -> Iterator[PlanNote]:
    """Yield the files and sub-folders of the donor that the output will lack."""
    text = in_words(_companions(materials))
    if text:
        yield PlanNote(f"left out of what {materials.donor} has: {text}")


def _companions(materials: Materials) -> Companions:
    """Sort out the donor's files; an earlier stage, which is not made yet, has none."""
    if str(materials.donor) in materials.recipe.stages:
        return Companions()
    donor = materials.aligned.opening.models[0]
    merged = materials.sources[materials.donor].files()
    if donor.repository is not None:
        return sort_out(donor.repository.files, merged)
    if donor.place is not None:
        return companions_of(donor.place, merged)
    return Companions()
