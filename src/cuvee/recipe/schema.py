"""The JSON Schema of recipes, with which an editor completes and checks them."""

from typing import Any

from cuvee.recipe.keys import RecipeDocument
from cuvee.recipe.language import Additions, AdditionSchema, Language, MethodSchema
from cuvee.recipe.setting import Setting


def recipe_schema(language: Language) -> dict[str, Any]:
    """Return the JSON Schema of recipes: the document's, with the methods' keys and parameters by name."""
    schema, methods = RecipeDocument.model_json_schema(), language.methods
    schema["title"] = "Cuvée recipe"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["merge_method"] = {"enum": sorted(methods), "description": "the method's key"}
    schema["oneOf"] = [{"required": [key], "properties": {key: {"type": "array"}}} for key in ("models", "slices")]
    schema["oneOf"].append({"required": ["modules"], "properties": {"modules": {"type": "object"}}})
    forms: list[dict[str, Any]] = []
    schema["allOf"] = [_rule(key, method, forms) for key, method in sorted(methods.items())]
    schema["properties"]["weights"]["anyOf"] = _weights_forms(language.weight_rules)
    schema["properties"]["post"]["anyOf"] = _post_forms(language.modifiers)
    schema["$defs"] |= {_form_name(i): form for i, form in enumerate(forms)}
    return schema


def _rule(key: str, method: MethodSchema, forms: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the parameters of a recipe, a slice and a model for a method."""
    settings = list(method.settings.values())
    of_models = [setting for setting in settings if setting.per_model]
    shared = {"properties": {"parameters": _parameters(settings, forms)}}
    own = {"properties": {"parameters": _parameters(of_models, forms)}}
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
    single_key = {"minProperties": 1, "maxProperties": 1, "additionalProperties": False}
    entry = {"anyOf": [{"enum": _bare(known)}, {"type": "object", **single_key, "properties": named}]}
    return [{"type": "null"}, {"type": "array", "items": entry}]


def _bare(known: Additions) -> list[str]:
    """List the additions that can be named without settings."""
    return [key for key, addition in known.items() if not _required(addition)]


def _required(addition: AdditionSchema) -> list[str]:
    return [name for name, setting in addition.settings.items() if setting.required]


def _settings_of(addition: AdditionSchema, fixed: dict[str, Any]) -> dict[str, Any]:
    properties = dict(fixed)
    for name, setting in addition.settings.items():
        scalar = _scalar(setting)
        properties[name] = {"type": "array", "items": scalar} if setting.per_model else scalar
    required = [*fixed, *_required(addition)]
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


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
