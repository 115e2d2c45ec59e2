"""The same weights as FusionBench 0.2.33, whose RegMean and RegMean++ see the same texts of the same models.

FusionBench needs an environment of its own, for its libraries are many. `make fusion-bench` makes one;
CUVEE_FUSION_BENCH names the Python in it. Without it these tests are skipped.

Its `reduce_non_diagonal_ratio` is our `off_diagonal`. It averages what is no matrix of a linear map, as we do. Its
RegMean++ shows the merged states to each expert's own block: our `inside: expert`. There it averages biases, too, which
we solve together with the weights; so RegMean++ is compared on a T5, which has none.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from calibrate.networks import average, nearby, save, write_rows
from cuvee.calibrate.calibrate import calibrate
from cuvee.calibrate.collect import Collecting
from cuvee.calibrate.repair import align
from cuvee.calibrate.settings import alignment
from cuvee.calibrate.text import Document, read_text
from cuvee.engine import merge
from cuvee.evaluation.model import LanguageModel
from cuvee.hub import Hub
from cuvee.progress import Silent
from evaluation.conftest import byte_tokenizer
from evaluation.families import make_network

pytestmark = pytest.mark.slow  # importing FusionBench takes half a minute

DRIVER = Path(__file__).with_name("fusionbench_driver.py")
RATIO = 0.9
NEAR = 1e-4
"""Of the largest number of a tensor."""

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class People:
    """A base, two experts with texts, and their average, as folders in one."""

    folder: Path
    texts: Mapping[str, str]

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def average(self) -> Path:
        return self.folder / "average"

    def theirs(self) -> Tensors:
        """Return what FusionBench made of the experts."""
        return load_file(self.folder / "theirs.safetensors")


def make_people(family: str, folder: Path) -> People:
    base = make_network(family)
    networks = [nearby(base, seed) for seed in (1, 2)]
    for network in networks:
        keep_positions(network, base)
    texts = {}
    for seed, network in enumerate(networks):
        expert = save(folder / f"expert-{seed}", network)
        texts[str(expert)] = write_rows(folder / f"text-{seed}.jsonl", seed=seed)
    people = People(folder, texts)
    save(people.base, base)
    save(people.average, average(networks))
    write_job(people, base)
    return people


def keep_positions(network: Any, base: Any) -> None:
    """Give a T5 what positions mean to attention in its base: FusionBench cannot merge what one block alone has."""
    own = network.state_dict()
    for name, tensor in base.state_dict().items():
        if "relative_attention_bias" in name:
            own[name].copy_(tensor)


def write_job(people: People, network: Any) -> None:
    """Write what the driver reads: folders, and the token ids that we read the texts as."""
    reader = LanguageModel("", "", network, byte_tokenizer(), context_length=512)
    models, rows = {}, {}
    for number, (folder, text) in enumerate(people.texts.items()):
        models[f"expert_{number}"] = folder
        rows[f"expert_{number}"] = [row_of(document, network.config) for document in read_text(text, reader).documents]
    out = str(people.folder / "theirs.safetensors")
    job = {"models": models, "base": str(people.base), "ids": rows, "ratio": RATIO, "out": out}
    (people.folder / "job.json").write_text(json.dumps(job))


def row_of(document: Document, config: Any) -> Any:
    """Return what a model reads of a document: one row of ids, or a row for the encoder and one for the decoder."""
    if not config.is_encoder_decoder:
        return document.ids
    prompt, answer = document.ids[: document.answer_from], document.ids[document.answer_from :]
    return prompt, (config.decoder_start_token_id, *answer[:-1])


@pytest.fixture(scope="module")
def merged_by_fusion_bench(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, People]:
    """Return experts of two families, of which FusionBench has merged each."""
    python = os.environ.get("CUVEE_FUSION_BENCH")
    if python is None:
        pytest.skip(
            "no FusionBench here; `make fusion-bench` makes an environment, CUVEE_FUSION_BENCH names its Python"
        )
    folder = tmp_path_factory.mktemp("fusion-bench")
    families = {family: make_people(family, folder / family) for family in ("gpt 2", "t5")}
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    # it imports most of its libraries to merge anything, which takes longer than both merges: one process for them
    command = [python, DRIVER, *(people.folder / "job.json" for people in families.values())]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **offline}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return families


def assert_equal(own: Tensors, other: Tensors) -> None:
    assert own.keys() <= other.keys()
    for name, tensor in own.items():
        np.testing.assert_allclose(tensor, other[name], rtol=0, atol=NEAR * np.abs(tensor).max(), err_msg=name)


def test_regmean_gives_a_gpt_2_the_same_weights(merged_by_fusion_bench: Mapping[str, People], tmp_path: Path) -> None:
    people = merged_by_fusion_bench["gpt 2"]
    models = ""
    for number, (expert, text) in enumerate(people.texts.items()):
        out = tmp_path / f"statistics-{number}"
        calibrate(expert, text, out, Collecting(), hub=Hub(offline=True), progress=Silent())
        models += f"  - {{model: {expert}, statistics: {out}}}\n"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"merge_method: regmean\nmodels:\n{models}parameters: {{off_diagonal: {RATIO}}}\n")
    merged = load_file(merge(recipe, tmp_path / "merged").folder / "model.safetensors")

    assert_equal({name.removeprefix("transformer."): tensor for name, tensor in merged.items()}, people.theirs())


def test_regmean_plusplus_gives_a_t5_the_same_weights(
    merged_by_fusion_bench: Mapping[str, People], tmp_path: Path
) -> None:
    people = merged_by_fusion_bench["t5"]
    how = alignment("regmean_pp", off_diagonal=RATIO, inside="expert")
    aligned = align(str(people.average), tmp_path / "aligned", people.texts, how)
    own = load_file(tmp_path / "aligned" / "model.safetensors")

    before = load_file(people.average / "model.safetensors")
    solved = [name for name, rule in aligned.rules.items() if rule == "aligned"]
    assert len(solved) == 2 * 6 + 2 * 10  # q, k, v, o and two more; a decoder's blocks look at the encoder, too
    assert min(np.abs(own[name] - before[name]).max() for name in solved) > 100 * NEAR
    assert_equal(own, people.theirs())
