"""What a hub can do wrong is one clear error each, or a wait."""

import time

import pytest

import cuvee
from cuvee.errors import CheckpointError
from cuvee.hub import Hub
from hub.server import LocalHub

RECIPE = "merge_method: linear\nmodels: [{model: org/base}, {model: org/tuned}]\nparameters: {weight: 1}"
BASE = "/api/models/org/base"


def plan(hub: Hub, text: str = RECIPE) -> cuvee.Plan:
    return cuvee.make_plan(cuvee.recipe_from_text(text), hub=hub)


CASES = {
    "no such model": (RECIPE.replace("org/base", "org/bass"), {}, ["org/bass: no such folder", "no such model"]),
    "no such revision": (RECIPE.replace("org/base", "org/base@v2"), {}, ["org/base@v2", "not this revision"]),
    "not a revision": (RECIPE.replace("org/base", "org/base@../x"), {}, ["a revision is a branch"]),
    "unauthorised": (RECIPE, {BASE: (401, {}, -1)}, ["org/base", "refuses access (401)", "hf auth login"]),
    "bad token": (
        RECIPE,
        {BASE: (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, -1)},
        ["org/base", "refuses access (401)", "HF_TOKEN"],
    ),
    "gated": (RECIPE, {BASE: (403, {"X-Error-Code": "GatedRepo"}, -1)}, ["gated", "ask for it on http"]),
    "gated files": (
        RECIPE,
        {"org/base/resolve": (403, {"X-Error-Code": "GatedRepo"}, -1)},
        ["org/base", "gated", "ask for it on http"],
    ),
    "too many requests": (RECIPE, {BASE: (429, {}, -1)}, ["too many requests (429)"]),
    "a long wait": (RECIPE, {BASE: (429, {"Retry-After": "300"}, -1)}, ["(429)", "try again in 300 s"]),
    "failing": (RECIPE, {BASE: (500, {}, -1)}, ["answers 500"]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("family")
def test_a_refusal_is_one_clear_error(case: str, hub: Hub, server: LocalHub) -> None:
    text, faults, words = CASES[case]
    server.faults = dict(faults)
    with pytest.raises(CheckpointError) as caught:
        plan(hub, text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.usefixtures("family")
def test_problems_of_all_models_are_told_at_once(hub: Hub) -> None:
    with pytest.raises(CheckpointError) as caught:
        plan(hub, RECIPE.replace("org/base", "org/bass").replace("org/tuned", "org/tuna"))
    assert [problem.where for problem in caught.value.problems] == ["org/bass", "org/tuna"]


@pytest.mark.usefixtures("family")
def test_a_rate_limit_is_waited_for(hub: Hub, server: LocalHub) -> None:
    waits: list[float] = []
    patient = Hub(endpoint=server.address, cache=hub.cache, sleep=waits.append)
    server.faults = {BASE: (429, {"Retry-After": "7"}, 2), "cdn": (429, {}, 1)}
    assert plan(patient).parameters > 0
    assert waits == [7.0, 7.0, 1.0]


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize("part", ["/api/models/org/base", "/cdn/"])
def test_a_stalled_connection_is_an_error_in_time(
    part: str, hub: Hub, server: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(constants, name, 0.2)
    server.faults = {part: ("stall", 2.0, -1)}
    started = time.monotonic()
    with pytest.raises(CheckpointError, match="has stopped answering"):
        plan(hub)
    assert time.monotonic() - started < 1.5


def test_a_hub_that_is_not_there_is_said_to_be(hub: Hub) -> None:
    nowhere = Hub(endpoint="http://127.0.0.1:9", cache=hub.cache)
    with pytest.raises(CheckpointError, match=r"no such folder, and cannot reach http://127.0.0.1:9"):
        plan(nowhere)


@pytest.mark.usefixtures("family")
def test_a_header_that_lies_is_refused_by_its_first_bytes(hub: Hub, server: LocalHub) -> None:
    files = server.repos["org/base"].files
    name = next(name for name in files if name.endswith(".safetensors"))
    files[name].data = (1 << 60).to_bytes(8, "little") + files[name].data[8:]  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match="fewer than its header says"):
        plan(hub)
