"""The reference of `import cuvee`: every name of `cuvee.__all__`, from its signature and its docstring."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from python_examples import EXAMPLES, RECIPE

import cuvee

SECTIONS = {
    "Recipes": ("load_recipe", "load_stages", "load_sweep", "recipe_from_text", "recipe_from_data", "Recipe"),
    "Plan and merge": (
        "make_plan",
        "merge",
        "run_plan",
        "merge_stages",
        "merge_together",
        "Options",
        "Plan",
        "MergeResult",
    ),
    "Merge in parts": ("merge_part", "join", "Part", "PartResult"),
    "Arrays in memory": ("merge_tensors", "merge_state_dicts"),
    "Models out of a merge by EMR": ("rebuild",),
    "Adapters": ("extract_adapter", "combine_adapters", "apply_adapter", "compare_adapters"),
    "Vocabularies": ("resize_vocabulary",),
    "Compare and measure": ("compare", "evaluate", "Comparison", "Report"),
    "Version": ("__version__",),
}
WIDEST = 88

INTRO = """`import cuvee` is quick: numpy, torch and the like are imported when something that needs them is first used.
[Use it from Python](../how-to/use-from-python.md) shows how these go together. What fails as expected raises a kind of
`cuvee.errors.CuveeError`: see [Exit codes and errors](errors.md#in-python). The examples go on from one another. They
use the models of the demo, and this recipe:"""


def python_page(generated: str) -> str:
    """Return the page. Fails if a name of `cuvee.__all__` has no place on it."""
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(cuvee.__all__), "docs/python_page.py: each name of __all__ belongs in one section"
    parts = ["# Python", generated, INTRO, "```sh\ncuvee demo cuvee-demo\n```"]
    parts.append(f"```yaml\n# file: recipe.yaml\n{RECIPE}```")
    for title, names in SECTIONS.items():
        parts.append(f"## {title}")
        for name in names:
            parts += _entry(name)
    return "\n\n".join(parts) + "\n"


def _entry(name: str) -> Iterator[str]:
    value = getattr(cuvee, name)
    yield f"### cuvee.{name}"
    if isinstance(value, str):
        yield "The version of the package, as `cuvee --version` prints it."
        return
    yield f"```py\n{_signature(name, value)}\n```"
    yield inspect.getdoc(value) or ""
    if inspect.isfunction(value):
        yield f"```python\n{textwrap.dedent(EXAMPLES[name]).strip()}\n```"


def _signature(name: str, value: Any) -> str:
    source = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    if isinstance(source, ast.ClassDef):
        return "\n".join([f"class {name}:", *(f"    {line}" for line in _fields(source, value))])
    assert isinstance(source, ast.FunctionDef)
    returns = f" -> {_plain(source.returns)}" if source.returns else ""
    arguments = [*_arguments(source.args)]
    line = f"def {name}({', '.join(arguments)}){returns}"
    if len(line) <= WIDEST:
        return line
    return "\n".join([f"def {name}(", *(f"    {argument}," for argument in arguments), f"){returns}"])


def _fields(source: ast.ClassDef, value: Any) -> Iterator[str]:
    """Yield the fields of a dataclass as they are written, and its public properties."""
    names = {field.name for field in dataclasses.fields(value)}
    for node in source.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in names:
            yield f"{node.target.id}: {_plain(node.annotation)}"
    for node in source.body:
        if isinstance(node, ast.FunctionDef) and _is_property(node) and not node.name.startswith("_"):
            summary = (ast.get_docstring(node) or "").splitlines()
            yield from (f"# {line}" for line in summary[:1])
            yield f"{node.name}: {_plain(node.returns)}"


def _is_property(node: ast.FunctionDef) -> bool:
    names = [ast.unparse(decorator) for decorator in node.decorator_list]
    return "property" in names or "cached_property" in names


def _arguments(arguments: ast.arguments) -> Iterator[str]:
    """Yield the arguments of a function with their types and defaults, `*` where only names may follow."""
    defaults: list[ast.expr | None] = [None] * (len(arguments.args) - len(arguments.defaults))
    for argument, default in zip(arguments.args, [*defaults, *arguments.defaults], strict=True):
        yield _argument(argument, default)
    if arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _argument(argument, default)
    if arguments.kwarg:
        yield f"**{_argument(arguments.kwarg, None)}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    text = f"{argument.arg}: {_plain(argument.annotation)}" if argument.annotation else argument.arg
    return f"{text} = {ast.unparse(default)}" if default is not None else text


def _plain(annotation: ast.expr | None) -> str:
    """Write a type without the quotes that put off its import."""
    if annotation is None:
        return "None"
    return ast.unparse(annotation).replace("'", "")
