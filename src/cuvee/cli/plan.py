"""cuvee plan: the work of a merge, from the recipe and the headers alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cuvee.cores import usable_cores

if TYPE_CHECKING:
    from cuvee.hub import Hub
    from cuvee.plan import MergeStep, Plan
    from cuvee.recipe.recipe import Chosen

NAME = "plan"
SHOWN_STEPS = 12


def command(
    recipes: list[Path] = typer.Argument(..., metavar="RECIPE...", help="The recipe, a YAML file, or several."),
    memory: str = typer.Option("", metavar="SIZE", help="Say if the merge cannot be done within this."),
    threads: int = typer.Option(0, min=0, metavar="N", help="Cores to forecast for; 0 for all."),
    all_steps: bool = typer.Option(False, "--all", help="Show every tensor, not the first few."),
    strict: bool = typer.Option(
        False, "--strict", help="Refuse slips that mergekit passes over, and that else get a warning."
    ),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print the plan as JSON, every step of it."),
) -> None:
    """Show the work that `cuvee merge` would do: steps, settings, bytes, memory, warnings. Reads no tensor.

    Of a mixture of experts it shows the work of `cuvee upcycle`; of several recipes, or one with a `sweep`, the plan of
    each merge.

    Of models on a hub it asks for headers and small files only.
    """
    from cuvee.cli.amounts import parse_bytes
    from cuvee.hub import Hub

    several, made = _plans(recipes, Hub(offline=offline), strict=strict)
    threads = threads or usable_cores()
    budget = parse_bytes(memory, "--memory") if memory else None
    if as_json:
        import json

        plain = [_plain(plan, _workers(plan, budget, threads)) for plan in made.values()]
        named = []
        for content, (name, plan) in zip(plain, made.items(), strict=True):
            named.append({**content, "name": name if several == "outputs" else plan.recipe.name})
        typer.echo(json.dumps({several: named} if several else plain[0], indent=2))
        return
    for number, (name, plan) in enumerate(made.items(), 1):
        if several:
            typer.echo(f"{'' if number == 1 else chr(10)}{several[:-1]} {number} of {len(made)}: {name}")
        _print(plan, all_steps, _workers(plan, budget, threads))
        if plan.recipe.align is not None:
            _print_alignment(plan, all_steps, threads)


def _plans(recipes: list[Path], hub: "Hub", *, strict: bool) -> tuple[str, dict[str, "Plan"]]:
    """Plan a merge, several in stages or in one pass, or a mixture of experts.

    Returns the word for several of them, empty for a single one, and the plans by name.
    """
    from cuvee.api import load_stages
    from cuvee.cli.sweep import is_sweep, swept
    from cuvee.plan import make_plan
    from cuvee.plan.stages import plan_stages
    from cuvee.recipe.slips import refuse_slips
    from cuvee.submission.tuning import refuse_to_plan
    from cuvee.upcycle import is_mixture, plan_mixture, read_upcycling

    first = recipes[0]
    if len(recipes) > 1 or is_sweep(first):
        by_name = swept(recipes, strict=strict)
        return "outputs", {name: make_plan(recipe, hub=hub) for name, recipe in by_name.items()}
    if not is_mixture(first):
        recipes_of_stages = load_stages(first, strict=strict)
        refuse_to_plan(recipes_of_stages)
        stages = plan_stages(recipes_of_stages, hub=hub)
        named = {plan.recipe.name or "the output": plan for plan in stages}
        return "stages" if len(stages) > 1 else "", named
    asked, text = read_upcycling(first)
    if strict:
        refuse_slips(asked.slips)
    return "", {"the output": plan_mixture(asked, text, folder=first.parent, hub=hub)}


def _workers(plan: "Plan", budget: int | None, threads: int) -> int:
    from cuvee.plan.memory import default_memory, fit

    return fit(plan.steps, default_memory(plan.steps, threads) if budget is None else budget, threads)[1]


def _plain(plan: "Plan", workers: int) -> dict[str, Any]:
    from dataclasses import asdict

    from cuvee.plan.mergekit import differences
    from cuvee.plan.seconds import forecast_seconds

    forecast = asdict(plan.forecast)
    forecast |= {"workers": workers, "memory_bytes": workers * plan.forecast.least_memory_bytes}
    seconds = forecast_seconds(plan)
    if seconds:
        forecast |= {"seconds": seconds.on(workers), "core_seconds": seconds.total}
    align = {"align": _plain_alignment(plan, workers)} if plan.recipe.align is not None else {}
    return {
        **align,
        "digest": plan.digest,
        "method": plan.method.key,
        "models": [str(model) for model in plan.models],
        "revisions": [repository and repository.commit for repository in plan.repositories],
        "tensors": len(plan.steps),
        "parameters": plan.parameters,
        "forecast": forecast,
        "config_changes": dict(plan.config_changes),
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
        "unlike_mergekit": list(differences(plan)),
        "steps": [_plain_step(plan, step) for step in plan.steps],
    }


def _plain_alignment(plan: "Plan", threads: int) -> dict[str, Any]:
    from dataclasses import asdict

    from cuvee.calibrate.forecast import forecast_alignment

    return asdict(forecast_alignment(plan, threads=threads))


def _plain_step(plan: "Plan", step: "MergeStep") -> dict[str, Any]:
    return {
        "name": step.name,
        "dtype": step.dtype,
        "shape": list(step.shape),
        "action": step.action,
        "inputs": [{"model": str(plan.models[i.model]), "tensor": i.tensor} for i in step.inputs],
        "base": str(plan.models[step.base.model]) if step.base else None,
        "settings": dict(step.settings),
        "lambda": step.scale,
        "matrices": len(list(step.cut.places())) if step.cut else None,
    }


def _print(plan: "Plan", all_steps: bool, workers: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from cuvee.cli.amounts import bytes_text
    from cuvee.plan.mergekit import differences

    console = Console()
    forecast = plan.forecast
    title = escape(plan.method.formula)
    console.print(f"[bold]{plan.making.title}[/]" if plan.making else f"[bold]{plan.method.key}[/]  {title}")
    for i, place in enumerate(_places(plan)):
        roles = "  (config and tokenizer come from here)" if i == plan.donor else ""
        console.print(f"  {place}{roles}", markup=False)
    if plan.recipe.weights is not None:
        console.print(f"weights: {_chosen(plan.recipe.weights)}", markup=False)
    for chosen in plan.recipe.post:
        console.print(f"modifier: {_chosen(chosen)}", markup=False)
    if plan.recipe.rounding != "nearest":
        console.print(f"rounding: {plan.recipe.rounding}")
    table = Table(box=None, pad_edge=False)
    for column in ("tensor", "type", "shape", "does", "settings"):
        table.add_column(column)
    shown = plan.steps if all_steps else plan.steps[:SHOWN_STEPS]
    for step in shown:
        does = _does(plan, step)
        table.add_row(escape(step.name), step.dtype, "×".join(map(str, step.shape)), does, _settings(step))
    console.print(table)
    if len(shown) < len(plan.steps):
        console.print(f"... and {len(plan.steps) - len(shown)} more tensors (--all shows them)")
    console.print(
        f"{len(plan.steps)} tensors, {plan.parameters:,} parameters; reads {bytes_text(forecast.bytes_read)} "
        f"in at most {forecast.passes} passes, writes {bytes_text(forecast.bytes_written)}, "
        f"needs {bytes_text(forecast.least_memory_bytes)} of memory at the least"
    )
    for line in _matrices(plan, workers):
        console.print(line, markup=False)
    if forecast.bytes_downloaded:
        console.print(f"downloads {bytes_text(forecast.bytes_downloaded)} to {plan.hub.cache_folder}", markup=False)
    if plan.config_changes:
        console.print(f"config.json changes: {dict(plan.config_changes)}", markup=False)
    for warning in plan.warnings:
        console.print(f"warning: {warning}", markup=False)
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)
    for difference in differences(plan):
        console.print(f"unlike mergekit: {difference}", markup=False)
    console.print(f"plan digest {plan.digest}")


def _print_alignment(plan: "Plan", all_steps: bool, threads: int) -> None:
    """Show the repair after the merge and its cost."""
    from collections import Counter

    from rich.console import Console

    from cuvee.calibrate.forecast import forecast_alignment
    from cuvee.cli.amounts import bytes_text

    found = forecast_alignment(plan, threads=threads)
    console = Console()
    settings = plan.recipe.align or {}
    console.print("[bold]align[/]  " + ", ".join(f"{key}: {value}" for key, value in settings.items()))
    for text in found.texts:
        line = f"  {text.expert}: {text.documents} documents, {text.tokens} tokens, {text.positions} positions"
        console.print(f"{line} of {text.text}", markup=False)
    for name, rule in found.rules.items() if all_steps else ():
        console.print(f"  {rule}  {name}", markup=False)
    counts = Counter(found.rules.values())
    rules = ", ".join(f"{count} {rule}" for rule, count in sorted(counts.items()))
    taking = f"about {_duration(found.seconds)} on cores as busy as now, {bytes_text(found.memory_bytes)} of memory"
    console.print(f"{rules}; {taking}", markup=False)
    for warning in found.warnings:
        console.print(f"warning: {warning}", markup=False)


def _matrices(plan: "Plan", workers: int) -> Iterator[str]:
    """Say which tensors are merged as whole matrices, how the others are merged, and how long it takes."""
    from collections import Counter

    from cuvee.cli.amounts import bytes_text
    from cuvee.plan.seconds import forecast_seconds

    seconds = forecast_seconds(plan)
    if seconds is None:
        return
    least = plan.forecast.least_memory_bytes
    yield (
        f"{seconds.matrices} matrices are done whole: up to {bytes_text(least)} each worker, {workers} "
        f"worker{'s' if workers > 1 else ''}; about {_duration(seconds.on(workers))} on free cores"
    )
    kept = Counter(step.settings["fallback"] for step in plan.steps if "fallback" in step.settings)
    for fallback, count in kept.items():
        word = {"mean": "the mean", "sum": "the sum", "base": "nothing"}[fallback]
        yield f"{count} other tensors get {word} of the task vectors (fallback: {fallback})"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _places(plan: "Plan") -> Iterator[str]:
    """Say of each model where it is: of the experts for a mixture, which is a copy of one source made of them."""
    if plan.making is not None:
        for parent in plan.making.parents:
            yield f"{parent.name}  ->  {parent.source.place or 'on the hub'}"
        return
    for i, model in enumerate(plan.models):
        yield f"{model}  ->  {_place(plan, i)}"


def _place(plan: "Plan", i: int) -> str:
    repository = plan.repositories[i]
    if str(plan.models[i]) in plan.recipe.stages:
        return "an earlier stage"
    if repository is None:
        return str(plan.places[i])
    there = "in the cache" if plan.places[i] is not None else "on the hub"
    return f"{repository.commit[:12]} {there}"


def _does(plan: "Plan", step: "MergeStep") -> str:
    fallback = step.settings.get("fallback")
    if fallback is not None:
        return "leaves the base" if fallback == "base" else f"{fallback} of changes"
    count = len(step.inputs)
    if step.cut is not None:
        matrices = len(list(step.cut.places()))
        return f"merges {count} as {f'{matrices} matrices' if matrices > 1 else 'a matrix'}"
    if step.action == "average":
        return f"averages {count}"
    into = " into the base" if step.base else ""
    if step.action == "merge":
        return f"merges {count}{into}"
    if count == 1 and not into:
        return f"takes that of {plan.models[step.inputs[0].model]}"
    return "copies, if equal"


def _chosen(chosen: "Chosen") -> str:
    settings = [f"{name} {_number(value)}" for name, value in chosen.settings.items() if value is not None]
    return f"{chosen.key} ({', '.join(settings)})" if settings else chosen.key


def _settings(step: "MergeStep") -> str:
    texts = [f"{name} {_number(value)}" for name, value in step.settings.items() if name != "fallback"]
    if step.scale != 1.0:
        texts.append(f"lambda {step.scale:g}")
    return ", ".join(texts)


def _number(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(_number(entry) for entry in value)
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
