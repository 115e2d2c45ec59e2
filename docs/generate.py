"""Writes the generated pages of the reference: `python docs/generate.py`. A test checks that they are up to date."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from cuvee.addition import Addition, modifiers, weight_rules
from cuvee.cli.app import app
from cuvee.method import Method, registry
from cuvee.recipe.setting import Setting
from cuvee.structure.layer_rules import Family, Rule, families

REFERENCE = Path(__file__).parent / "reference"
GENERATED = "<!-- Written by docs/generate.py; change the code, then run it. -->"

BASES = {
    "delta": "needed; task vectors are taken from it and the result is added to it",
    "optional": "optional; with one, task vectors are taken from it and the result is added to it",
    "endpoint": "needed; it is the first of the two ends",
    "member": "not needed; a model like the others if it is named",
}
REPRODUCIBLE = {
    "bits": "the same bytes on every machine",
    "tolerance": "the same bytes on one machine; elsewhere within a tolerance",
}


def main() -> None:
    """Write every generated page."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the generated pages by file name."""
    return {
        "methods.md": methods_page(),
        "additions.md": additions_page(),
        "commands.md": commands_page(),
        "families.md": families_page(),
    }


def families_page() -> str:
    """Return what becomes of each family's layers when slices move them."""
    intro = (
        "Any model is merged, whatever its family: tensors are matched by name and shape. `slices` also move layers,\n"
        "and a config says by their place what they are. Of these families it is known how: the output's config says\n"
        "the same of each layer at its new place, or the recipe is refused. The family is the `model_type` of the\n"
        "config, or of its part for the language. The last column names the file of transformers 5.23 that has the\n"
        "rule. See [Stack layers](../how-to/stack-layers.md#layers-that-are-not-alike)."
    )
    columns = ("family", "layers differ in", "stack", "refused", "merge", "modules", "rule from")
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    rows = [_family_row(name, family) for name, family in sorted(families().items())]
    last = (
        "Of any other family layers are moved if they look alike: they have the same tensors, and no key of the\n"
        "config seems to speak of layers. Else they may stay at their places only, unless the recipe says\n"
        "`unknown_layers: move`."
    )
    return _joined(["# Families", GENERATED, intro, "\n".join([head, *rows]), last])


def _family_row(name: str, family: Family) -> str:
    differ = ", ".join(dict.fromkeys(rule.fact for rule in family.rules if not rule.refers)) or "nothing"
    bound = [rule for rule in family.rules if not rule.has_list and not rule.refers]
    fixed = [rule.fact for rule in bound if not rule.write and not rule.vary]
    keys = [f"`{key}`" for rule in bound for key in (*rule.vary, *rule.write) if not _says_any(rule)]
    stack = "any layers in any order"
    refused = "nothing"
    if keys:
        stack, refused = "layers in an order that the config can say", f"what {', '.join(keys)} cannot say"
    if fixed:
        stack, refused = "layers that keep what they differ in", f"another {' or '.join(fixed)}"
    if family.blocks:
        stack += "; blocks of tensors by layer follow"
    modules = "as the language part" if name.endswith("_text") else "the whole model"
    return f"| `{name}` | {differ} | {stack} | {refused} | yes | {modules} | `{family.source}` |"


def _says_any(rule: Rule) -> bool:
    """Say whether what a rule writes names each layer, so that any order can be said."""
    lists = ("values", "[[values, 1]]", "where(values)", "where_not(values)")
    return any(text in lists for text in rule.write.values())


def methods_page() -> str:
    """Return one section for each of Cuvée's own methods."""
    own = [method for method in registry().values() if method.rule.__module__.startswith("cuvee.methods.")]
    rows = [f"| [`{method.key}`](#{method.key}) | {method.summary} |" for method in own]
    intro = (
        "θ₀ is the base model, θᵢ a model, τᵢ = θᵢ − θ₀ its task vector, wᵢ its weight, λ the setting `lambda`.\n"
        "`normalize` divides by the weights, `rescale` restores the size of what was thinned out, `int8_mask` is "
        "accepted from mergekit and changes nothing.\n"
        "`cuvee methods NAME` shows the same in a terminal. "
        "Where mergekit and a paper differ, see [Come from mergekit](../how-to/come-from-mergekit.md)."
    )
    head = ["# Merge methods", GENERATED, intro, "| method | what it does |\n|---|---|\n" + "\n".join(rows)]
    return _joined([*head, *(part for method in own for part in _method(method))])


def _method(method: Method) -> Iterator[str]:
    facts = [f"- Source: {_source(method.paper)}"] if method.paper else []
    facts += [f"- Models: {_count(method)}", f"- Base model: {BASES[method.base]}"]
    facts += [f"- Reproducible: {REPRODUCIBLE[method.reproducible]}"]
    yield f"## {method.key}"
    yield f"    {method.formula}"
    yield inspect.getdoc(method.rule) or ""
    yield "\n".join(facts)
    rows = [_setting(setting) for setting in method.settings.values()]
    yield "| parameter | of | default | values |\n|---|---|---|---|\n" + "\n".join(rows)


