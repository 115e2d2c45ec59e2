"""The verbs of the command, by their panels in its help."""

import importlib
from collections.abc import Iterable, Mapping

import typer
from typer.core import TyperCommand

from cuvee.cli.examples import epilog_of
from cuvee.cli.like_mergekit import LikeMergekit
from cuvee.cli.many_values import ManyValues

PANELS: Mapping[str, tuple[str, ...]] = {
    "Start": ("demo",),
    "Merge": (
        *("plan", "merge", "join", "align", "methods", "recipe-schema", "calibrate", "upcycle", "push"),
        *("adapters", "tokenizer", "export"),
    ),
    "Look": ("inspect", "compare", "verify", "doctor", "suggest"),
    "Measure": ("bench", "evaluate", "parents", "report", "search", "task"),
    "Compete": ("submission", "competition"),
}
"""The verbs of each panel. A verb is a file beside this one, with `command`, or with `app` where it is a group."""

CLASSES: Mapping[str, type[TyperCommand]] = {
    "plan": LikeMergekit,
    "merge": LikeMergekit,
    "suggest": ManyValues,
    "bench": ManyValues,
    "evaluate": ManyValues,
}

VERBS: Mapping[str, str] = {verb: panel for panel, verbs in PANELS.items() for verb in verbs}


def make_app(verbs: Iterable[str]) -> typer.Typer:
    """Return the command line with these verbs. Only their files are imported."""
    app = typer.Typer(
        name="cuvee",
        help="Blend language models: merge checkpoints, measure the blends, rank them.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_options)
    for verb in verbs:
        _add(app, verb)
    _add_examples(app)
    return app


def _add(app: typer.Typer, verb: str) -> None:
    module = importlib.import_module(f"cuvee.cli.{verb.replace('-', '_')}")
    if hasattr(module, "app"):
        app.add_typer(module.app, name=module.NAME, rich_help_panel=VERBS[verb])
    else:
        app.command(module.NAME, cls=CLASSES.get(verb), rich_help_panel=VERBS[verb])(module.command)


def _add_examples(group: typer.Typer, before: str = "") -> None:
    """Put each command's examples below its help."""
    for command in group.registered_commands:
        command.epilog = epilog_of(f"{before}{command.name}")
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _add_examples(inner.typer_instance, f"{inner.name} ")


def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", help="Show the version."),
    verbose: bool = typer.Option(
        False, "--verbose", help="With --version: versions of libraries, installed and tested."
    ),
) -> None:
    if version and verbose:
        from cuvee.cli.versions_table import print_versions

        print_versions()
        raise typer.Exit
    if version:
        from cuvee.version import __version__

        typer.echo(__version__)
        raise typer.Exit
    if verbose:
        raise typer.BadParameter("goes with --version", param_hint="--verbose")
