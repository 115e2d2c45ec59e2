"""A merge whose classifier comes from one model opens in transformers with that model's labels and answers."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

import cuvee

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64,
}  # fmt: skip
LABELS = {"a": ["calm", "glad", "sad"], "b": ["no", "perhaps", "yes", "surely", "never"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    for seed, (name, labels) in enumerate(LABELS.items()):
        torch.manual_seed(seed)
        config = BertConfig(
            **SIZES, id2label=dict(enumerate(labels)), label2id={label: n for n, label in enumerate(labels)}
        )
        BertForSequenceClassification(config).save_pretrained(folder / name)
    return folder


@pytest.mark.parametrize("head", ["a", "b"])
def test_the_head_of_one_model_stands_on_the_average_of_both(head: str, models: Path, tmp_path: Path) -> None:
    listed = "".join(f"- {{model: {models / name}, parameters: {{weight: 0.5}}}}\n" for name in LABELS)
    recipe = cuvee.recipe_from_text(f"merge_method: linear\nhead: {models / head}\nmodels:\n{listed}")
    out = cuvee.merge(recipe, tmp_path / "out").folder

    merged, loading = BertForSequenceClassification.from_pretrained(out, output_loading_info=True)
    assert not any(loading.values())
    assert [merged.config.id2label[number] for number in range(merged.config.num_labels)] == LABELS[head]

    parents = {name: BertForSequenceClassification.from_pretrained(models / name).state_dict() for name in LABELS}
    for name, tensor in merged.state_dict().items():
        expected = parents[head][name]
        if not name.startswith("classifier."):
            expected = (parents["a"][name].float() + parents["b"][name].float()) / 2
        torch.testing.assert_close(tensor, expected, msg=name, check_dtype=False)
