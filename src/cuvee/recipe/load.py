"""Text -> Recipe, with all problems found at once.

The methods that exist are an argument: this room knows mergekit's language, not the mathematics.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from cuvee.errors import CuveeError, RecipeError, closest, several
from cuvee.recipe.document import MAX_CHARACTERS, Document, read_document
from cuvee.recipe.document import Path as Place
from cuvee.recipe.recipe import ComputeDType, DType, Recipe, Semantics, Slice, Source
from cuvee.recipe.reference import ModelRef, parse_reference
from cuvee.recipe.setting import Choice, Setting, Settings, Value, parse_value
from cuvee.recipe.shown import shown

NOT_YET = {
    "modules": "modules of multi-part architectures",
    "tokenizer": "changes of the tokenizer (the donor's is copied as it is)",
    "tokenizer_source": "changes of the tokenizer (the donor's is copied as it is)",
    "chat_template": "changes of the chat template (the donor's is copied as it is)",
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


class RecipeDocument(_Strict):
    """A merge recipe: mergekit's YAML, checked strictly."""

    merge_method: str
    models: list[_Model] | None = Field(None, min_length=1)
    slices: list[_Slice] | None = Field(None, min_length=1)
    base_model: str | None = None
    parameters: dict[str, Any] | None = None
    dtype: DType | None = Field(None, description="type of the written tensors, unless out_dtype says another")
    out_dtype: DType | None = None
    compute_dtype: ComputeDType = Field("float32", description="as_loaded computes in dtype, as mergekit does")
    semantics: Semantics = Field("mergekit", description="where mergekit and the paper differ")
    seed: int = Field(0, ge=0, lt=2**63)
    name: str | None = None


def read_recipe(path: Path, methods: Mapping[str, MethodSchema]) -> Recipe:
    """Read a recipe file. Raises RecipeError that holds every problem with its line."""
    try:
        with path.open(encoding="utf-8") as opened:
            text = opened.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe: {error}", where=str(path)) from error
    return parse_recipe(text, methods, source=str(path), folder=path.parent)


def parse_recipe(
    text: str, methods: Mapping[str, MethodSchema], *, source: str = "recipe", folder: Path | None = None
) -> Recipe:
    """Read a recipe from text. `methods` maps each method's key to what it can be told."""
    document = read_document(text, source)
    if not isinstance(document.data, dict):
        raise RecipeError("expected a mapping with 'merge_method' and 'models'", where=f"{source}:1")
    problems = _schema_problems(document) + _not_yet(document)
    known = {key: value for key, value in document.data.items() if key not in NOT_YET}
    reader = _Reader(document, methods, problems)
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
    return list(kind.model_fields)


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


class _Reader:
    """Reads the parts of a document and notes problems instead of stopping at the first."""

    def __init__(self, document: Document, methods: Mapping[str, MethodSchema], problems: list[CuveeError]) -> None:
        self.document = document
        self.methods = methods
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
        if self.problems:
            return None
        checked = RecipeDocument.model_validate(data)
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
            guess = closest(name, list(method.settings))
            hint = f"did you mean '{guess}'?" if guess else f"it takes: {', '.join(method.settings) or 'none'}"
            self.note(place, f"'{key}' takes no parameter {shown(name)}", hint)
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
        slices = data.get("slices") if isinstance(data.get("slices"), list) else None
        per_slice = bool(slices) and all(isinstance(s, dict) and s.get("base_model") for s in slices or [])
        if method.base in ("delta", "endpoint") and not data.get("base_model") and not per_slice:
            self.note(("merge_method",), f"'{data['merge_method']}' needs a 'base_model'")


def recipe_schema(methods: Mapping[str, MethodSchema]) -> dict[str, Any]:
    """Return the JSON Schema of recipes: the document's, with the methods' keys and parameters by name."""
    schema = RecipeDocument.model_json_schema()
    schema["title"] = "Cuvée recipe"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["merge_method"] = {"enum": sorted(methods), "description": "the method's key"}
    schema["oneOf"] = [{"required": [key], "properties": {key: {"type": "array"}}} for key in ("models", "slices")]
    forms: list[dict[str, Any]] = []
    schema["allOf"] = [_rule(key, method, forms) for key, method in sorted(methods.items())]
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


def _parameters(settings: list[Setting], forms: list[dict[str, Any]]) -> dict[str, Any]:
    for form in map(_form, settings):
        if form not in forms:
            forms.append(form)
    named = {setting.name: {"$ref": f"#/$defs/{_form_name(forms.index(_form(setting)))}"} for setting in settings}
    return {"type": ["object", "null"], "additionalProperties": False, "properties": named}


def _form_name(number: int) -> str:
    return f"Value{number}"


def _form(setting: Setting) -> dict[str, Any]:
    scalar: dict[str, Any] = {"type": {"text": "string"}.get(setting.kind, setting.kind)}
    if setting.choices:
        scalar["enum"] = list(setting.choices)
    if setting.within.low is not None:
        scalar["exclusiveMinimum" if setting.within.open_low else "minimum"] = setting.within.low
    if setting.within.high is not None:
        scalar["exclusiveMaximum" if setting.within.open_high else "maximum"] = setting.within.high
    gradient = {"anyOf": [scalar, {"type": "array", "items": scalar, "minItems": 1}]}
    filtered = {
        "type": "object",
        "additionalProperties": False,
        "required": ["value"],
        "properties": {"filter": {"type": ["string", "null"]}, "value": gradient},
    }
    return {"anyOf": [gradient, filtered, {"type": "array", "items": filtered, "minItems": 1}]}
