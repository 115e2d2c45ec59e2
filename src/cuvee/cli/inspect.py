"""cuvee inspect: the parts of a model, from its headers and its config."""

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cuvee.checkpoint import TensorSource
    from cuvee.structure.structure import Blocks, Tie
    from cuvee.structure.summary import Row, Summary

NAME = "inspect"
TIES = {
    "tied": "{embedding} is also the head",
    "stored twice": "{head} is stored, though the config ties it to {embedding}",
    "separate": "none: {head} is its own matrix",
    "no head": "none: there is no head, and the config does not tie one to {embedding}",
}


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="The model's folder or file."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON, every tensor of it."),
) -> None:
    """Show the parts of a model: layers, roles, parameters, types, ties, tokenizer. Reads no tensor."""
    from cuvee.hub import Hub
    from cuvee.plan.resolve import open_model
    from cuvee.structure.summary import summary

    source = open_model(model, Hub())
    found = summary(source)
    if as_json:
        import json

        typer.echo(json.dumps(_plain(model, source, found), indent=2, ensure_ascii=False))
    else:
        _print(model, source, found)


def _plain(model: str, source: "TensorSource", found: "Summary") -> dict[str, Any]:
    from dataclasses import asdict

    tensors = []
    for tensor in found.structure:
        spec = source.tensors[tensor.name]
        tensors.append(asdict(tensor) | {"shape": list(spec.shape), "dtype": spec.dtype})
    return {
        "model": model,
        "folder": str(source.place) if source.place else None,
        "architectures": source.config.get("architectures"),
        "tensor_count": found.tensors,
        "parameters": found.parameters,
        "bytes": found.nbytes,
        "dtypes": dict(found.dtypes),
        "roles": dict(found.roles),
        "modules": list(found.structure.modules),
        "stacks": list(map(asdict, found.structure.stacks)),
        "ties": list(map(asdict, found.structure.ties)),
        "files": {name: file.size for name, file in source.files().items()},
        "tokenizer": _tokenizer_files(source),
        "tensors": tensors,
    }


def _tokenizer_files(source: "TensorSource") -> list[str]:
    from cuvee.checkpoint.companions import companions_of

    words = ("token", "vocab", "merges", "spiece", "special_tokens", "chat_template")
    if source.place is None:
        return []
    names = companions_of(source.place, source.files()).copied
    return [name for name in names if any(word in name for word in words)]


def _print(model: str, source: "TensorSource", found: "Summary") -> None:
    from rich.console import Console
    from rich.markup import escape

    from cuvee.cli.amounts import bytes_text

    console = Console(highlight=False)
    architectures = source.config.get("architectures") or ["no architecture named"]
    kind = ", ".join(map(str, architectures))
    types = ", ".join(f"{dtype} {_share(count, found.parameters)}" for dtype, count in found.dtypes.items())
    console.print(f"[bold]{escape(model)}[/]  {escape(kind)}")
    files = source.files()
    lines = {
        "parameters": f"{found.parameters:,} in {found.tensors:,} tensors, {types}",
        "files": f"{_some(list(files))}, {bytes_text(sum(file.size for file in files.values()))}",
        "ties": "; ".join(map(_tie, found.structure.ties)) or "none: no token embedding found",
        "tokenizer": _some(_tokenizer_files(source)) or "no files of one",
    }
    for word, text in lines.items():
        console.print(f"  [dim]{word:<11}[/]{escape(text)}", soft_wrap=True)
    for module in found.structure.modules:
        console.print()
        _print_module(console, module, found)
    unknown = found.roles.get("unknown", 0)
    if unknown:
        console.print(f"\n{unknown:,} parameters have a role that neither name nor shape tells: [yellow]unknown[/]")


def _print_module(console: Any, module: str, found: "Summary") -> None:
    from rich.table import Table
    from rich.text import Text

    rows = [row for row in found.rows if row.module == module]
    stacks = {stack.prefix: stack for stack in found.structure.stacks if stack.module == module}
    total = sum(row.parameters for row in rows)
    console.print(f"[bold cyan]{module}[/]  {total:,} parameters, {_share(total, found.parameters)}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  tensor", overflow="fold")
    for column in ("role", "shape", "type"):
        table.add_column(column, overflow="fold")
    for column in ("count", "parameters"):
        table.add_column(column, justify="right")
    for row in rows:
        if row.stack not in stacks:
            _add(table, row, f"  {row.name}")
    for prefix, stack in stacks.items():
        table.add_row(Text(f"  {prefix}.*", style="cyan"), Text(_layers(stack), style="cyan"))
        for row in rows:
            if row.stack == prefix:
                _add(table, row, f"    {row.name.removeprefix(f'{prefix}.*.')}")
    console.print(table)


def _add(table: Any, row: "Row", name: str) -> None:
    from rich.text import Text

    style = {"unknown": "yellow", "norm": "dim", "bias": "dim", "buffer": "dim"}.get(row.role, "")
    cells = (name, _role(row), "×".join(map(str, row.shape)) or "()", row.dtype)
    table.add_row(*(Text(cell) for cell in (*cells, f"{row.tensors:,}", f"{row.parameters:,}")), style=style)


def _layers(stack: "Blocks") -> str:
    experts = f", {stack.experts} experts" if stack.experts else ""
    return f"{stack.depth} layers{experts}"


def _role(row: "Row") -> str:
    words: list[str] = [row.role]
    if row.experts:
        words.append(f"of {row.experts} experts")
    if row.fused:
        words.append(f"{'+'.join(row.fused.parts)}{'' if row.fused.sizes else ' interleaved'}")
    if row.input_first:
        words.append("[in, out]")
    return ", ".join(words)


def _tie(tie: "Tie") -> str:
    return TIES[tie.state].format(embedding=tie.embedding, head=tie.head)


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{names[0]} ... {names[-1]} ({len(names)} files)"


def _share(part: int, whole: int) -> str:
    if 0 < part * 100 < whole:
        return "under 1%"
    return f"{part / max(whole, 1):.0%}"
