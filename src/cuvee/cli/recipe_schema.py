"""cuvee recipe-schema: the JSON Schema of recipes, for editors."""

import typer

NAME = "recipe-schema"


def command() -> None:
    """Print the JSON Schema of recipes."""
    import json

    from cuvee.catalogue import language
    from cuvee.recipe.schema import recipe_schema

    typer.echo(json.dumps(recipe_schema(language()), indent=2))
