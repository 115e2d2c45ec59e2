"""What can be wrong with a plan as a whole, and what its reader should be told."""

from cuvee.checkpoint.companions import Companions, companions_of, in_words, sort_out
from cuvee.checkpoint.model_card import card_facts, licence_conflict
from cuvee.errors import CheckpointError, RecipeError, closest
from cuvee.extras import install_command
from cuvee.plan.agree import name_problems
from cuvee.plan.draft import Draft
from cuvee.plan.names import whole_modules_lacking
from cuvee.plan.outline import Outline
from cuvee.plan.plan import MergeStep
from cuvee.plan.settings import measures_weights
from cuvee.tokenizers.gguf import can_read_gguf, lies_in_gguf


def check_names(draft: Draft) -> None:
    """Every input has every tensor, or the merge would lose some."""
    donor = draft.donor
    for model in draft.models[1:]:
        excused = draft.excused[model]
        expected = [name for name in draft.names(donor) if name not in excused]
        found = [name for name in draft.names(model) if name not in excused]
        for module, lacking in whole_modules_lacking(draft.views[donor], draft.views[model], expected):
            message = f"has nothing of the {module} part that {donor} has ({len(lacking)} tensors)"
            hint = (
                f"say which model it comes from, for example `{module}: base`, or `missing: base` for all such tensors"
            )
            draft.problems.append(CheckpointError(message, where=str(model), hint=hint))
            draft.reported |= {(model, name) for name in lacking}
            expected = [name for name in expected if name not in lacking]
        missing, problems = name_problems(str(donor), expected, str(model), found)
        draft.reported |= {(model, name) for name in missing}
        draft.problems += problems


def check_modules(draft: Draft) -> None:
    """Every tensor belongs to a module that the recipe names, and every such module is there."""
    named = [part.module for part in draft.recipe.slices if part.module is not None]
    if not named:
        return
    view = draft.views[draft.donor]
    there = dict.fromkeys(view.structure.of(own).module for own in view.called.values())
    for unnamed in [module for module in there if module not in named]:
        message = f"the recipe has no module '{unnamed}', which {draft.donor} has"
        draft.problems.append(RecipeError(message, where=draft.recipe.source, hint="name it under 'modules', too"))
    for module in [module for module in named if module not in there]:
        message = f"{draft.donor} has no module '{module}'; it has {', '.join(there)}"
        draft.problems.append(RecipeError(message, where=draft.recipe.source))


def check_whole_model_settings(steps: list[MergeStep], draft: Draft) -> None:
    """A number that is found over the whole model needs settings that are the same in all of it."""
    recipe, method = draft.recipe, draft.method
    merges = [step for step in steps if step.action == "merge"]
    for survey in method.surveys.values() if merges else ():
        if all(survey.scope(recipe.semantics, step.settings) != "model" for step in merges):
            continue
        if len({tuple(draft.models[i.model] for i in step.inputs) for step in merges}) > 1:
            message = f"'{method.key}' looks at whole models here, but the slices do not name the same ones"
            hint = "name the same models in the same order in every slice"
            draft.problems.append(RecipeError(message, where=recipe.source, hint=hint))
            return
        for name in survey.reads:
            if len({repr(step.settings.get(name)) for step in merges}) > 1:
                message = f"'{name}' differs between tensors, but here it counts for the whole model"
                hint = "give one number, or use semantics: mergekit"
                draft.problems.append(RecipeError(message, where=recipe.source, hint=hint))


def check_measured_weights(steps: list[MergeStep], draft: Draft) -> None:
    """Weights that are found over whole models need the same models in the same order everywhere."""
    chosen = draft.recipe.weights
    merged = {tuple(given.model for given in step.inputs) for step in steps if step.action == "merge"}
    if measures_weights(draft.recipe) and chosen is not None and len(merged) > 1:
        message = f"'weights: {chosen.key}' needs the same models in every slice"
        draft.problems.append(RecipeError(message, where=draft.recipe.source))


def warn_of_idle_filters(outlines: list[Outline], draft: Draft) -> None:
    """Say which filters are in no tensor's name: probably misspelt."""
    recipe = draft.recipe
    names = list(dict.fromkeys(name for out in outlines for name in _names_for_filters(out, draft)))
    words = sorted({word for name in names for word in name.split(".") if not word.isdecimal()})
    scopes = [recipe.settings, *(part.settings for part in recipe.slices)]
    scopes += [source.settings for part in recipe.slices for source in part.sources]
    choices = [(key, choice) for scope in scopes for key, value in scope.items() for choice in value]
    for key, text in dict.fromkeys((key, choice.filter) for key, choice in choices):
        if text != "*" and not any(text in name for name in names):
            guess = closest(text, words)
            meant = f"; did you mean '{guess}'?" if guess else ""
            draft.warnings.append(f"the filter '{text}' of '{key}' is in no tensor's name{meant}")


def _names_for_filters(out: Outline, draft: Draft) -> tuple[str, ...]:
    """Return the names that a filter can be part of: the output tensor's, and those of what it is made of."""
    each = any(setting.per_model for setting in draft.method.settings.values())
    return (out.name, *(name for name in out.names if name)) if each else (out.name,)


def warn_of_licences(draft: Draft) -> None:
    """Say where the parents' licences do not go together."""
    stated = [card_facts(place).licence for place in draft.aligned.opening.places]
    if conflict := licence_conflict([str(model) for model in draft.models], stated):
        draft.warnings.append(conflict)


def warn_of_lost_tokenizer(draft: Draft) -> None:
    """Say that the tokenizer of a GGUF file is not written, where what reads it is not installed."""
    donor = draft.aligned.vocabulary.donor
    if lies_in_gguf(draft.aligned.opening.places[donor]) and not can_read_gguf():
        message = f"the tokenizer in {draft.models[donor]} is not written: that needs transformers"
        draft.warnings.append(f"{message}, {install_command('eval')}")


def warn_of_code(draft: Draft, *, copied: bool) -> None:
    """Code of a model is copied only if asked for: it runs where the output is loaded."""
    code = [name for name in _companions(draft).copied if name.endswith(".py")]
    if code and not copied:
        message = f"{draft.donor} brings code of its own ({', '.join(code)}), which is not copied"
        draft.warnings.append(f"{message}; --custom-code copies it")


def note_what_is_left_out(draft: Draft) -> None:
    """Name the files and sub-folders of the donor that the output will lack."""
    if text := in_words(_companions(draft)):
        draft.notes.append(f"left out of what {draft.donor} has: {text}")


def _companions(draft: Draft) -> Companions:
    """Sort out the donor's files; of an earlier stage, which is not made yet, nothing is known."""
    if str(draft.donor) in draft.recipe.stages:
        return Companions()
    repository, place = draft.aligned.opening.repositories[0], draft.aligned.opening.places[0]
    merged = draft.sources[draft.donor].files()
    if repository is not None:
        return sort_out(repository.files, merged)
    return companions_of(place, merged) if place is not None else Companions()
