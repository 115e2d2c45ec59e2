"""The door of the command: a verb is found and run, and errors become exit codes."""

import gc
import sys
import traceback
from collections.abc import Sequence

import typer

from cuvee.cli.verbs import VERBS, make_app


def main() -> None:
    """Run the command line: 0 done, 2 the author's mistake, 3 bad input, 70 ours, 75 out of budget, 130 interrupted."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        _app_for(sys.argv[1:])()
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


def _app_for(arguments: Sequence[str]) -> typer.Typer:
    """Return the verb that the first argument names, alone: to make all of them takes longer than a small merge."""
    if arguments and arguments[0] in VERBS:
        return make_app(arguments[:1])
    return make_app(VERBS)


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
