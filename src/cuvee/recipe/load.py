"""Text -> Recipe, with all problems found at once.

The methods that exist are an argument: this room knows mergekit's language, not the mathematics.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from cuvee.errors import CuveeError, RecipeError, closest, several
from cuvee.recipe.document import MAX_CHARACTERS, Document, read_document
from cuvee.recipe.document import Path as Place
from cuvee.recipe.groups import GROUPS, Group, Missing
from cuvee.recipe.recipe import Chosen, ComputeDType, DType, Recipe, Rounding, Semantics, Slice, Source
from cuvee.recipe.reference import ModelRef, parse_reference
from cuvee.recipe.setting import Choice, Setting, Settings, Value, parse_value
from cuvee.recipe.shown import shown
from cuvee.recipe.vocabulary import (
    TokenDocument,
    TokenizerChoice,
    TokenizerDocument,
    TokenizerKey,
    models_named,
    read_choice,
)

NOT_YET = {
    "modules": "modules of multi-part architectures",
}


MOST_SHOWN = 30
"""Problems in one message; more are counted."""


class MethodSchema(Protocol):
    """What a recipe's checks need to know of a method."""

    @property
    def settings(self) -> Mapping[str, Setting]: ...

    @property
    def models(self) -> tuple[int, int | None]: ...

    @property
    def base(self) -> str: ...


class AdditionSchema(Protocol):
    """What a recipe's checks need to know of a weight rule or a modifier."""

    @property
    def settings(self) -> Mapping[str, Setting]: ...

    @property
    def on_changes(self) -> bool: ...


Additions = Mapping[str, AdditionSchema]


@dataclass(frozen=True)
class Language:
    """All that a recipe can name, by key."""

    methods: Mapping[str, MethodSchema]
    weight_rules: Additions
    modifiers: Additions


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class _Model(_Strict):
    """A model that takes part and its own parameters."""

    model: str = Field(description="folder, .safetensors file or org/name[@revision][+adapter]")
    name: str | None = Field(None, description="what random draws depend on instead of the reference")
    parameters: dict[str, Any] | None = None


class _SliceSource(_Model):
    layer_range: list[int] = Field(description="[first, last), counted from 0", min_length=2, max_length=2)


class _Slice(_Strict):
    """Sources whose layers become the next layers of the output."""

    sources: list[_SliceSource] = Field(min_length=1)
    base_model: str | None = None
    parameters: dict[str, Any] | None = None


_TAKEN = "merge, base, or the model of the recipe that this part is taken from as it is"


class RecipeDocument(_Strict):
    """A merge recipe: mergekit's YAML, checked strictly."""

    merge_method: str
    models: list[_Model] | None = Field(None, min_length=1)
    slices: list[_Slice] | None = Field(None, min_length=1)
    base_model: str | None = None
    parameters: dict[str, Any] | None = None
    dtype: DType | None = Field(None, description="type of the written tensors, unless out_dtype says another")
    out_dtype: DType | None = None
    compute_dtype: ComputeDType = Field("float32", description="as_loaded rounds inputs and task vectors to dtype")
    semantics: Semantics = Field("mergekit", description="where mergekit and the paper differ")
    seed: int = Field(0, ge=0, lt=2**63)
    weights: Any = Field(None, description="a rule that gives each model its weight")
    post: Any = Field(None, description="modifiers of the merged change, one after another")
    rounding: Rounding = Field("nearest", description="of the numbers written; stochastic is right on average")
    tokenizer: TokenizerKey = Field(None, description="union, base or one of the models")
    tokenizer_source: str | None = Field(None, description="mergekit's older form of tokenizer")
    chat_template: str | None = Field(None, description="auto, chatml, one of the models, or a Jinja template")
    missing: Missing = Field("fail", description="what becomes of a tensor that only some models have")
    embeddings: str | None = Field(None, description=_TAKEN)
    experts: str | None = Field(None, description=_TAKEN)
    routers: str | None = Field(None, description=_TAKEN)
    language: str | None = Field(None, description=_TAKEN)
    vision: str | None = Field(None, description=_TAKEN)
    audio: str | None = Field(None, description=_TAKEN)
    projector: str | None = Field(None, description=_TAKEN)
    encoder: str | None = Field(None, description=_TAKEN)
    decoder: str | None = Field(None, description=_TAKEN)
    name: str | None = None


