"""Tiny random classifiers, reward models, masked models and embedding models, with tokenizers made on the spot."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from evaluation.conftest import byte_tokenizer

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def letters_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer of bytes that reads one text or two, as BERT's does."""
    symbols = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={symbol: place for place, symbol in enumerate(symbols)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = dict(zip(("pad_token", "cls_token", "sep_token", "mask_token", "unk_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)


def bert_config(**changes: Any) -> BertConfig:
    size = len(letters_tokenizer())
    return BertConfig(vocab_size=size, max_position_embeddings=64, initializer_range=0.3, **SIZES, **changes)


def save_bert(folder: Path, kind: Any, *, seed: int = 0, **changes: Any) -> Path:
    """Write a random BERT with the head of a class."""
    torch.manual_seed(seed)
    kind(bert_config(**changes)).save_pretrained(folder)
    letters_tokenizer().save_pretrained(folder)
    return folder


def save_classifier(folder: Path, labels: tuple[str, ...], *, seed: int = 0) -> Path:
    names = dict(enumerate(labels))
    return save_bert(folder, BertForSequenceClassification, seed=seed, num_labels=len(labels), id2label=names)


def save_masked(folder: Path) -> Path:
    return save_bert(folder, BertForMaskedLM)


def save_reward(folder: Path, *, pad: int | None = None, seed: int = 0) -> Path:
    """Write a random Llama whose head is a reward."""
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    size = {"vocab_size": len(tokenizer), "max_position_embeddings": 256, "num_key_value_heads": 2}
    config = LlamaConfig(num_labels=1, initializer_range=0.3, pad_token_id=pad, **size, **SIZES)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    return folder


def save_embedder(folder: Path, *, pooling: str = "mean", dense: bool = True, seed: int = 0) -> Path:
    """Write a SentenceTransformer: a transformer, pooling, perhaps a dense layer, and normalisation."""
    from safetensors.torch import save_file

    save_bert(folder, BertModel, seed=seed)
    types = ["Transformer", "Pooling", *(["Dense"] if dense else []), "Normalize"]
    modules = []
    for place, name in enumerate(types):
        path = f"{place}_{name}" if place else ""
        modules.append({"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{name}"})
        (folder / path).mkdir(exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48, "do_lower_case": False}))
    prompts = {"query": "find: ", "document": "text: "}
    whole = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(whole))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling_config(pooling)))
    if dense:
        settings = {"in_features": 32, "out_features": 16, "bias": True}
        settings["activation_function"] = "torch.nn.modules.activation.Tanh"
        (folder / "2_Dense" / "config.json").write_text(json.dumps(settings))
        weights = {"linear.weight": torch.randn(16, 32), "linear.bias": torch.randn(16)}
        save_file(weights, folder / "2_Dense" / "model.safetensors")
    return folder


def pooling_config(mode: str) -> dict[str, Any]:
    """Return the settings of older versions, a switch for each kind."""
    keys = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}
    keys |= {"lasttoken": "pooling_mode_lasttoken", "weightedmean": "pooling_mode_weightedmean_tokens"}
    keys |= {"mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens"}
    return {"word_embedding_dimension": 32} | {key: name == mode for name, key in keys.items()}
