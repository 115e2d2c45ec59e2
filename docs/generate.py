"""Writes the generated parts of the documentation: `python docs/generate.py`. A test checks that they are up to date.

Pages of methods, commands and Python functions come from the code, the navigation from those pages, the list of how-tos
from the navigation, the charts of the benchmarks from their tables, the page of mergekit's recipes from
mergekit_recipes.yaml, the page of families from the rules of layers and from what the tests of evaluation measured,
that of adapters from their kinds and from what their tests measured, tables and charts of the page of evidence from
the scores that examples/smollm2 wrote.
"""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from adapters_page import adapters_page
from benchmark_chart import chart
from evidence_charts import evidence_charts
from evidence_page import evidence_page
from families_page import families_page
from growth_charts import before_chart, cost_chart, memory_chart
from mergekit_page import mergekit_page
from navigation import home_page, navigation
from python_page import python_page

from cuvee.addition import Addition
from cuvee.catalogue import modifiers, registry, weight_rules
from cuvee.cli.app import app
from cuvee.cli.examples import EXAMPLES
from cuvee.export.gguf_settings import ConfigKey, config_keys
from cuvee.method import Method
from cuvee.recipe.setting import Setting

DOCS = Path(__file__).parent
FOLDERS = ("reference/methods", "reference/commands")
"""Folders in which every page is generated."""

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
RULE_TEXTS = {
    "heads_fill_hidden": "only `hidden_size` / `num_attention_heads`",
    "window_over_context": "no window, or one over the whole context",
    "window_by_switch": "no window in any layer, or one over the whole context",
    "full_attention": "only `full_attention`, where a window does not reach over the whole context",
    "window_layers": "written as `attention.sliding_window_pattern`; at least one layer has a window",
    "query_scale": "only `head_dim`; `hidden_size` / `num_attention_heads` in the largest model, told by its layers",
    "optional": "written as `final_logit_softcapping` if there is one",
    "every_fourth_unrotated": "every fourth layer unrotated",
    "experts": "written as `expert_count`; a config has one of the two keys, or both with one number",
    "rotation": "written, as far as [said here](../how-to/export-to-gguf.md#how-positions-are-scaled)",
    "tie": "no head of its own if tied; one that is there must then be the embedding",
}
"""What the rules of gguf_settings.py come to."""

KINDS = {
    "coefficient": ("Weighted sums", "A number for each model, or for each model and tensor. The fastest."),
    "element": ("Entry by entry", "Each entry of the task vectors is thinned out, elected or weighed by itself."),
    "matrix": (
        "Whole matrices",
        "Methods by singular values and least squares. They take longer and more memory; see "
        "[Merge by singular values](../../how-to/merge-matrices.md).",
    ),
}


def main() -> None:
    """Write every generated file, and remove pages of what is no more."""
    for name, text in files().items():
        (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / name).write_text(text, encoding="utf-8")
    for path in leftovers():
        path.unlink()


def files() -> dict[str, str]:
    """Return the generated files by their names under docs/."""
    pages = methods_pages() | commands_pages()
    benchmarks = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    return pages | {
        "explanation/evidence.md": evidence_page(),
        **evidence_charts(),
        "reference/adapters.md": adapters_page(GENERATED),
        "reference/additions.md": additions_page(),
        "reference/families.md": families_page(GENERATED),
        "reference/mergekit-recipes.md": mergekit_page(GENERATED),
        "reference/gguf.md": gguf_page(),
        "reference/python.md": python_page(GENERATED),
        "index.md": home_page(),
        "images/benchmarks.svg": chart(benchmarks),
        "images/as-loaded.svg": before_chart(benchmarks),
        "images/cost.svg": cost_chart(benchmarks),
        "images/memory.svg": memory_chart(benchmarks),
        "../mkdocs.yml": navigation(list(pages)),
    }


def gguf_page() -> str:
    """Return the page that lists what an exported GGUF file says of a config.json."""
    rows = ["| key | types | a GGUF file | without the key | in llama.cpp |", "|---|---|---|---|---|"]
    for entry in config_keys():
        kinds = "all" if entry.types is None else ", ".join(entry.types)
        absent = "" if entry.absent is None else f"`{json.dumps(entry.absent)}`"
        rows.append(f"| `{entry.key}` | {kinds} | {_in_gguf(entry)} | {absent} | {entry.source} |")
    text = (
        "`cuvee export gguf` writes what llama.cpp reads, and refuses by name what it would compute otherwise. These\n"
        "are all keys of a `config.json` that are known; any other is refused, unless it is null or begins with `_`.\n"
        "*Free* keys change nothing that is computed. Each type was compared with llama.cpp b11549.\n"
    )
    return f"# GGUF\n\n{GENERATED}\n\n{text}\n" + "\n".join(rows) + "\n"


