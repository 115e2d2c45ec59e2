"""Options that take several values at once, `--experts a b c`, as well as one by one."""

from typing import Any

from typer.core import TyperCommand


class ManyValues(TyperCommand):
    """Repeats an option before each of its values. Options that may be given several times take several values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Expand `--experts a b` to `--experts a --experts b`."""
        many: set[str] = set()
        for parameter in self.params:
            if getattr(parameter, "multiple", False):
                many.update(parameter.opts)
        expanded: list[str] = []
        option = ""
        for argument in args:
            if argument.startswith("-"):
                option = argument if argument in many else ""
            elif option and expanded[-1:] != [option]:
                expanded.append(option)
            expanded.append(argument)
        return super().parse_args(ctx, expanded)
