"""YAML text -> plain data that remembers on which line each thing stands.

PyYAML reads as mergekit does (YAML 1.1), but for numbers such as `1e-4`, which it takes for text, and for a key that
is written twice, which it drops without a word.
"""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from cuvee.errors import CuveeError, RecipeError, several

Path = tuple[str | int, ...]

MAX_BYTES = 8 << 20
MAX_NODES = 200_000
MAX_DEPTH = 30


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


@dataclass(frozen=True)
class Document:
    """Data read from YAML; `place(path)` is the `file:line` of the thing at a path of keys and positions."""

    data: Any
    source: str
    lines: dict[Path, int]

    def place(self, path: Path) -> str:
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}:{self.lines.get(path, 1)}"


def read_document(text: str, source: str) -> Document:
    """Parse one YAML document. Raises RecipeError with the line for bad YAML, repeated keys and alias bombs."""
    if len(text) > MAX_BYTES:
        raise RecipeError(f"expected at most {MAX_BYTES} bytes of YAML, found {len(text)}", where=source)
    loader = _Loader(text)
    try:
        nodes = list(iter(lambda: _next_node(loader), None))
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, source) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"this is not YAML: {error}", where=source) from error
    if len(nodes) != 1:
        found = "nothing" if not nodes else f"{len(nodes)} documents"
        raise RecipeError(f"expected one YAML document, found {found}", where=source)
    return _Reader(loader, source).read(nodes[0])


def _next_node(loader: _Loader) -> yaml.Node | None:
    return loader.get_node() if loader.check_node() else None


def _syntax_error(error: yaml.MarkedYAMLError, source: str) -> RecipeError:
    mark = error.problem_mark or error.context_mark
    line = f"{source}:{mark.line + 1}" if mark else source
    return RecipeError(f"this is not YAML: {error.problem or error.context}", where=line)


class _Reader:
    """Turns nodes into data. State: lines seen, nodes spent, problems found."""

    def __init__(self, loader: _Loader, source: str) -> None:
        self.loader = loader
        self.source = source
        self.lines: dict[Path, int] = {}
        self.nodes = 0
        self.problems: list[CuveeError] = []

    def read(self, root: yaml.Node) -> Document:
        data = self._data(root, (), root)
        if self.problems:
            raise several(self.problems)
        return Document(data, self.source, self.lines)

    def _data(self, node: yaml.Node, path: Path, marked: yaml.Node) -> Any:
        self.nodes += 1
        line = marked.start_mark.line + 1
        self.lines[path] = line
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise RecipeError("this YAML is too large or too deep once its aliases are expanded", where=self.source)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._data(entry, (*path, i), entry) for i, entry in enumerate(node.value)]
        try:
            return self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise RecipeError(f"cannot read the value {node.value!r}", where=f"{self.source}:{line}") from error

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        self._note_repeats(node)
        self.loader.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key, value in node.value:
            name = str(self.loader.construct_object(key))
            result[name] = self._data(value, (*path, name), key)
        return result

    def _note_repeats(self, node: yaml.MappingNode) -> None:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                where = f"{self.source}:{key.start_mark.line + 1}"
                self.problems.append(RecipeError("expected a word as key", where=where))
                continue
            line = key.start_mark.line + 1
            if key.value in seen and key.value != "<<":
                message = f"key '{key.value}' is written twice, first on line {seen[key.value]}"
                self.problems.append(RecipeError(message, where=f"{self.source}:{line}"))
            seen[key.value] = line
