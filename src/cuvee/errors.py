"""The tree of expected failures. Whatever a person can cause or must know about is in this tree.

CuveeError                     message for a person; .hint; .where
  RecipeError                  the author's: unknown field, method, setting; out of range; bad gradient
    ArgumentError              a Python caller's: an option that does not exist, an argument of another type
  CheckpointError              the input's: missing tensor, shape, dtype, quantised, corrupt, not finite
  MethodError                  one tensor's: names method and tensor, keeps the cause
  EvaluationError              a task or a model that cannot be scored
  SearchError                  a search that cannot begin, go on, or be trusted
  SubmissionError              the participant's: broken archive, rule broken
  PlatformError                ours: disk, budget, store
  MissingExtra                 an optional package is not installed; the hint installs it
"""

from collections.abc import Sequence

from cuvee.extras import install_command


class CuveeError(Exception):
    """An expected failure. `where` is `file:line`, a file or a tensor; `hint` says how to mend it.

    `problems` holds the single problems where several were found together.
    """

    exit_code = 70

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.problems: tuple[CuveeError, ...] = ()

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"


class RecipeError(CuveeError):
    """The author's mistake. Also raised for wrong arguments of a command."""

    exit_code = 2


class ArgumentError(RecipeError, TypeError):
    """A Python caller's mistake, which Python itself would call a TypeError."""


class MissingExtra(CuveeError):
    """An optional dependency is not installed."""

    exit_code = 2

    def __init__(self, extra: str, *, missing: str) -> None:
        super().__init__(f"this needs the package '{missing}', which is not installed", hint=install_command(extra))


class CheckpointError(CuveeError):
    """An input that is missing, damaged or does not fit the others."""

    exit_code = 3


class MethodError(CuveeError):
    """A merge method failed on one tensor."""

    exit_code = 3


class EvaluationError(CuveeError):
    """A task or a model that cannot be scored."""

    exit_code = 3


class SearchError(CuveeError):
    """A search that cannot begin, go on, or be trusted."""

    exit_code = 3


class SubmissionError(CuveeError):
    """The participant's: an archive that cannot be taken, or something that the rules forbid."""

    exit_code = 4


class PlatformError(CuveeError):
    """Our failure, not the user's."""

    exit_code = 70


class OutOfBudget(PlatformError):
    """Disk full, or more memory needed than was granted. The work can be taken up again."""

    exit_code = 75


def several(problems: Sequence[CuveeError]) -> CuveeError:
    """Join problems found together into an error of the kind of the first, so that all are shown at once."""
    if len(problems) == 1:
        return problems[0]
    lines = "\n".join(str(problem) for problem in problems)
    joined = type(problems[0])(f"{len(problems)} problems\n{lines}")
    joined.problems = tuple(problems)
    return joined


def first_of_several(problems: Sequence[CuveeError], most: int, where: str) -> CuveeError:
    """Join the first `most` problems of a file at `where`, and count the others in a line of their own."""
    shown = list(problems[:most])
    more = len(problems) - len(shown)
    if more:
        shown.append(type(problems[0])(f"and {more} more like these", where=where))
    return several(shown)


def closest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that `word` is most likely a misspelling of, or None."""
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
