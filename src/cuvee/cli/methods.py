"""cuvee methods: what merge methods there are, and what each can be told."""

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cuvee.method import Method

NAME = "methods"


def command(
    name: str = typer.Argument("", metavar="[NAME]", help="Show one method in full."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """List the merge methods, weight rules and modifiers, or show a method's formula, settings, ranges and source."""
    from cuvee.errors import RecipeError, closest
    from cuvee.method import registry

    methods = registry()
    if name and name not in methods:
        guess = closest(name, list(methods))
        hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(methods)}"
        raise RecipeError(f"unknown merge method '{name}'", hint=hint)
    chosen = [methods[name]] if name else list(methods.values())
    if as_json:
        import json

        plain = [_plain(method) for method in chosen]
        typer.echo(json.dumps(plain[0] if name else plain, indent=2, ensure_ascii=False))
    elif name:
        _print_one(chosen[0])
    else:
        _print_all(chosen)
        _print_additions()


def _plain(method: "Method") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "key": method.key,
        "kind": method.kind,
        "summary": method.summary,
        "formula": method.formula,
        "source": method.paper,
        "base": method.base,
        "models": list(method.models),
        "reproducible": method.reproducible,
        "settings": [asdict(s) | {"range": str(s.within)} for s in method.settings.values()],
    }


def _print_all(methods: list["Method"]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("method", "kind", "base model", "what it does"):
        table.add_column(column)
    bases = {"delta": "needed", "optional": "optional", "endpoint": "first end", "member": "-"}
    for method in methods:
        table.add_row(method.key, method.kind, bases[method.base], method.summary)
    Console().print(table)


def _print_additions() -> None:
    from rich.console import Console
    from rich.table import Table

    from cuvee.addition import modifiers, weight_rules

    for title, known in (("weights", weight_rules()), ("post", modifiers())):
        table = Table(box=None, pad_edge=False)
        table.add_column(title)
        table.add_column("what it does")
        for addition in known.values():
            table.add_row(addition.key, addition.summary)
        Console().print()
        Console().print(table)


def _print_one(method: "Method") -> None:
    import inspect

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    source = f"   ({method.paper})" if method.paper else ""
    console.print(f"[bold]{method.key}[/]{source}\n\n    {escape(method.formula)}\n")
    console.print(inspect.getdoc(method.rule) or "", markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("parameter", "of", "default", "values"):
        table.add_column(column)
    for setting in method.settings.values():
        values = ", ".join(setting.choices) or ("true, false" if setting.kind == "boolean" else str(setting.within))
        default = "(required)" if setting.required else str(setting.default).lower()
        table.add_row(setting.name, "each model" if setting.per_model else "the merge", default, values)
    console.print()
    console.print(table)