def additions_page() -> str:
    """Return one section for each weight rule and each modifier."""
    intro = "What a recipe may add to a method. θ₀ is the base model, θᵢ a model, τᵢ = θᵢ − θ₀ its task vector."
    weights = (
        "`weights: NAME`, or `weights: {rule: NAME, ...}` with settings, gives each model its `weight`, for any method "
        "that takes weights. The models count in the order of the recipe."
    )
    post = (
        "`post: [NAME, ...]`, with `NAME: {...}` for settings, changes the change Δ that a method has merged, before "
        "`lambda` scales it and it is added to the base. It works with every method that merges task vectors. Each "
        "modifier sees what the ones before it have left."
    )
    rules = [part for rule in weight_rules().values() for part in _addition(rule)]
    changes = [part for modifier in modifiers().values() for part in _addition(modifier)]
    head = ["# Weight rules and modifiers", GENERATED, intro]
    return _joined([*head, "## Weight rules", weights, *rules, "## Modifiers", post, *changes])


def _addition(addition: Addition) -> Iterator[str]:
    yield f"### {addition.key}"
    yield f"    {addition.formula}"
    yield inspect.getdoc(addition.rule) or ""
    if addition.paper:
        yield f"Source: {_source(addition.paper)}"
    if addition.settings:
        rows = [_setting_of_addition(setting) for setting in addition.settings.values()]
        yield "| parameter | default | values |\n|---|---|---|\n" + "\n".join(rows)


def _setting_of_addition(setting: Setting) -> str:
    default = "(required)" if setting.required else "" if setting.default is None else f"`{setting.default}`"
    values = ", ".join(f"`{choice}`" for choice in setting.choices) or str(setting.within)
    return f"| `{setting.name}` | {default} | {'a list of ' if setting.per_model else ''}{values} |"


def _source(paper: str) -> str:
    number = paper.removeprefix("arXiv:")
    return paper if number == paper else f"[{paper}](https://arxiv.org/abs/{number})"


def _count(method: Method) -> str:
    least, most = method.models
    count = f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
    if method.base == "endpoint":
        return f"{count}, the base model among them"
    if method.models == (1, 1):
        return f"{count} in each slice"
    return f"{count}, besides the base model" if method.base in ("delta", "optional") else count


def _setting(setting: Setting) -> str:
    of = "each model" if setting.per_model else "the merge"
    default = "(required)" if setting.required else f"`{str(setting.default).lower()}`"
    choices = ", ".join(f"`{choice}`" for choice in setting.choices)
    values = choices or ("`true`, `false`" if setting.kind == "boolean" else str(setting.within))
    return f"| `{setting.name}` | {of} | {default} | {values} |"


def commands_page() -> str:
    """Return one section for each verb of the command line."""
    group: Any = typer.main.get_command(app)
    intro = (
        "Results go to stdout, progress and talk to stderr. `--json` prints one JSON document to stdout and nothing "
        "else there.\nExit codes are on the page [Exit codes and errors](errors.md)."
    )
    common = [p for p in group.params if p.name in ("debug", "version")]
    parts = ["# Command line", GENERATED, intro, _options(common), "`-h` or `--help` works for every command."]
    for name, command in leaves(group):
        parts += [f"## cuvee {name}", command.help, f"    cuvee {_usage(name, command)}"]
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        parts += [_arguments(arguments)] if arguments else []
        parts += [_options(options)] if options else []
    return _joined(parts)


def leaves(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Give the commands by their whole names, those within groups among them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _usage(name: str, command: Any) -> str:
    words = [_metavar(p) for p in command.params if p.param_type_name == "argument"]
    return " ".join([name, *words, *(["[OPTIONS]"] if len(command.params) > len(words) else [])])


def _metavar(parameter: Any) -> str:
    return parameter.metavar or parameter.name.upper()


def _arguments(arguments: list[Any]) -> str:
    rows = [f"| `{_metavar(p).strip('[]')}` | {_default(p)} | {p.help} |" for p in arguments]
    return "| argument | default | meaning |\n|---|---|---|\n" + "\n".join(rows)


def _options(options: list[Any]) -> str:
    rows = [f"| `{p.opts[0]}` | {_default(p)} | {p.help} |" for p in options]
    return "| option | default | meaning |\n|---|---|---|\n" + "\n".join(rows)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "(required)"
    unset = parameter.default is None or parameter.default is False or parameter.default == ""
    return "" if unset else f"`{parameter.default}`"


def _joined(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
