"""Run by a Python that has fusion-bench: what its RegMean makes of a GPT-2, and its RegMean++ of a T5.

    python fusionbench_driver.py JOB.json...

All is float64, so that no difference is rounding. A job is {"models": {"name": folder}, "base": folder, "ids": {"name":
[row, ...]}, "ratio": number, "out": file}. A row for GPT-2 is a list of ids; one for T5 is a pair of lists: the encoder
reads the first and the decoder the second. Knows nothing of cuvee.
"""

import json
import sys
from pathlib import Path

import torch
from fusion_bench.method.regmean import RegMeanAlgorithmForGPT2
from fusion_bench.method.regmean_plusplus import RegMeanAlgorithmForCLIPPlusPlus, RegMeanAlgorithmPlusPlus
from fusion_bench.modelpool import BaseModelPool
from safetensors.torch import save_file
from transformers import AutoConfig, GPT2ForSequenceClassification, GPT2Model, T5ForConditionalGeneration


class Pool(BaseModelPool):
    """Models with the rows that they are shown, one row a batch, so that nothing is padded."""

    def __init__(self, models, rows):
        super().__init__(models)
        self.rows = rows

    def load_train_dataset(self, name):
        return self.rows[name]

    def load_classifier(self, name):
        return GPT2ForSequenceClassification(self.load_model(name).config).double().eval()


class RegMeanPlusPlusForT5(RegMeanAlgorithmForCLIPPlusPlus):
    """One side of a T5, encoder or decoder: what FusionBench leaves to a family, and nothing of its arithmetic."""

    # the class for CLIP has a plain dict here, which cannot be turned round, so that not even CLIP can be merged
    _config_mapping = RegMeanAlgorithmPlusPlus._config_mapping

    def __init__(self, side, **settings):
        super().__init__(dataloader_kwargs={}, **settings)
        self.side = side

    def on_regmean_start(self):
        """Need no classifier of images."""

    def merge_embedding_layer(self, models_to_merge_dict):
        states = [model.state_dict() for model in models_to_merge_dict.values()]
        outside = [name for name in states[0] if ".block." not in name]
        return {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in outside}

    def get_layers(self, model):
        return getattr(model, self.side).block

    def get_input_for_first_layer(self, model, train_dataset):
        return [self.recorded(model.eval(), *row) for row in train_dataset]

    def recorded(self, model, prompt, answer):
        """Return the hidden states before the first block, and all that the second one is called with beside them.

        Only from the second block on do calls have what positions mean to attention, which the first one computes.
        """
        calls = []
        blocks = list(self.get_layers(model))[:2]
        handles = [
            block.register_forward_pre_hook(lambda _, *call: calls.append(call), with_kwargs=True) for block in blocks
        ]
        model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([answer]), use_cache=False)
        for handle in handles:
            handle.remove()
        (first, _), (second, keywords) = calls
        return first[0], second[1:], keywords

    def layer_batches_forward(self, layer, batches_input):
        return [(layer(hidden, *further, **named)[0], further, named) for hidden, further, named in batches_input]

    def update_merged_params_dict(self, merged_params_dict, new_merged_params, layer_idx):
        named = {f"{self.side}.block.{layer_idx}.{name}": value for name, value in new_merged_params.items()}
        return merged_params_dict | named


def regmean(job):
    models = {name: GPT2Model.from_pretrained(folder).double() for name, folder in job["models"].items()}
    models["_pretrained_"] = GPT2Model.from_pretrained(job["base"]).double()
    rows = {}
    for name, own in job["ids"].items():
        rows[name] = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in own]
    algorithm = RegMeanAlgorithmForGPT2(
        cache_dir="",
        batch_size=1,
        num_workers=0,
        num_regmean_examples=sum(map(len, rows.values())),
        exclude_param_names_regex=[],
        reduce_non_diagonal_ratio=job["ratio"],
        weight_transpose=False,  # the matrices of GPT-2 are [in, out]
    )
    return algorithm.run(Pool(models, rows))


def regmean_plusplus(job):
    loaded = T5ForConditionalGeneration.from_pretrained
    models = {name: loaded(folder).double() for name, folder in job["models"].items()}
    merged = loaded(job["base"]).double()
    for side in ("encoder", "decoder"):  # its blocks must be alike, so that each side is merged by itself
        algorithm = RegMeanPlusPlusForT5(
            side,
            num_regmean_examples=sum(map(len, job["ids"].values())),
            exclude_param_names_regex=[".*relative_attention_bias"],  # for the same reason: the first block has it
            reduce_non_diagonal_ratio=job["ratio"],
            weight_transpose=True,
        )
        merged = algorithm.run(Pool({**models, "_pretrained_": merged}, job["ids"]))
    return merged


def done(job):
    two_sided = AutoConfig.from_pretrained(job["base"]).is_encoder_decoder
    merged = regmean_plusplus(job) if two_sided else regmean(job)
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in merged.state_dict().items()}, job["out"])


def main(*places):
    torch.set_num_threads(1)
    for place in places:
        done(json.loads(Path(place).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(*sys.argv[1:])
