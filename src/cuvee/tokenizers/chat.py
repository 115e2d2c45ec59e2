"""Chat templates: found in a model's files, and chosen for the output."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cuvee.errors import CheckpointError, RecipeError
from cuvee.tokenizers.read import SETTINGS, TEMPLATE

NAMED = {
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
        "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
}

SHORTEST = 20
"""A shorter text is a name and no template, as in mergekit."""


def chat_template(folder: Path) -> str | None:
    """Return a model's chat template, wherever it stands; None if it has none."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    for name in ("chat_template.json", SETTINGS):
        if (folder / name).is_file():
            found = _settings(folder / name).get("chat_template")
            if isinstance(found, list):  # several by name, of which one is the usual one
                found = next((entry["template"] for entry in found if entry.get("name") == "default"), None)
            if isinstance(found, str):
                return found
    return None


def other_templates(folder: Path) -> dict[str, str]:
    """Return a model's chat templates beside the usual one, by name."""
    templates = {}
    written = _settings(folder / SETTINGS).get("chat_template") if (folder / SETTINGS).is_file() else None
    for entry in written if isinstance(written, list) else ():
        templates[str(entry["name"])] = str(entry["template"])
    for file in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[file.stem] = file.read_text(encoding="utf-8")
    return {name: template for name, template in templates.items() if name != "default"}


def chosen_template(written: str, names: Sequence[str], folders: Sequence[Path]) -> str:
    """Return the template that a recipe asks for: the commonest, one of a model, a known one, or the text itself."""
    if written == "auto":
        found = [template for folder in folders if (template := chat_template(folder)) is not None]
        if not found:
            raise CheckpointError("'chat_template: auto' finds none: no model has a chat template")
        return Counter(found).most_common(1)[0][0]
    if written in names:
        folder = folders[names.index(written)]
        template = chat_template(folder)
        if template is None:
            raise CheckpointError("has no chat template", where=written)
        return template
    if written in NAMED:
        return NAMED[written]
    if len(written) < SHORTEST:
        hint = f"expected auto, {', '.join(NAMED)}, one of the recipe's models, or a Jinja template"
        raise RecipeError(f"unknown chat template '{written}'", hint=hint)
    return written


def without_template(settings: Path) -> str | None:
    """Return tokenizer_config.json without its chat template, which would compete with the file; None for none."""
    if not settings.is_file():
        return None
    found = _settings(settings)
    if "chat_template" not in found:
        return None
    kept = {key: value for key, value in found.items() if key != "chat_template"}
    return json.dumps(kept, indent=2, ensure_ascii=False) + "\n"


def _settings(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"not JSON: {error}", where=str(file)) from error
    if not isinstance(found, dict):
        raise CheckpointError("expected a JSON object", where=str(file))
    return found
