"""Write what transformers takes for the settings that a config.json leaves out, one line for each model type.

Run it as `python tools/config_defaults.py` after an update of transformers: `cuvee.structure.settings` reads the lines.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from cuvee.structure.settings import DEFAULTS, DERIVED, decides

FILE = Path(__file__).parents[1] / "src" / "cuvee" / "structure" / DEFAULTS

COMMON = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
"""Fields of every config."""


def lines() -> dict[str, dict[str, Any]]:
    """Return for each model type what its config class says."""
    families: dict[str, dict[str, Any]] = {}
    for model_type in sorted(CONFIG_MAPPING.keys()):
        kind = CONFIG_MAPPING[model_type]
        if kind.model_type == model_type:
            families[model_type] = line(kind)
    return families


def line(kind: type[Any]) -> dict[str, Any]:
    """Return the defaults of one class: its `settings`, its `parts`' model types, other `names` of settings."""
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name not in COMMON and field.name not in kind.sub_configs:
            defaults[field.name] = plain(default_of(field))
    example = _example(kind)
    for key, value in example.items():
        if key in defaults and defaults[key] is None and key not in DERIVED and not isinstance(value, list):
            defaults[key] = value
    settings = {key: value for key, value in defaults.items() if decides(key) and not isinstance(value, Mapping)}
    rope = example.get("rope_parameters")
    if rope:
        settings["rope_parameters"] = dict(sorted(rope.items()))  # some classes have kinds of layers in a set
    parts = {key: value["model_type"] for key, value in example.items() if _is_part(value)}
    names = {name: key for name, key in kind.attribute_map.items() if key in settings}
    content = {"settings": settings, "parts": parts, "names": names}
    return {key: value for key, value in content.items() if value}


def default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def plain(value: Any) -> Any:
    """Return a value as a config.json has it."""
    return json.loads(json.dumps(value, default=str))


def _example(kind: type[Any]) -> dict[str, Any]:
    """Return a config in which nothing is chosen; nothing where the class makes none."""
    try:
        return dict(plain(kind().to_dict()))
    except (ValueError, StrictDataclassError) as error:
        print(f"{kind.__name__} without arguments: {type(error).__name__}", file=sys.stderr)
        return {}


def _is_part(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("model_type"), str)


def written(families: Mapping[str, Any]) -> str:
    """Return the file's text, a line for each model type."""
    source = {"source": f"config classes of transformers {transformers.__version__}, by tools/config_defaults.py"}
    entries = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in {"": source, **families}.items()]
    return "{\n" + ",\n".join(entries) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(written(lines()), encoding="utf-8")
