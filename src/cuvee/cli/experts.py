"""Experts and their texts on the command line: --expert MODEL=TEXT, as often as there are experts."""


def experts_in(asked: list[str]) -> dict[str, str]:
    """Return each expert's text. Raises RecipeError for what is no MODEL=TEXT, and for an expert that comes twice."""
    from cuvee.errors import RecipeError

    experts: dict[str, str] = {}
    for text in asked:
        model, equals, place = text.rpartition("=")
        if not all((equals, model, place)):
            raise RecipeError(f"--expert: expected MODEL=TEXT, found '{text}'")
        if model in experts:
            raise RecipeError(f"--expert: '{model}' twice", hint="put its texts in one file")
        experts[model] = place
    return experts
