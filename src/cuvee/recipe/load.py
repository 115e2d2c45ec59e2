"""Text -> Recipe, with all problems found at once.

The methods that exist are an argument: this room knows mergekit's language, not the mathematics.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from cuvee.documents.document import Document, in_yaml, read_documents, read_text
from cuvee.documents.document import Path as Place
from cuvee.documents.shown import shown
from cuvee.errors import RecipeError, closest
from cuvee.recipe.additions import read_post, read_weights
from cuvee.recipe.groups import GROUPS, Group
from cuvee.recipe.keys import RecipeDocument
from cuvee.recipe.language import Language, MethodSchema
from cuvee.recipe.parameters import Parameters, read_settings
from cuvee.recipe.problems import Mistake, Mistakes, Notes, schema_problems
from cuvee.recipe.recipe import Chosen, Recipe, Slice, Source
from cuvee.recipe.reference import ModelRef
from cuvee.recipe.setting import Settings
from cuvee.recipe.slips import plain_numbers
from cuvee.recipe.sources import read_model, read_slices
from cuvee.recipe.vocabulary import TokenizerChoice, models_named, read_choice

NUMBERS = ("layer_range", "pad_to_multiple_of", "token_id")
"""Keys besides parameters that hold numbers in recipes for mergekit, which reads them in quotes, too."""


def read_recipe(path: Path, language: Language) -> Recipe:
    """Read a recipe file. Raises RecipeError that holds every problem with its line."""
    return parse_recipe(read_text(path, "recipe"), language, source=str(path), folder=path.parent)


def parse_recipe(text: str, language: Language, *, source: str = "recipe", folder: Path | None = None) -> Recipe:
    """Read a recipe from text. Raises RecipeError that holds every problem with its line."""
    documents = read_documents(text, source)
    if len(documents) > 1:
        hint = "read it with `load_stages`; `cuvee merge` and `cuvee plan` do"
        raise RecipeError(f"expected one recipe, found {len(documents)} stages", where=source, hint=hint)
    return recipe_of(documents[0], language, folder)


def recipe_from_data(
    data: Mapping[str, Any], language: Language, *, source: str = "recipe", folder: Path | None = None
) -> Recipe:
    """Check a recipe that is data already, as a program makes it. The recipe's text is the same data in YAML.

    Raises RecipeError that holds every problem.
    """
    plain = _plain(data)
    return recipe_of(Document(plain, source, {}, in_yaml(plain)), language, folder)


def _plain(data: Any) -> Any:
    """Copy data as YAML would give it: mappings as dicts, sequences as lists."""
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(entry) for entry in data]
    return data


def recipe_of(document: Document, language: Language, folder: Path | None) -> Recipe:
    """Check a document. Raises RecipeError that holds every problem with its line."""
    if not isinstance(document.data, dict):
        raise RecipeError("expected a mapping with 'merge_method' and 'models'", where=document.place(()))
    if "experts" in document.data and "merge_method" not in document.data:
        hint = "`cuvee upcycle RECIPE OUT` makes one, and `cuvee plan RECIPE` shows what that would do"
        raise RecipeError("this is the recipe of a mixture of experts", where=document.place(("experts",)), hint=hint)
    if "sweep" in document.data:
        hint = "`cuvee merge` and `cuvee plan` take it; in Python `cuvee.load_sweep` reads it"
        raise RecipeError("this recipe's 'sweep' makes several merges", where=document.place(("sweep",)), hint=hint)
    document, slips = plain_numbers(document, NUMBERS)
    notes = Notes(document, schema_problems(document, document.data), slips)
    parts = notes.result_of(_parts(document.data, language))
    notes.stop_at_problems()
    checked = RecipeDocument.model_validate(document.data)
    tokenizer = notes.result_of(_tokenizer(checked, parts.base, parts.slices))
    notes.stop_at_problems()
    return _recipe(checked, parts, tokenizer, notes, folder)


@dataclass(frozen=True)
class _Parts:
    """The parts of a recipe that have a form of their own; the other keys are plain values."""

    settings: Settings
    base: ModelRef | None
    slices: tuple[Slice, ...]
    weights: Chosen | None
    post: tuple[Chosen, ...]
    groups: Mapping[Group, ModelRef]
    head: ModelRef | None
    mtp: ModelRef | None


def _parts(data: dict[str, Any], language: Language) -> Mistakes[_Parts]:
    """Read all parts, whatever mistakes are in any of them."""
    method = yield from _method(data, language)
    parameters = None
    if method is not None:
        parameters = Parameters(data["merge_method"], method.settings, language.parameters_elsewhere(method))
    settings = yield from read_settings(data.get("parameters"), ("parameters",), parameters, own=False)
    base = yield from read_model(data.get("base_model"), ("base_model",))
    slices = yield from read_slices(data, parameters)
    weights = yield from read_weights(data.get("weights"), language.weight_rules)
    post = yield from read_post(data.get("post"), language.modifiers)
    if method is not None:
        yield from _base_mistakes(data, method, language)
        yield from _weights_mistakes(data, method, weights, language)
        yield from _post_mistakes(data, method, post)
    yield from _alignment_mistakes(data, slices)
    models = _models_by_name(base, slices)
    groups = yield from _groups(data, models)
    head = yield from _taken_from("head", data.get("head"), models, ("merge", "keep"))
    mtp = yield from _taken_from("mtp", data.get("mtp"), models, ("merge", "drop"))
    return _Parts(settings, base, slices, weights, post, groups, head, mtp)


def _method(data: dict[str, Any], language: Language) -> Mistakes[MethodSchema | None]:
    """Return the method named, or the method that was probably meant, so that its settings are checked too."""
    key = data.get("merge_method")
    if not isinstance(key, str):
        return None
    if key not in language.methods:
        guess = closest(key.replace("-", "_").lower(), list(language.methods))
        hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(sorted(language.methods))}"
        yield Mistake(("merge_method",), f"unknown merge method {shown(key)}", hint)
        return language.methods.get(guess or "")
    return language.methods[key]


def _recipe(
    checked: RecipeDocument, parts: _Parts, tokenizer: TokenizerChoice | None, notes: Notes, folder: Path | None
) -> Recipe:
    return Recipe(
        merge_method=checked.merge_method,
        slices=parts.slices,
        sliced=any(source.layers for source in _sources(parts.slices)),
        settings=parts.settings,
        base_model=parts.base,
        dtype=checked.dtype,
        out_dtype=checked.out_dtype,
        compute_dtype=checked.compute_dtype,
        semantics=checked.semantics,
        seed=checked.seed,
        weights=parts.weights,
        post=parts.post,
        rounding=checked.rounding,
        tokenizer=tokenizer,
        chat_template=checked.chat_template,
        prompt=None if checked.prompt is None else checked.prompt.model_dump(exclude_unset=True),
        align=None if checked.align is None else checked.align.model_dump(exclude_none=True),
        groups=parts.groups,
        missing=checked.missing,
        head="keep" if checked.head == "keep" else parts.head,
        mtp="drop" if checked.mtp == "drop" else parts.mtp,
        unknown_layers=checked.unknown_layers,
        unlike_configs=checked.unlike_configs,
        name=checked.name,
        slips=notes.slips_in_order(),
        text=notes.document.text,
        source=notes.document.source,
        folder=folder,
    )


def _alignment_mistakes(data: dict[str, Any], slices: tuple[Slice, ...]) -> Iterator[Mistake]:
    """Yield an alignment without texts, texts without an alignment, and an alignment of slices."""
    with_text = [source for source in _sources(slices) if source.text is not None]
    if data.get("align") is None:
        if with_text:
            yield Mistake((), f"'{with_text[0].model}' has a 'text', and the recipe no 'align'", "add `align: {}`")
        return
    if not with_text:
        yield Mistake(("align",), "no model has a 'text' to align by", "give each expert the text of its own skill")
    if data.get("models") is None:
        yield Mistake(("align",), "'align' is for whole 'models'", "merge first, and use `cuvee align` then")


def _base_mistakes(data: dict[str, Any], method: MethodSchema, language: Language) -> Iterator[Mistake]:
    key = data["merge_method"]
    needs_base = key in language.methods and method.base in ("delta", "endpoint")
    if needs_base and not _has_base(data):
        yield Mistake(("merge_method",), f"'{key}' needs a 'base_model'")


def _post_mistakes(data: dict[str, Any], method: MethodSchema, post: tuple[Chosen, ...]) -> Iterator[Mistake]:
    if post and not _merges_changes(data, method):
        message = f"'{post[0].key}' modifies the change from a base, and '{data['merge_method']}' makes none here"
        yield Mistake(("post",), message, "use a method that works on task vectors, with a 'base_model'")


def _weights_mistakes(
    data: dict[str, Any], method: MethodSchema, weights: Chosen | None, language: Language
) -> Iterator[Mistake]:
    if weights is None:
        return
    key = data["merge_method"]
    weight = method.settings.get("weight")
    if weight is None or not weight.per_model:
        yield Mistake(("weights",), f"'{key}' takes no weights")
    if language.weight_rules[weights.key].on_changes and not _merges_changes(data, method):
        message = f"'{weights.key}' measures task vectors, and '{key}' merges none here"
        yield Mistake(("weights",), message, "use a method that works on task vectors, with a 'base_model'")
    for place in _places_of("weight", data):
        yield Mistake(place, f"'weights: {weights.key}' sets the weight of each model", "leave one of the two out")


def _groups(data: dict[str, Any], models: dict[str, ModelRef]) -> Mistakes[dict[Group, ModelRef]]:
    """Read the groups of tensors that are taken from a model: its reference or name, or `base`."""
    if data.get("slices") is not None:
        for key in ("missing", "head", *GROUPS):
            if data.get(key) is not None:
                yield Mistake((key,), f"'{key}' is for whole 'models', not for 'slices'")
    groups: dict[Group, ModelRef] = {}
    for group in GROUPS:
        model = yield from _taken_from(group, data.get(group), models, ("merge",))
        if model is not None:
            groups[group] = model
    return groups


def _sources(slices: tuple[Slice, ...]) -> list[Source]:
    return list(chain.from_iterable(part.sources for part in slices))


def _models_by_name(base: ModelRef | None, slices: tuple[Slice, ...]) -> dict[str, ModelRef]:
    """Return the recipe's models by reference and by name, with the model that `base` stands for."""
    sources = _sources(slices)
    models = {str(source.model): source.model for source in sources}
    for source in sources:
        if isinstance(source.name, str):
            models[source.name] = source.model
    if base is not None:
        models[str(base)] = base
    if sources:
        models["base"] = base or sources[0].model
    return models


