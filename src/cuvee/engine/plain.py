"""Any model as a folder that transformers loads: a model in another form is written as such while the program runs."""

import atexit
import shutil
import tempfile
from pathlib import Path

from cuvee.engine.run import merge
from cuvee.errors import RecipeError
from cuvee.hub import Hub
from cuvee.plan.recipes import copy_recipe
from cuvee.plan.resolve import folder_of
from cuvee.progress import Progress
from cuvee.recipe.reference import parse_reference


def _holds_weights(place: Path) -> bool:
    return place.is_dir() and any(place.glob("*.safetensors"))


def loadable_folder(model: str, hub: Hub, progress: Progress) -> Path:
    """Return the folder of a model. GGUF and PyTorch's files, single files and a base with an adapter are written anew.

    The written files go when the program ends. Raises CuveeError for a model that is not there or cannot be read.
    """
    try:
        reference = parse_reference(model)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    place = None if reference.adapter else folder_of(model, hub, progress)
    if place is not None and _holds_weights(place):
        return place
    folder = Path(tempfile.mkdtemp(prefix="cuvee-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    name = Path(reference.adapter or reference.path).name
    return merge(copy_recipe(model, source=model), folder / name, hub=hub).folder
