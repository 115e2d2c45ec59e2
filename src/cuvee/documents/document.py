"""YAML text -> plain data that remembers on which line each thing stands.

PyYAML reads as mergekit does (YAML 1.1), but for numbers such as `1e-4`, which it takes for text, for dates, which
stay text here, and for a key that is written twice, which it drops without a word.
"""

import pathlib
import re
from dataclasses import dataclass
from typing import Any

import yaml

from cuvee.documents.shown import shown
from cuvee.errors import CuveeError, RecipeError, several
from cuvee.nearest import nearest

Path = tuple[str | int, ...]

MAX_CHARACTERS = 1 << 20
MAX_NODES = 20_000
MAX_DEPTH = 30
MAX_DIGITS = 100
"""Longest text of a number: Python takes quadratic time for long ones."""

_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge"))
_MERGE = "tag:yaml.org,2002:merge"
_TEXT = "tag:yaml.org,2002:str"
_BREAKS = re.compile("[\x85\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Halves of characters, which an escape can make and no encoding can write."""
_INDENT = re.compile(r"[ -]*([^\S ]|\u200b)")
"""The beginning of a line with white space other than spaces, as text copied from a page may have it."""

Pairs = list[tuple[yaml.Node, yaml.Node]]


class _Loader(yaml.SafeLoader):
    """Counts nodes and depth while the text is read, so that a large text is not read to its end."""

    nodes = 0
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.nodes += 1
        self.depth += 1
        if self.nodes > MAX_NODES or self.depth > MAX_DEPTH:
            raise _TooLarge
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _TooLarge(Exception):
    pass


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Puts quotes around texts that `_Loader` would take for numbers, and escapes the line breaks of Unicode.

    PyYAML writes U+0085 as it is where `allow_unicode` is set, and reads it as a space.
    """

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if _BREAKS.search(data) else None
        return self.represent_scalar(_TEXT, data, style)


_Dumper.add_representer(str, _Dumper.represent_str)


_EXPONENTS = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENTS, list("-+.0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENTS, list("-+.0123456789"))


@dataclass(frozen=True)
class Document:
    """Data read from YAML, or data that no text holds, which has no lines.

    - `place(path)`: the `file:line` of the thing at a path of keys and positions; the source alone without lines.
    - `error`: the type of error that a problem of this document is.
    """

    data: Any
    source: str
    lines: dict[Path, int]
    text: str = ""
    error: type[CuveeError] = RecipeError

    def place(self, path: Path) -> str:
        if not self.lines:
            return self.source
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}:{self.lines.get(path, 1)}"


def read_text(file: pathlib.Path, noun: str, error_type: type[CuveeError] = RecipeError) -> str:
    """Read a file, or so much of it that it is seen to be too long; `noun` names its content, such as recipe.

    Raises `error_type`.
    """
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(MAX_CHARACTERS + 1)
    except FileNotFoundError as error:
        message = f"cannot read the {noun}: there is no such file"
        raise error_type(message, where=str(file), hint=nearest(str(file), suffixes=(".yaml", ".yml"))) from error
    except (OSError, UnicodeDecodeError) as error:
        raise error_type(f"cannot read the {noun}: {error}", where=str(file)) from error


def read_document(text: str, source: str, error_type: type[CuveeError] = RecipeError) -> Document:
    """Parse a YAML document. Raises `error_type` with the line for bad YAML, repeated keys and alias bombs."""
    documents = read_documents(text, source, error_type)
    if len(documents) != 1:
        raise error_type(f"expected one YAML document, found {len(documents)} documents", where=source)
    return documents[0]


def read_documents(text: str, source: str, error_type: type[CuveeError] = RecipeError) -> list[Document]:
    """Parse the YAML documents of a text. Raises `error_type` as `read_document` does, and for a text without any."""
    if len(text) > MAX_CHARACTERS:
        raise error_type(f"expected at most {MAX_CHARACTERS} characters of YAML, found {len(text)}", where=source)
    try:
        loader = _Loader(text)
        nodes = list(iter(lambda: _next_node(loader), None))
        if nodes:
            return [_Reader(loader, source, _own_text(text, node, len(nodes)), error_type).read(node) for node in nodes]
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, source, text, error_type) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"this is not YAML: the character {chr(error.character)!r} is not allowed"
        raise error_type(message, where=f"{source}:{line}") from error
    except _TooLarge as error:
        message = f"too large: expected at most {MAX_NODES} values, aliases expanded, in at most {MAX_DEPTH} levels"
        raise error_type(message, where=source) from error
    raise error_type("expected one YAML document, found nothing", where=source)


def in_yaml(data: Any) -> str:
    """Write plain data as YAML that `read_document` reads as the same data. Raises RecipeError for other objects."""
    try:
        return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    except yaml.representer.RepresenterError as error:
        message = f"expected plain numbers, texts, lists and mappings, found {shown(error.args[-1])}"
        raise RecipeError(message) from error


def _own_text(text: str, node: yaml.Node, documents: int) -> str:
    """Return a document's own text; all the text, comments included, if there are no other documents."""
    if documents == 1:
        return text
    return text[node.start_mark.index : node.end_mark.index].rstrip() + "\n"


def _next_node(loader: _Loader) -> yaml.Node | None:
    return loader.get_node() if loader.check_node() else None


def _syntax_error(error: yaml.MarkedYAMLError, source: str, text: str, error_type: type[CuveeError]) -> CuveeError:
    mark = error.problem_mark or error.context_mark
    message = f"this is not YAML: {error.problem or error.context}"
    if mark is None:
        return error_type(message, where=source)
    return error_type(message, where=f"{source}:{mark.line + 1}", hint=_no_space(text, mark.line))


def _no_space(text: str, at: int) -> str | None:
    """Return a hint where the line at which reading stopped, or the one before, is indented by other than spaces."""
    lines = text.splitlines()
    for number in range(max(at - 1, 0), min(at + 1, len(lines))):
        indent = _INDENT.match(lines[number])
        if indent:
            what = "a tab" if indent[1] == "\t" else f"U+{ord(indent[1]):04X}, which only looks like a space"
            return f"line {number + 1} begins with {what}: indent by spaces"
    return None


class _Reader:
    """Turns nodes into data. State: lines seen, nodes spent, problems found."""

    def __init__(self, loader: _Loader, source: str, text: str, error_type: type[CuveeError]) -> None:
        self.loader = loader
        self.source = source
        self.text = text
        self.error_type = error_type
        self.lines: dict[Path, int] = {}
        self.nodes = 0
        self.problems: dict[str, CuveeError] = {}

    def read(self, root: yaml.Node) -> Document:
        data = self._data(root, (), root)
        if self.problems:
            raise several(list(self.problems.values()))
        return Document(data, self.source, self.lines, self.text, self.error_type)

    def note(self, node: yaml.Node, message: str) -> None:
        """Note a problem, once however many aliases lead to it."""
        problem = self.error_type(message, where=f"{self.source}:{node.start_mark.line + 1}")
        self.problems[str(problem)] = problem

    def _data(self, node: yaml.Node, path: Path, marked: yaml.Node) -> Any:
        self._spend(len(path))
        self.lines[path] = marked.start_mark.line + 1
        if node.tag not in _TAGS:
            self.note(node, f"the tag {shown(node.tag)} means nothing here")
            return None
        if isinstance(node, yaml.MappingNode):
            pairs = self._pairs(node, len(path))
            return {key.value: self._data(value, (*path, key.value), key) for key, value in pairs}
        if isinstance(node, yaml.SequenceNode):
            return [self._data(entry, (*path, i), entry) for i, entry in enumerate(node.value)]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            is_too_long = node.tag != _TEXT and len(node.value) > MAX_DIGITS
            if is_too_long or _SURROGATE.search(node.value):
                raise ValueError
            return self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError, AttributeError):
            self.note(node, f"cannot read the value {shown(node.value)}")
            return None

    def _pairs(self, node: yaml.MappingNode, depth: int) -> Pairs:
        """List a mapping's keys and values; those that `<<` brings come after its own and yield to them."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            self._spend(depth)
            if not isinstance(key, yaml.ScalarNode) or _SURROGATE.search(key.value):
                self.note(key, "expected a word as key")
            elif key.tag == _MERGE:
                listed = value.value if isinstance(value, yaml.SequenceNode) else [value]
                merged = [*listed, *merged]  # of two '<<' PyYAML prefers the later
            elif key.value in own:
                first = own[key.value][0].start_mark.line + 1
                self.note(key, f"key {shown(key.value)} is written twice, first on line {first}")
            else:
                own[key.value] = (key, value)
        for other in merged:
            if not isinstance(other, yaml.MappingNode):
                self.note(other, "expected a mapping, or a list of mappings, after '<<'")
                continue
            for key, value in self._pairs(other, depth + 1):
                own.setdefault(str(key.value), (key, value))
        return list(own.values())

    def _spend(self, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise _TooLarge
