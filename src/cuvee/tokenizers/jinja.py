"""The template engine with the tags of chat templates, which tells templates from other texts. It renders nothing."""

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """`{% generation %}`, with which transformers marks a model's own words."""

    tags = {"generation"}  # noqa: RUF012  # as the class above has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Read the block as if the tags were not there."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Return an engine that reads the same templates as transformers."""
    return ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
