"""cuvee methods: the merge methods, weight rules and modifiers, with the settings of each."""

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from cuvee.addition import Addition
    from cuvee.method import Method
    from cuvee.recipe.setting import Setting

NAME = "methods"
RULE, MODIFIER = "weight rule", "modifier"
BASES = {
    "delta": "needed: the method merges what models changed in it",
    "optional": "optional: with it the method merges what models changed in it",
    "endpoint": "needed: it is the first of the two ends",
    "member": "none; a model like the others if it is named",
}
SYMBOLS = "θ₀ is the base, θᵢ a model, τᵢ = θᵢ − θ₀ its task vector, wᵢ its weight, λ lambda."
SHORT_BASES = {"delta": "needed", "optional": "optional", "endpoint": "first end", "member": "-"}
REPRODUCIBLE = {
    "bits": "the same bytes on every machine",
    "tolerance": "the same bytes on one machine, elsewhere within a tolerance",
}


def command(
    name: str = typer.Argument("", metavar="[NAME]", help="Show one method, weight rule or modifier in full."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """List merge methods, weight rules and modifiers, or show the formula, settings, ranges and source of NAME."""
    known = _known()
    if as_json:
        import json

        listed = [_find(name, known)] if name else known
        plain = [_plain(kind, entry) for kind, entry in listed]
        typer.echo(json.dumps(plain[0] if name else plain, indent=2, ensure_ascii=False))
    elif name:
        _print_one(*_find(name, known))
    else:
        _print_all(known)


Known = tuple[str, "Method | Addition"]


def _known() -> list[Known]:
    """Return all there is, each with its kind."""
    from cuvee.catalogue import modifiers, registry, weight_rules

    return [
        *((method.kind, method) for method in registry().values()),
        *((RULE, rule) for rule in weight_rules().values()),
        *((MODIFIER, modifier) for modifier in modifiers().values()),
    ]


def _find(name: str, known: list[Known]) -> Known:
    from cuvee.errors import RecipeError, closest

    found = next(((kind, entry) for kind, entry in known if entry.key == name), None)
    if found is None:
        keys = [entry.key for _, entry in known]
        guess = closest(name, keys)
        hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(keys)}"
        raise RecipeError(f"unknown merge method '{name}'", hint=hint)
    return found


def _plain(kind: str, entry: "Method | Addition") -> dict[str, Any]:
    from dataclasses import asdict

    from cuvee.method import Method

    facts: dict[str, Any] = {
        "key": entry.key,
        "kind": kind,
        "summary": entry.summary,
        "formula": entry.formula,
        "source": entry.paper,
    }
    if isinstance(entry, Method):
        facts |= {"base": entry.base, "models": list(entry.models), "reproducible": entry.reproducible}
    else:
        facts |= {"works_on_deltas_only": entry.on_changes}
    return facts | {"settings": [asdict(s) | {"range": str(s.within)} for s in entry.settings.values()]}


def _print_all(known: list[Known]) -> None:
    from rich.console import Console
    from rich.table import Table

    from cuvee.method import Method

    console = Console()
    methods = Table(box=None, pad_edge=False)
    for column in ("method", "kind", "base model", "what it does"):
        methods.add_column(column, no_wrap=column != "what it does")
    for kind, entry in known:
        if isinstance(entry, Method):
            methods.add_row(entry.key, kind, SHORT_BASES[entry.base], entry.summary)
    console.print(methods)
    for title, of_kind in (("weight rule (weights:)", RULE), ("modifier (post:)", MODIFIER)):
        table = Table(box=None, pad_edge=False)
        table.add_column(title, no_wrap=True)
        table.add_column("what it does")
        for kind, entry in known:
            if kind == of_kind:
                table.add_row(entry.key, entry.summary)
        console.print()
        console.print(table)
    console.print("\n`cuvee methods NAME` shows the formula, the settings and the source of one.", highlight=False)


def _print_one(kind: str, entry: "Method | Addition") -> None:
    import inspect
    import textwrap

    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"[bold]{entry.key}[/]  ({_role(kind)})\n")
    for line in textwrap.wrap(entry.formula, max(40, console.width - 4)):
        console.print(f"    {line}", markup=False)
    console.print(f"\n{SYMBOLS}\n", style="dim")
    for paragraph in (inspect.getdoc(entry.rule) or "").split("\n\n"):
        console.print(" ".join(paragraph.split()) + "\n", markup=False)
    for fact, text in _facts(entry):
        console.print(f"{fact:<14}{text}", markup=False, soft_wrap=True)
    if entry.settings:
        console.print()
        _print_settings(console, entry)


def _role(kind: str) -> str:
    if kind == RULE:
        return "weight rule: `weights:` in a recipe"
    return "modifier: in the list `post:` of a recipe" if kind == MODIFIER else f"{kind} method"


def _facts(entry: "Method | Addition") -> list[tuple[str, str]]:
    from cuvee.method import Method

    facts = []
    if isinstance(entry, Method):
        least, most = entry.models
        count = f"{least}" if least == most else f"{least} to {most}"
        if most is None:
            count = f"{least} or more"
        facts += [("models", count), ("base model", BASES[entry.base])]
        facts += [("reproducible", REPRODUCIBLE[entry.reproducible])]
    elif entry.on_changes:
        facts += [("works with", "methods that merge what models changed in a base")]
    return facts + ([("source", _source(entry.paper))] if entry.paper else [])


def _source(paper: str) -> str:
    number = paper.removeprefix("arXiv:")
    return paper if number == paper else f"{paper}, https://arxiv.org/abs/{number}"


def _print_settings(console: "Console", entry: "Method | Addition") -> None:
    from rich.markup import escape
    from rich.table import Table

    from cuvee.method import Method

    table = Table(box=None, pad_edge=False)
    is_method = isinstance(entry, Method)
    for column in ("parameter", *(["of"] if is_method else []), "default", "values"):
        table.add_column(column)
    for setting in entry.settings.values():
        owner = "each model" if setting.per_model else "the merge"
        of = [owner] if is_method else []
        values = escape(_values(setting, listed=setting.per_model and not is_method))
        table.add_row(setting.name, *of, _default(setting), values)
    console.print(table)


def _default(setting: "Setting") -> str:
    if setting.required:
        return "(required)"
    return "-" if setting.default is None else str(setting.default).lower()


def _values(setting: "Setting", *, listed: bool) -> str:
    values = "true, false" if setting.kind == "boolean" else str(setting.within)
    if setting.choices:
        values = ", ".join(setting.choices)
    return f"a list of numbers in {values}" if listed else values
