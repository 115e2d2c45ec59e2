"""The diagonal of the Fisher information is the mean square of gradients, document by document."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import cuvee  # noqa: E402  # after the skip
from calibrate.test_collect import SIZES, WHO, text  # noqa: E402
from cuvee.calibrate.collect import Collecting, collect  # noqa: E402
from cuvee.calibrate.network import BlockNetwork  # noqa: E402
from cuvee.calibrate.text import Text  # noqa: E402
from cuvee.checkpoint import open_checkpoint  # noqa: E402
from cuvee.errors import CheckpointError, CuveeError  # noqa: E402
from cuvee.progress import Silent  # noqa: E402
from cuvee.statistics import Statistics, fingerprint, open_statistics  # noqa: E402
from evaluation.conftest import byte_tokenizer  # noqa: E402

HOW = Collecting(keep=("fisher",))
GROUPED = SIZES | {"num_key_value_heads": 2}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
FAMILIES = {
    "llama": transformers.LlamaConfig(**GROUPED),
    "llama with a tied head": transformers.LlamaConfig(**GROUPED, tie_word_embeddings=True),
    "gpt2": transformers.GPT2Config(vocab_size=300, n_embd=16, n_layer=2, n_head=4, n_positions=64),
    "mixtral": transformers.MixtralConfig(**GROUPED, **EXPERTS),
}


def saved(family: str, folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(FAMILIES[family])
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def collected(folder: Path, out: Path, words: Text) -> Statistics:
    source = open_checkpoint(folder)
    network = BlockNetwork(source, folder, "model", device=torch.device("cpu"))
    model = WHO.model_copy(update={"fingerprint": fingerprint(source)})
    collect(network, words, out, HOW, model=model, progress=Silent())
    return open_statistics(out)


def by_hand(folder: Path, words: Text) -> dict[str, np.ndarray]:
    """Return the mean squared gradients by the names of the network, from autograd on one document at a time."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    names = dict(model.named_parameters())
    sums: dict[str, Any] = {name: torch.zeros_like(own, dtype=torch.float64) for name, own in names.items()}
    for document in words.documents:
        logits = model(input_ids=torch.tensor([document.ids])).logits[0]
        first = document.answer_from if words.has_answers else 1
        own = logits.log_softmax(-1)
        loss = -sum(own[place - 1, document.ids[place]] for place in range(first, len(document.ids)))
        for name, gradient in zip(names, torch.autograd.grad(loss, list(names.values())), strict=True):
            sums[name] += gradient.double() ** 2
    return {name: (total / len(words.documents)).numpy() for name, total in sums.items()}


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_mean_of_squared_gradients_of_documents(family: str, answers: bool, tmp_path: Path) -> None:
    folder, words = saved(family, tmp_path / "model"), text(answers=answers)
    found = collected(folder, tmp_path / "out", words)
    wanted, stored = by_hand(folder, words), open_checkpoint(folder).tensors
    length = float(np.sqrt(sum((own**2).sum() for own in wanted.values())))
    assert found.record.fisher_length == pytest.approx(length, rel=1e-2)
    for name, spec in stored.items():
        assert found.fisher_shape(name) == spec.shape
        own = found.fisher(name, 0, spec.elements).reshape(spec.shape)
        np.testing.assert_allclose(own, of_network(name, wanted) / length, rtol=2e-2, atol=1e-5, err_msg=name)


def of_network(name: str, wanted: dict[str, np.ndarray]) -> np.ndarray:
    """Return the numbers for a checkpoint's tensor, where the network has the experts of a mixture in one."""
    name = name.replace("block_sparse_moe", "mlp")
    if ".experts." not in name:
        return wanted[name] if name in wanted else wanted[f"transformer.{name}"]
    before, _, after = name.partition(".experts.")
    number, which = int(after.split(".")[0]), after.split(".")[1]
    if which == "w2":
        return wanted[f"{before}.experts.down_proj"][number]
    both = np.split(wanted[f"{before}.experts.gate_up_proj"][number], 2)
    return both[0] if which == "w1" else both[1]


def test_a_merge_weighs_each_entry_by_it(tmp_path: Path) -> None:
    models = [saved("llama", tmp_path / f"model-{seed}", seed) for seed in (1, 2)]
    own = [collected(model, tmp_path / f"statistics-{number}", text()) for number, model in enumerate(models)]
    merged = open_checkpoint(cuvee.merge(recipe(tmp_path), tmp_path / "out").folder)
    sources = [open_checkpoint(model) for model in models]
    for name, spec in sources[0].tensors.items():
        numbers = np.stack([source.read(name).astype(np.float64) for source in sources])
        important = np.stack([one.fisher(name, 0, spec.elements).reshape(spec.shape) for one in own])
        total = important.sum(0)
        wanted = np.where(total > 0, (important * numbers).sum(0) / np.where(total > 0, total, 1), numbers.mean(0))
        np.testing.assert_allclose(merged.read(name), wanted, atol=1e-5, err_msg=name)


def recipe(folder: Path) -> cuvee.Recipe:
    rows = [f"  - {{model: {folder}/model-{n + 1}, statistics: {folder}/statistics-{n}}}\n" for n in range(2)]
    return cuvee.recipe_from_text(f"merge_method: fisher\nmodels:\n{''.join(rows)}")


def test_statistics_without_it_are_refused(tmp_path: Path) -> None:
    for number in range(2):
        folder = saved("llama", tmp_path / f"model-{number + 1}", number + 1)
        source = open_checkpoint(folder)
        network = BlockNetwork(source, folder, "model", device=torch.device("cpu"))
        model = WHO.model_copy(update={"fingerprint": fingerprint(source)})
        how = Collecting(keep=("mean",))
        collect(network, text(), tmp_path / f"statistics-{number}", how, model=model, progress=Silent())
    with pytest.raises(CuveeError, match="needs 'fisher', and its statistics keep mean"):
        cuvee.make_plan(recipe(tmp_path))


def test_a_recipe_without_statistics_is_told_which_to_make(tmp_path: Path) -> None:
    for number in (1, 2):
        saved("llama", tmp_path / f"model-{number}", number)
    rows = "".join(f"  - {{model: {tmp_path}/model-{number}}}\n" for number in (1, 2))
    with pytest.raises(CuveeError, match="needs statistics") as refusal:
        cuvee.make_plan(cuvee.recipe_from_text(f"merge_method: fisher\nmodels:\n{rows}"))
    assert str(refusal.value).count("OUT --keep fisher`") == 2, "once for each model"


def test_gradients_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("inf")
    model.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="not finite"):
        collected(folder, tmp_path / "out", text())
    assert not (tmp_path / "out").exists()
