"""The verbs put together, and the door where errors become exit codes."""

import gc
import sys
import traceback

import typer

from cuvee.cli import (
    adapters,
    align,
    bench,
    calibrate,
    compare,
    competition,
    competition_server,
    demo,
    doctor,
    evaluate,
    export,
    inspect,
    join,
    merge,
    methods,
    parents,
    plan,
    push,
    recipe_schema,
    report,
    search,
    submission,
    submission_server,
    suggest,
    task,
    tokenizer,
    upcycle,
    verify,
)
from cuvee.cli.examples import epilog_of
from cuvee.cli.like_mergekit import LikeMergekit
from cuvee.cli.many_values import ManyValues

app = typer.Typer(
    name="cuvee",
    help="Blend language models: merge checkpoints, measure the blends, rank them.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
START, MERGE, LOOK, MEASURE, COMPETE = "Start", "Merge", "Look", "Measure", "Compete"
app.command(demo.NAME, rich_help_panel=START)(demo.command)
for like_mergekit in (plan, merge):
    app.command(like_mergekit.NAME, cls=LikeMergekit, rich_help_panel=MERGE)(like_mergekit.command)
for verb in (join, align, methods, recipe_schema, calibrate, upcycle, push):
    app.command(verb.NAME, rich_help_panel=MERGE)(verb.command)
for verb in (inspect, compare, verify, doctor):
    app.command(verb.NAME, rich_help_panel=LOOK)(verb.command)
app.command(suggest.NAME, cls=ManyValues, rich_help_panel=LOOK)(suggest.command)
app.command(bench.NAME, cls=ManyValues, rich_help_panel=MEASURE)(bench.command)
for verb in (evaluate, parents, report):
    app.command(verb.NAME, rich_help_panel=MEASURE)(verb.command)
competition_server.add_commands(competition.app)
submission_server.add_commands(submission.app)
for group, panel in (
    (adapters, MERGE),
    (tokenizer, MERGE),
    (export, MERGE),
    (search, MEASURE),
    (task, MEASURE),
    (submission, COMPETE),
    (competition, COMPETE),
):
    app.add_typer(group.app, name=group.NAME, rich_help_panel=panel)


def _add_examples(group: typer.Typer, before: str = "") -> None:
    """Put each command's examples below its help."""
    for command in group.registered_commands:
        command.epilog = epilog_of(f"{before}{command.name}")
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _add_examples(inner.typer_instance, f"{inner.name} ")


_add_examples(app)


@app.callback(invoke_without_command=True)
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


def main() -> None:
    """Run the command line: 0 done, 2 the author's mistake, 3 bad input, 70 ours, 75 out of budget, 130 interrupted."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except (KeyboardInterrupt, SystemExit) as ended:
        stopped = _interruption(ended)
        if stopped is None:
            raise
        print(stopped if stopped.args else "interrupted; nothing half-written is left", file=sys.stderr)
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  # the door: every failure becomes a message and a code
        sys.exit(_report(error, debug))
    finally:
        _leave_garbage()


def _leave_garbage() -> None:
    """Leave the rest to the end of the process: to look for garbage once more takes a tenth of a second.

    triton, which torch loads, would report hundreds of its own things as leaked.
    """
    if "triton" not in sys.modules:
        gc.freeze()


def _interruption(ended: BaseException) -> KeyboardInterrupt | None:
    """Return the Ctrl-C that ended the command, if one did: typer exits for it and says nothing."""
    error: BaseException | None = ended
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def _report(error: Exception, debug: bool) -> int:
    from cuvee.errors import CuveeError

    if debug:
        traceback.print_exception(error)
    if isinstance(error, CuveeError):
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"error: this is a defect of cuvee: {type(error).__name__}: {error}", file=sys.stderr)
    print("  hint: --debug shows where; please report it", file=sys.stderr)
    return 70
