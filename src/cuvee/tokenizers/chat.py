"""Chat templates: found in a model's files, and chosen for the output."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from cuvee.errors import CheckpointError, RecipeError, closest
from cuvee.extras import install_command
from cuvee.tokenizers.read import SETTINGS, TEMPLATE, TEMPLATES

LONGEST_NAME = 100
"""A text without Jinja is taken for a mistyped name up to so many characters."""


@dataclass(frozen=True)
class ChatTemplates:
    """A tokenizer's chat templates: the usual template, None if there is none, and others by name."""

    usual: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """The chat templates of an output, and notes on the choice."""

    usual: str
    others: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, str]:
        """Return file name -> text, as transformers keeps them."""
        return {TEMPLATE: self.usual} | {f"{TEMPLATES}/{name}.jinja": text for name, text in self.others.items()}


@cache
def named_templates() -> Mapping[str, str]:
    """Return the templates that a recipe calls by name: those of mergekit's names, by each format's definition."""
    folder = resources.files("cuvee.tokenizers") / "templates"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".jinja"): file.read_text(encoding="utf-8") for file in files}


def chat_template(folder: Path) -> str | None:
    """Return a model's usual chat template, wherever it stands; None if it has none."""
    return chat_templates(folder).usual


def chat_templates(folder: Path) -> ChatTemplates:
    """Return all chat templates of a tokenizer. Files of their own go before the settings, as they load."""
    usual = _text(folder / TEMPLATE) if (folder / TEMPLATE).is_file() else None
    others = {file.stem: _text(file) for file in sorted((folder / TEMPLATES).glob("*.jinja"))}
    if usual is not None or others:
        return ChatTemplates(usual, others)
    for file in (folder / "chat_template.json", folder / SETTINGS):
        if not file.is_file():
            continue
        written = _settings(file).get("chat_template")
        if written is not None:
            return _by_name(written, file)
    return ChatTemplates()


def chosen_templates(
    written: str, names: Sequence[str], folders: Sequence[Path], *, beside: Path | None = None
) -> Chosen:
    """Return the templates that a recipe asks for: the commonest, a model's, a shipped template, or the text itself.

    `beside` is the recipe's folder. Raises RecipeError for a text that is no template.
    """
    if written == "auto":
        return _commonest([chat_templates(folder) for folder in folders])
    if written in names:
        templates = chat_templates(folders[names.index(written)])
        if templates.usual is None:
            raise CheckpointError("has no chat template", where=written)
        return Chosen(templates.usual, templates.others)
    if written in named_templates():
        return Chosen(named_templates()[written])
    return Chosen(written, notes=_checked(written, beside))


def _commonest(models: Sequence[ChatTemplates]) -> Chosen:
    """Return the templates of the first model with the commonest usual template; blanks at its ends do not count."""
    texts = [model.usual for model in models if model.usual is not None]
    if not texts:
        raise CheckpointError("'chat_template: auto' finds none: no model has a chat template")
    counts = Counter(map(str.strip, texts))
    commonest, _ = counts.most_common(1)[0]
    for model in models:
        if model.usual is not None and model.usual.strip() == commonest:
            return Chosen(model.usual, model.others)
    raise AssertionError("the commonest text is some model's")


def _checked(written: str, beside: Path | None) -> tuple[str, ...]:
    """Raise RecipeError unless a text is a Jinja template. Returns notes on checks that were left out."""
    expected = f"expected auto, {', '.join(named_templates())}, one of the recipe's models, or a Jinja template"
    if "{{" in written or "{%" in written:
        return _parsed(written)
    if _is_path(written, beside):
        hint = "write the text itself: `chat_template: |`, and the file's lines indented below"
        raise RecipeError(f"'chat_template' is a file's path, {written!r}: expected the template's text", hint=hint)
    if "\n" in written or len(written) > LONGEST_NAME:
        message = "'chat_template' is no Jinja template: nothing in it is between '{{ }}' or '{% %}'"
        raise RecipeError(message, hint=expected)
    guess = closest(written, [*named_templates(), "auto"])
    meant = f"did you mean '{guess}'? " if guess else ""
    raise RecipeError(f"unknown chat template '{written}'", hint=f"{meant}{expected}")


def _is_path(written: str, beside: Path | None) -> bool:
    if written.endswith((".jinja", ".jinja2", ".j2", ".json", ".txt")):
        return True
    try:
        return any((folder / written).is_file() for folder in (Path(), beside) if folder is not None)
    except (OSError, ValueError):  # too long for a path, or no path at all
        return False


def _parsed(written: str) -> tuple[str, ...]:
    """Raise RecipeError for a text that the template engine cannot read, with the engine's words and the line."""
    try:
        from jinja2 import TemplateSyntaxError

        from cuvee.tokenizers.jinja import environment
    except ImportError:
        return (f"whether 'chat_template' is right Jinja was not checked: that needs {install_command('eval')}",)
    try:
        environment().parse(written)
    except TemplateSyntaxError as error:
        raise RecipeError(f"'chat_template' is no Jinja template: line {error.lineno}: {error.message}") from error
    return ()


def without_template(settings: str) -> str:
    """Return the text of a tokenizer_config.json without its chat templates, which would compete with the files."""
    document = json.loads(settings)
    if "chat_template" not in document:
        return settings
    del document["chat_template"]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _by_name(found: Any, file: Path) -> ChatTemplates:
    """Read the templates of a settings file: a text, a list of names and texts, or a mapping of them."""
    if isinstance(found, str):
        return ChatTemplates(found)
    try:
        if isinstance(found, list):
            found = {entry["name"]: entry["template"] for entry in found}
        known = {_file_name(name): str(text) for name, text in dict(found).items()}
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"'chat_template' cannot be read: {error!r}", where=str(file)) from error
    return ChatTemplates(known.pop("default", None), known)


def _file_name(name: object) -> str:
    """Return a template's name, which becomes a file's. Raises ValueError."""
    if isinstance(name, str) and Path(name).name == name and name.isprintable():
        return name
    raise ValueError(f"a template is called {name!r}")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read the chat template: {error}", where=str(file)) from error


def _settings(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"not JSON: {error}", where=str(file)) from error
    if not isinstance(found, dict):
        raise CheckpointError("expected a JSON object", where=str(file))
    return found