def read_recipe(path: Path, language: Language) -> Recipe:
    """Read a recipe file. Raises RecipeError that holds every problem with its line."""
    try:
        with path.open(encoding="utf-8") as opened:
            text = opened.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe: {error}", where=str(path)) from error
    return parse_recipe(text, language, source=str(path), folder=path.parent)


def parse_recipe(text: str, language: Language, *, source: str = "recipe", folder: Path | None = None) -> Recipe:
    """Read a recipe from text. Raises RecipeError that holds every problem with its line."""
    document = read_document(text, source)
    if not isinstance(document.data, dict):
        raise RecipeError("expected a mapping with 'merge_method' and 'models'", where=f"{source}:1")
    problems = _schema_problems(document) + _not_yet(document)
    known = {key: value for key, value in document.data.items() if key not in NOT_YET}
    reader = _Reader(document, language, problems)
    method = reader.method(known)
    recipe = reader.recipe(known, method, text, folder)
    if problems:
        raise several(_few(sorted(problems, key=_line)))
    assert recipe is not None, "a recipe without problems is read"
    return recipe


def _few(problems: list[CuveeError]) -> list[CuveeError]:
    more = len(problems) - MOST_SHOWN
    return [*problems[:MOST_SHOWN], RecipeError(f"and {more} more")] if more > 0 else problems


def _line(problem: CuveeError) -> int:
    return int((problem.where or ":0").rpartition(":")[2] or 0)


def _not_yet(document: Document) -> list[CuveeError]:
    return [
        RecipeError(f"'{key}' is not supported yet: {NOT_YET[key]}", where=document.place((key,)))
        for key in document.data
        if key in NOT_YET
    ]


def _schema_problems(document: Document) -> list[CuveeError]:
    known = {key: value for key, value in document.data.items() if key not in NOT_YET}
    try:
        RecipeDocument.model_validate(known)
    except ValidationError as error:
        return [_translated(detail, document) for detail in error.errors()]
    return []


