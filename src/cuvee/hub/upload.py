"""Uploads a merged model with its card."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cuvee.checkpoint import open_checkpoint
from cuvee.errors import CheckpointError, RecipeError
from cuvee.hub.access import Hub
from cuvee.progress import Progress, Silent
from cuvee.recipe.reference import ModelRef

CARD = "README.md"


@dataclass(frozen=True)
class Pushed:
    """An upload: the model's name, the commit that holds it, and its page."""

    name: str
    commit: str
    url: str


def push(hub: Hub, folder: Path, name: str, *, private: bool = False, progress: Progress | None = None) -> Pushed:
    """Upload all files of a model's folder in a single commit. Raises CuveeError.

    The folder must be a whole model with a card: others will use it as it is uploaded.
    """
    from huggingface_hub import HfApi

    progress = progress or Silent()
    if not ModelRef(name).looks_like_hub_name:
        raise RecipeError(f"'{name}' is not a name on a hub", hint="it is like org/name")
    if hub.is_offline:
        raise RecipeError("nothing can be uploaded offline", hint="is HF_HUB_OFFLINE set?")
    if not folder.is_dir():
        raise CheckpointError("no such folder", where=str(folder))
    open_checkpoint(folder).close()
    if not (folder / CARD).is_file():
        hint = "write a README.md; a merge has one"
        raise CheckpointError(f"has no card, {CARD}", where=str(folder), hint=hint)
    api = HfApi(endpoint=hub.endpoint)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    progress.start(f"uploading {name}", size, "bytes")
    hub.patiently(lambda: api.create_repo(name, private=private or None, exist_ok=True), name)
    message = f"Upload {folder.resolve().name}"
    with _quiet():
        commit = hub.patiently(
            lambda: api.upload_folder(repo_id=name, folder_path=folder, commit_message=message), name
        )
    progress.advance(size)
    progress.finish()
    return Pushed(name, str(commit.oid), f"{hub.address}/{name}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client library from drawing bars of its own."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()