def _taken_from(
    key: str, written: Any, models: dict[str, ModelRef], words: tuple[str, ...]
) -> Mistakes[ModelRef | None]:
    """Read the model that tensors are taken from; None if the recipe names none, or any of the `words`."""
    if not isinstance(written, str) or written in words:
        return None
    if models and written not in models:
        names = [*words, *models]
        guess = closest(written, names)
        hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(names)}"
        expected = " or ".join(f"'{word}'" for word in words)
        yield Mistake((key,), f"'{key}': expected {expected} or a model of the recipe, found {shown(written)}", hint)
    return models.get(written)


def _tokenizer(
    checked: RecipeDocument, base: ModelRef | None, slices: tuple[Slice, ...]
) -> Mistakes[TokenizerChoice | None]:
    """Read `tokenizer`, or `tokenizer_source`, which names models of the recipe only."""
    if checked.tokenizer is not None and checked.tokenizer_source is not None:
        yield Mistake(("tokenizer_source",), "expected one of 'tokenizer' and 'tokenizer_source', found both")
    key = "tokenizer" if checked.tokenizer is not None else "tokenizer_source"
    written = checked.tokenizer or checked.tokenizer_source
    if written is None:
        return None
    try:
        choice = read_choice(written)
    except ValueError as error:
        yield Mistake((key,), str(error))
        return None
    bases = [base, *(part.base_model for part in slices)]
    models = {model for model in bases if model is not None}
    models |= {source.model for source in _sources(slices)}
    for model in dict.fromkeys(models_named(choice)):
        if model not in models:
            guess = closest(str(model), ["union", "base", *map(str, models)])
            hint = f"did you mean '{guess}'?" if guess else "name one of the recipe's models, 'union' or 'base'"
            yield Mistake((key,), f"'{model}' is not one of the recipe's models", hint)
    return choice


def _has_base(data: dict[str, Any]) -> bool:
    """Say whether the recipe, or else each of its slices, names a base model."""
    if data.get("base_model"):
        return True
    slices = data.get("slices")
    if not isinstance(slices, list) or not slices:
        return False
    return all(map(_names_base, slices))


def _names_base(part: Any) -> bool:
    return isinstance(part, dict) and bool(part.get("base_model"))


def _merges_changes(data: dict[str, Any], method: MethodSchema) -> bool:
    if method.base == "optional":
        return _has_base(data)
    return method.base == "delta"


def _places_of(name: str, data: Any, place: Place = ()) -> Iterator[Place]:
    """Yield the places where a parameter of that name is set."""
    if isinstance(data, list):
        for i, entry in enumerate(data):
            yield from _places_of(name, entry, (*place, i))
    if not isinstance(data, dict):
        return
    parameters = data.get("parameters")
    if isinstance(parameters, dict) and name in parameters:
        yield (*place, "parameters", name)
    for key in ("models", "slices", "sources"):
        yield from _places_of(name, data.get(key), (*place, key))