def _translated(detail: ErrorDetails, document: Document) -> CuveeError:
    place: Place = tuple(detail["loc"])
    where = document.place(place)
    what = ".".join(map(str, place))
    if place[-1] == "residual_weight":
        return RecipeError("'residual_weight' is not supported: it has no effect in mergekit either", where=where)
    if detail["type"] == "extra_forbidden":
        guess = closest(str(place[-1]), _fields_at(place[:-1]))
        hint = f"did you mean '{guess}'?" if guess else None
        return RecipeError(f"unknown key {shown(what)}", where=where, hint=hint)
    if detail["type"] == "missing":
        return RecipeError(f"'{what}' is missing", where=where)
    if place[-1] == "parameters" and isinstance(detail["input"], list):
        return RecipeError(f"'{what}': expected 'name: value' lines, found a list", where=where)
    if detail["type"] == "value_error":
        return RecipeError(f"'{what}': {detail['msg'].removeprefix('Value error, ')}", where=where)
    guess = None
    if detail["type"] == "literal_error":
        options = str(detail.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
        guess = closest(str(detail["input"]), options)
    hint = f"did you mean '{guess}'?" if guess else None
    found = shown(detail["input"])
    return RecipeError(f"'{what}': {_lowered(detail['msg'])}, found {found}", where=where, hint=hint)


def _fields_at(place: Place) -> list[str]:
    kind: type[BaseModel] = RecipeDocument
    words = [step for step in place if isinstance(step, str)]
    if words[:1] == ["models"]:
        kind = _Model
    elif words == ["slices"]:
        kind = _Slice
    elif words[:2] == ["slices", "sources"]:
        kind = _SliceSource
    elif words[:1] == ["tokenizer"]:
        kind = TokenDocument if len(words) > 1 else TokenizerDocument
    return list(kind.model_fields)


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


class _Reader:
    """Reads the parts of a document and notes problems instead of stopping at the first."""

    def __init__(self, document: Document, language: Language, problems: list[CuveeError]) -> None:
        self.document = document
        self.methods = language.methods
        self.weight_rules = language.weight_rules
        self.modifiers = language.modifiers
        self.problems = problems

    def note(self, place: Place, message: str, hint: str | None = None) -> None:
        self.problems.append(RecipeError(message, where=self.document.place(place), hint=hint))

    def method(self, data: dict[str, Any]) -> MethodSchema | None:
        """Return the method named, or the one that was probably meant, so that its settings are checked too."""
        key = data.get("merge_method")
        if not isinstance(key, str):
            return None
        if key not in self.methods:
            guess = closest(key.replace("-", "_").lower(), list(self.methods))
            hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(sorted(self.methods))}"
            self.note(("merge_method",), f"unknown merge method {shown(key)}", hint)
            return self.methods.get(guess or "")
        return self.methods[key]

    def recipe(
        self, data: dict[str, Any], method: MethodSchema | None, text: str, folder: Path | None
    ) -> Recipe | None:
        settings = self.settings(data.get("parameters"), ("parameters",), method, own=False)
        base = self.reference(data.get("base_model"), ("base_model",))
        slices = self.slices(data, method)
        if method is not None and data["merge_method"] in self.methods:
            self.check_base(data, method)
        weights = self.weights(data.get("weights"))
        if method is not None and weights is not None:
            self.check_weights(data, method, weights)
        post = self.post(data.get("post"))
        if method is not None and post and not _merges_changes(data, method):
            message = f"'{post[0].key}' modifies the change from a base, and '{data['merge_method']}' makes none here"
            self.note(("post",), message, "use a method that works on task vectors, with a 'base_model'")
        groups = self.groups(data, base, slices)
        if self.problems:
            return None
        checked = RecipeDocument.model_validate(data)
        tokenizer = self.tokenizer(checked, {base, *(m for part in slices for m in _models_of(part))})
        if self.problems:
            return None
        return Recipe(
            merge_method=checked.merge_method,
            slices=slices,
            sliced=checked.slices is not None,
            settings=settings,
            base_model=base,
            dtype=checked.dtype,
            out_dtype=checked.out_dtype,
            compute_dtype=checked.compute_dtype,
            semantics=checked.semantics,
            seed=checked.seed,
            weights=weights,
            post=post,
            rounding=checked.rounding,
            tokenizer=tokenizer,
            chat_template=checked.chat_template,
            groups=groups,
            missing=checked.missing,
            name=checked.name,
            text=text,
            source=self.document.source,
            folder=folder,
        )

    def slices(self, data: dict[str, Any], method: MethodSchema | None) -> tuple[Slice, ...]:
        models, slices = data.get("models"), data.get("slices")
        if "modules" in self.document.data:
            return ()
        if (models is None) == (slices is None):
            found = "neither" if models is None else "both"
            self.note((), f"expected exactly one of 'models' and 'slices', found {found}")
            return ()
        if isinstance(models, list):
            return (Slice(self.sources(models, ("models",), method), {}),)
        if not isinstance(slices, list):
            return ()
        return tuple(self.slice(part, ("slices", i), method) for i, part in enumerate(slices))

    def slice(self, part: Any, place: Place, method: MethodSchema | None) -> Slice:
        data = part if isinstance(part, dict) else {}
        listed = data.get("sources")
        sources = self.sources(listed if isinstance(listed, list) else [], (*place, "sources"), method)
        lengths = {source.layers[1] - source.layers[0] for source in sources if source.layers}
        if len(lengths) > 1:
            found = ", ".join(map(str, sorted(lengths)))
            self.note(place, f"the sources of a slice need equally many layers, found {found}")
        settings = self.settings(data.get("parameters"), (*place, "parameters"), method, own=False)
        return Slice(sources, settings, self.reference(data.get("base_model"), (*place, "base_model")))

    def sources(self, listed: list[Any], place: Place, method: MethodSchema | None) -> tuple[Source, ...]:
        found = [self.source(entry, (*place, i), method) for i, entry in enumerate(listed)]
        return tuple(source for source in found if source is not None)

    def source(self, entry: Any, place: Place, method: MethodSchema | None) -> Source | None:
        data = entry if isinstance(entry, dict) else {}
        model = self.reference(data.get("model"), (*place, "model"))
        settings = self.settings(data.get("parameters"), (*place, "parameters"), method, own=True)
        layers = self.layers(data.get("layer_range"), (*place, "layer_range"))
        return Source(model, settings, layers, data.get("name")) if model else None

    def layers(self, written: Any, place: Place) -> tuple[int, int] | None:
        if not (isinstance(written, list) and len(written) == 2 and all(type(n) is int for n in written)):
            return None
        first, last = written
        if not 0 <= first < last:
            self.note(place, f"expected [first, last) with 0 <= first < last, found {written}")
            return None
        return first, last

    def reference(self, written: Any, place: Place) -> ModelRef | None:
        if not isinstance(written, str):
            return None
        try:
            return parse_reference(written)
        except ValueError as error:
            self.note(place, str(error))
            return None

    def settings(self, written: Any, place: Place, method: MethodSchema | None, *, own: bool) -> Settings:
        if not isinstance(written, dict) or method is None:
            return {}
        return {
            name: value
            for name, entry in written.items()
            if (value := self.value(name, entry, (*place, name), method, own=own)) is not None
        }

    def value(self, name: str, written: Any, place: Place, method: MethodSchema, *, own: bool) -> Value | None:
        key = self.document.data["merge_method"]
        setting = method.settings.get(name)
        if setting is None:
            self.unknown(name, key, method.settings, place)
            return None
        if own and not setting.per_model:
            hint = "set it under the recipe's own 'parameters'"
            self.note(place, f"'{name}' is one number for the whole merge; a model cannot set its own", hint)
        try:
            value = parse_value(written)
        except ValueError as error:
            self.note(place, f"'{name}': {error}")
            return None
        for stop in (stop for choice in value for stop in choice.stops):
            if complaint := setting.complaint(stop):
                self.note(place, f"'{name}' of '{key}': {complaint}")
                return None
        return tuple(Choice(tuple(map(setting.plain, choice.stops)), choice.filter) for choice in value)

    def check_base(self, data: dict[str, Any], method: MethodSchema) -> None:
        if method.base in ("delta", "endpoint") and not _has_base(data):
            self.note(("merge_method",), f"'{data['merge_method']}' needs a 'base_model'")

    def groups(self, data: dict[str, Any], base: ModelRef | None, slices: tuple[Slice, ...]) -> dict[Group, ModelRef]:
        """Read which groups of tensors are taken from one model: its reference or name, or `base`."""
        sources = [source for part in slices for source in part.sources]
        known = {str(source.model): source.model for source in sources}
        known |= {source.name: source.model for source in sources if isinstance(source.name, str)}
        known |= {str(base): base} if base else {}
        known |= {"base": base or sources[0].model} if sources else {}
        found: dict[Group, ModelRef] = {}
        for key in ("missing", *GROUPS):
            if data.get("slices") is not None and data.get(key) is not None:
                self.note((key,), f"'{key}' is for whole 'models', not for 'slices'")
        for group in GROUPS:
            written = data.get(group)
            if not isinstance(written, str) or written == "merge":
                continue
            if written in known:
                found[group] = known[written]
            elif sources:
                guess = closest(written, ["merge", *known])
                hint = f"did you mean '{guess}'?" if guess else f"there are: merge, {', '.join(known)}"
                self.note(
                    (group,), f"'{group}': expected 'merge' or a model of the recipe, found {shown(written)}", hint
                )
        return found

    def weights(self, written: Any) -> Chosen | None:
        """Read `weights:`, a rule's name or {rule: name, and its settings}."""
        if written is None:
            return None
        if not isinstance(written, dict):
            return self.chosen(written, {}, self.weight_rules, "weight rule", ("weights",))
        if "rule" not in written:
            self.note(("weights",), f"expected a rule's name or {{rule: name, ...}}, found {shown(written)}")
            return None
        settings = {name: value for name, value in written.items() if name != "rule"}
        return self.chosen(written["rule"], settings, self.weight_rules, "weight rule", ("weights",))

    def post(self, written: Any) -> tuple[Chosen, ...]:
        """Read `post:`, a list of modifiers: names, or {name: {settings}}."""
        if written is None:
            return ()
        if not isinstance(written, list):
            self.note(("post",), f"expected a list of modifiers, found {shown(written)}")
            return ()
        found = [self.modifier(entry, ("post", i)) for i, entry in enumerate(written)]
        return tuple(chosen for chosen in found if chosen is not None)

    def modifier(self, entry: Any, place: Place) -> Chosen | None:
        if not isinstance(entry, dict):
            return self.chosen(entry, {}, self.modifiers, "modifier", place)
        key, settings = next(iter(entry.items()), ("", None))
        if len(entry) != 1 or not isinstance(settings, dict | None):
            self.note(place, f"expected a modifier's name or {{name: {{settings}}}}, found {shown(entry)}")
            return None
        return self.chosen(key, settings or {}, self.modifiers, "modifier", (*place, key))

    def chosen(self, key: Any, written: dict[str, Any], known: Additions, kind: str, place: Place) -> Chosen | None:
        """Check an addition's name and settings, and fill in the defaults."""
        if not isinstance(key, str) or key not in known:
            guess = closest(str(key).replace("-", "_").lower(), list(known))
            hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(known)}"
            self.note(place, f"unknown {kind} {shown(key)}", hint)
            return None
        settings = known[key].settings
        for name in settings:
            if settings[name].required and name not in written:
                self.note(place, f"'{key}' needs a value for '{name}'")
        result = {name: setting.default for name, setting in settings.items()}
        for name, value in written.items():
            if name in settings:
                result[name] = self.setting(settings[name], key, value, (*place, name))
            else:
                self.unknown(name, key, settings, (*place, name))
        return Chosen(key, result)

    def tokenizer(self, checked: RecipeDocument, models: set[ModelRef | None]) -> TokenizerChoice | None:
        """Read `tokenizer`, or `tokenizer_source`, which names models of the recipe only."""
        if checked.tokenizer is not None and checked.tokenizer_source is not None:
            self.note(("tokenizer_source",), "expected one of 'tokenizer' and 'tokenizer_source', found both")
        key = "tokenizer" if checked.tokenizer is not None else "tokenizer_source"
        written = checked.tokenizer or checked.tokenizer_source
        if written is None:
            return None
        try:
            choice = read_choice(written)
        except ValueError as error:
            self.note((key,), str(error))
            return None
        for model in dict.fromkeys(models_named(choice)):
            if model not in models:
                guess = closest(str(model), ["union", "base", *map(str, models - {None})])
                hint = f"did you mean '{guess}'?" if guess else "name one of the recipe's models, 'union' or 'base'"
                self.note((key,), f"'{model}' is not one of the recipe's models", hint)
        return choice

    def setting(self, setting: Setting, key: str, value: Any, place: Place) -> Any:
        """Check one setting of an addition, one value or a list as the setting says."""
        if setting.per_model and not isinstance(value, list):
            self.note(place, f"'{setting.name}' of '{key}': expected a list, found {shown(value)}")
            return None
        complaints = map(setting.complaint, value if setting.per_model else [value])
        if complaint := next(filter(None, complaints), None):
            self.note(place, f"'{setting.name}' of '{key}': {complaint}")
            return None
        return tuple(map(setting.plain, value)) if setting.per_model else setting.plain(value)

    def unknown(self, name: str, key: str, settings: Mapping[str, Setting], place: Place) -> None:
        guess = closest(name, list(settings))
        hint = f"did you mean '{guess}'?" if guess else f"it takes: {', '.join(settings) or 'none'}"
        self.note(place, f"'{key}' takes no parameter {shown(name)}", hint)

    def check_weights(self, data: dict[str, Any], method: MethodSchema, weights: Chosen) -> None:
        key = data["merge_method"]
        if "weight" not in method.settings or not method.settings["weight"].per_model:
            self.note(("weights",), f"'{key}' takes no weights")
        if self.weight_rules[weights.key].on_changes and not _merges_changes(data, method):
            message = f"'{weights.key}' measures task vectors, and '{key}' merges none here"
            self.note(("weights",), message, "use a method that works on task vectors, with a 'base_model'")
        for place in _places_of("weight", data):
            self.note(place, f"'weights: {weights.key}' sets the weight of each model", "leave one of the two out")