def _in_gguf(entry: ConfigKey) -> str:
    if entry.allowed is not None:
        return "only " + ", ".join(f"`{json.dumps(value)}`" for value in entry.allowed)
    if entry.rule in RULE_TEXTS:
        return RULE_TEXTS[entry.rule]
    return "free" if entry.written is None else f"written as `{entry.written}`"


def leftovers() -> list[Path]:
    """List the pages in generated folders that nothing generates any more."""
    wanted = {DOCS / name for name in files()}
    return [path for folder in FOLDERS for path in (DOCS / folder).glob("*.md") if path not in wanted]


def methods_pages() -> dict[str, str]:
    """Return a page for each of Cuvée's own methods, and one that lists them."""
    own = [method for method in registry().values() if method.rule.__module__.startswith("cuvee.methods.")]
    pages = {f"reference/methods/{method.key}.md": _joined(list(_method(method))) for method in own}
    return {"reference/methods/index.md": _methods_index(own)} | pages


def _methods_index(own: list[Method]) -> str:
    intro = (
        "θ₀ is the base model, θᵢ a model, τᵢ = θᵢ − θ₀ its task vector, wᵢ its weight, λ the setting `lambda`.\n"
        "`normalize` divides by the weights, `rescale` restores the size of what was thinned out, `int8_mask` is "
        "accepted from mergekit and changes nothing.\n"
        "`cuvee methods NAME` shows the same in a terminal. "
        "Where mergekit and a paper differ, see [Come from mergekit](../../how-to/come-from-mergekit.md); how the "
        "methods fare on one family, with intervals, is on [Which method](../../explanation/which-method.md)."
    )
    parts = ["# Merge methods", GENERATED, intro]
    for kind, (title, meaning) in KINDS.items():
        rows = [f"| [`{m.key}`]({m.key}.md) | {m.summary} |" for m in own if m.kind == kind]
        parts += [f"## {title}", meaning, "| method | what it does |\n|---|---|\n" + "\n".join(rows)]
    return _joined(parts)


def _method(method: Method) -> Iterator[str]:
    facts = [f"- Source: {_source(method.paper)}"] if method.paper else []
    facts += [f"- Models: {_count(method)}", f"- Base model: {BASES[method.base]}"]
    facts += [f"- Reproducible: {REPRODUCIBLE[method.reproducible]}"]
    yield f"# {method.key}"
    yield GENERATED
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


def commands_pages() -> dict[str, str]:
    """Return a page for each verb of the command line, or group of verbs, and one that lists them."""
    group: Any = typer.main.get_command(app)
    pages = {f"reference/commands/{name}.md": _command_page(name, group.commands[name]) for name in group.commands}
    return {"reference/commands/index.md": _commands_index(group)} | pages


def _commands_index(group: Any) -> str:
    intro = (
        "Results go to stdout, progress and talk to stderr. `--json` prints one JSON document to stdout and nothing "
        "else there.\nExit codes are on the page [Exit codes and errors](../errors.md)."
    )
    common = [p for p in group.params if p.name in ("debug", "version")]
    rows: dict[str, list[str]] = {}
    for name, command in leaves(group):
        top, *below = name.split()
        anchor = f"#cuvee-{top}-{below[0]}" if below else ""
        row = f"| [`cuvee {name}`]({top}.md{anchor}) | {command.help.splitlines()[0]} |"
        rows.setdefault(_panel(group.commands[top]), []).append(row)
    parts = ["# Command line", GENERATED, intro, _options(common), "`-h` or `--help` works for every command."]
    for panel, lines in rows.items():
        parts += [f"## {panel}"] if panel else []
        parts += ["| command | what it does |\n|---|---|\n" + "\n".join(lines)]
    return _joined(parts)


def _panel(command: Any) -> str:
    """Return the group of `cuvee --help` that a command stands in."""
    panel = getattr(command, "rich_help_panel", None)
    return panel if isinstance(panel, str) else ""


def _command_page(name: str, command: Any) -> str:
    if not hasattr(command, "commands"):
        return _joined([f"# cuvee {name}", GENERATED, *_command(name, command)])
    parts = [f"# cuvee {name}", GENERATED, command.help]
    for whole, verb in leaves(command, f"{name} "):
        parts += [f"## cuvee {whole}", *_command(whole, verb)]
    return _joined(parts)


def _command(name: str, command: Any) -> Iterator[str]:
    yield command.help
    yield f"    cuvee {_usage(name, command)}"
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    if arguments:
        yield _arguments(arguments)
    if options:
        yield _options(options)
    yield "Examples:"
    yield "\n".join(f"    {example}" for example in EXAMPLES[name])


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
    rows = [f"| `{' '.join(filter(None, [p.opts[0], p.metavar]))}` | {_default(p)} | {p.help} |" for p in options]
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
