"""A merged model goes to the hub with its card, and comes back the same."""

from pathlib import Path

import pytest

import cuvee
from cuvee.checkpoint import weights_digest
from cuvee.errors import CheckpointError, RecipeError
from cuvee.hub import Hub, push
from hub.server import LocalHub

RECIPE = "merge_method: linear\nmodels: [{model: org/base}, {model: org/tuned}]\nparameters: {weight: 1}"


@pytest.mark.usefixtures("family")
def test_a_pushed_model_comes_back_the_same(
    hub: Hub, server: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server speaks LFS only
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    made = cuvee.merge(cuvee.recipe_from_text(RECIPE), tmp_path / "out", hub=hub)
    pushed = push(hub, tmp_path / "out", "me/blend")
    assert pushed.commit == server.repos["me/blend"].commit
    assert {path.name for path in made.folder.iterdir()} == set(server.repos["me/blend"].files)
    again = cuvee.merge(cuvee.recipe_from_text(RECIPE.replace("org/base", "me/blend")), tmp_path / "again", hub=hub)
    assert again.folder.exists()
    folder = hub.cache_folder / "models--me--blend" / "snapshots" / pushed.commit
    assert weights_digest(folder) == made.digest


@pytest.mark.usefixtures("family")
def test_what_is_no_whole_model_is_not_pushed(family: Path, hub: Hub, server: LocalHub) -> None:
    (family / "base" / "README.md").unlink()
    with pytest.raises(CheckpointError, match="has no card"):
        push(hub, family / "base", "me/blend")
    with pytest.raises(RecipeError, match="not a name on a hub"):
        push(hub, family / "tuned", "blend")
    shard = max((family / "tuned").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated"):
        push(hub, family / "tuned", "me/blend")
    assert server.requests == []