def _models_of(part: Slice) -> list[ModelRef]:
    return [source.model for source in part.sources] + ([part.base_model] if part.base_model else [])


def _has_base(data: dict[str, Any]) -> bool:
    slices = data.get("slices") if isinstance(data.get("slices"), list) else None
    per_slice = bool(slices) and all(isinstance(s, dict) and s.get("base_model") for s in slices or [])
    return bool(data.get("base_model")) or per_slice


def _merges_changes(data: dict[str, Any], method: MethodSchema) -> bool:
    return method.base == "delta" or (method.base == "optional" and _has_base(data))


def _places_of(name: str, data: Any, place: Place = ()) -> Iterator[Place]:
    """Give the places where a parameter of that name is set."""
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        if key == "parameters" and isinstance(value, dict) and name in value:
            yield (*place, key, name)
        elif key in ("models", "slices", "sources") or isinstance(key, int):
            yield from _places_of(name, value, (*place, key))


def recipe_schema(language: Language) -> dict[str, Any]:
    """Return the JSON Schema of recipes: the document's, with the methods' keys and parameters by name."""
    schema, methods = RecipeDocument.model_json_schema(), language.methods
    schema["title"] = "Cuvée recipe"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["merge_method"] = {"enum": sorted(methods), "description": "the method's key"}
    schema["oneOf"] = [{"required": [key], "properties": {key: {"type": "array"}}} for key in ("models", "slices")]
    forms: list[dict[str, Any]] = []
    schema["allOf"] = [_rule(key, method, forms) for key, method in sorted(methods.items())]
    schema["properties"]["weights"]["anyOf"] = _weights_forms(language.weight_rules)
    schema["properties"]["post"]["anyOf"] = _post_forms(language.modifiers)
    schema["$defs"] |= {_form_name(i): form for i, form in enumerate(forms)}
    return schema


