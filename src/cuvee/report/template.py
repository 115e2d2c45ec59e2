"""Pages from templates: every text escaped, the page's own style and script named by their hashes.

A page's template extends `frame.html.j2`, which takes `style` and perhaps `script`. `look.css` holds the palette, the
type and all that pages share; `stylesheet` puts it before a page's own rules.
"""

import base64
import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from cuvee.errors import MissingExtra


def check_installed() -> None:
    """Raise MissingExtra without jinja2."""
    if importlib.util.find_spec("jinja2") is None:
        raise MissingExtra("eval", missing="jinja2")


def render(template: str, values: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]) -> str:
    """Fill in a shipped template. Raises MissingExtra without jinja2."""
    check_installed()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(shipped),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters, content_hash=content_hash)
    return environment.get_template(template).render(values)


def stylesheet(*parts: str) -> str:
    """Join the rules that all pages share and a page's own rules: names of shipped files, or rules as text."""
    own = [shipped(part) if part.endswith(".css") else part for part in parts]
    return "\n".join([shipped("look.css"), *own])


def shipped(name: str) -> str:
    """Return the text of a file of this room."""
    return (resources.files("cuvee.report") / name).read_text(encoding="utf-8")


def content_hash(text: str) -> str:
    """Hash an inline stylesheet or script as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
