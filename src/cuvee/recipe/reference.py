"""A reference to a model: `path_or_hub_name[@revision][+adapter[@revision]]`, mergekit's syntax."""

import re
from dataclasses import dataclass

from cuvee.documents.shown import shown

_HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


@dataclass(frozen=True, order=True)
class ModelRef:
    """Where a model is: a folder, a `.safetensors` file or a hub name, with an optional revision and adapter."""

    path: str
    revision: str | None = None
    adapter: str | None = None
    adapter_revision: str | None = None

    def __str__(self) -> str:
        return _joined(self.path, self.revision) + (f"+{self.adapter_text}" if self.adapter else "")

    @property
    def adapter_text(self) -> str:
        """The adapter with its revision, as it is written; nothing for a model without an adapter."""
        return _joined(self.adapter, self.adapter_revision) if self.adapter else ""

    @property
    def without_revisions(self) -> str:
        """The reference as random draws know it: the same text at every revision."""
        return self.path + (f"+{self.adapter}" if self.adapter else "")

    @property
    def looks_like_hub_name(self) -> bool:
        return _HUB_NAME.match(self.path) is not None


def parse_reference(text: str) -> ModelRef:
    """Read a model reference. Raises ValueError that names the fault."""
    model, plus, adapter = text.strip().partition("+")
    path, revision = _split_revision(model)
    if not path:
        raise ValueError(f"a model reference needs a path or a hub name, found {shown(text)}")
    adapter_path, adapter_revision = _split_revision(adapter)
    if plus and not adapter_path:
        raise ValueError(f"nothing follows the '+' in {shown(text)}; expected an adapter")
    if "+" in adapter:
        raise ValueError(f"expected one adapter, found {shown(text)}")
    return ModelRef(path, revision, adapter_path or None, adapter_revision)


def _split_revision(text: str) -> tuple[str, str | None]:
    path, at, revision = text.partition("@")
    if at and not revision:
        raise ValueError(f"nothing follows the '@' in {shown(text)}; expected a revision")
    if "@" in revision:
        raise ValueError(f"expected one '@' and a revision, found {shown(text)}")
    return path, revision or None


def _joined(path: str, revision: str | None) -> str:
    return f"{path}@{revision}" if revision else path