def _rule(key: str, method: MethodSchema, forms: list[dict[str, Any]]) -> dict[str, Any]:
    shared = {"properties": {"parameters": _parameters(list(method.settings.values()), forms)}}
    own = {"properties": {"parameters": _parameters([s for s in method.settings.values() if s.per_model], forms)}}
    slices = {"properties": {**shared["properties"], "sources": {"items": own}}}
    return {
        "if": {"required": ["merge_method"], "properties": {"merge_method": {"const": key}}},
        "then": {"properties": {**shared["properties"], "models": {"items": own}, "slices": {"items": slices}}},
    }


def _weights_forms(known: Additions) -> list[dict[str, Any]]:
    with_settings = [_settings_of(rule, {"rule": {"const": key}}) for key, rule in known.items()]
    return [{"type": "null"}, {"enum": _bare(known)}, *with_settings]


def _post_forms(known: Additions) -> list[dict[str, Any]]:
    named = {key: {"anyOf": [{"type": "null"}, _settings_of(modifier, {})]} for key, modifier in known.items()}
    one = {"minProperties": 1, "maxProperties": 1, "additionalProperties": False}
    entry = {"anyOf": [{"enum": _bare(known)}, {"type": "object", **one, "properties": named}]}
    return [{"type": "null"}, {"type": "array", "items": entry}]


def _bare(known: Additions) -> list[str]:
    """List the additions that can be named without settings."""
    return [key for key, addition in known.items() if not any(s.required for s in addition.settings.values())]


def _settings_of(addition: AdditionSchema, fixed: dict[str, Any]) -> dict[str, Any]:
    own = {
        name: {"type": "array", "items": _scalar(setting)} if setting.per_model else _scalar(setting)
        for name, setting in addition.settings.items()
    }
    required = [*fixed, *(name for name, setting in addition.settings.items() if setting.required)]
    return {"type": "object", "additionalProperties": False, "required": required, "properties": fixed | own}


def _parameters(settings: list[Setting], forms: list[dict[str, Any]]) -> dict[str, Any]:
    for form in map(_form, settings):
        if form not in forms:
            forms.append(form)
    named = {setting.name: {"$ref": f"#/$defs/{_form_name(forms.index(_form(setting)))}"} for setting in settings}
    return {"type": ["object", "null"], "additionalProperties": False, "properties": named}


def _form_name(number: int) -> str:
    return f"Value{number}"


def _scalar(setting: Setting) -> dict[str, Any]:
    scalar: dict[str, Any] = {"type": {"text": "string"}.get(setting.kind, setting.kind)}
    if setting.choices:
        scalar["enum"] = list(setting.choices)
    if setting.within.low is not None:
        scalar["exclusiveMinimum" if setting.within.open_low else "minimum"] = setting.within.low
    if setting.within.high is not None:
        scalar["exclusiveMaximum" if setting.within.open_high else "maximum"] = setting.within.high
    return scalar


def _form(setting: Setting) -> dict[str, Any]:
    scalar = _scalar(setting)
    gradient = {"anyOf": [scalar, {"type": "array", "items": scalar, "minItems": 1}]}
    filtered = {
        "type": "object",
        "additionalProperties": False,
        "required": ["value"],
        "properties": {"filter": {"type": ["string", "null"]}, "value": gradient},
    }
    return {"anyOf": [gradient, filtered, {"type": "array", "items": filtered, "minItems": 1}]}
