"""The models of examples/large on a local hub: of their real shapes as headers, or tiny and of the same structure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import pre_tokenizers

from cuvee.checkpoint.write import OutputTensor, lay_out
from hub.server import Given, LocalHub, Repo, Sparse

LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072, "bos_token_id": 128000,
    "eos_token_id": 128001,
}  # fmt: skip
LLAMA_8B: dict[str, Any] = {
    **LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "tie_word_embeddings": False,
}  # fmt: skip
LLAMA_3B: dict[str, Any] = {
    **LLAMA, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24,
    "head_dim": 128, "tie_word_embeddings": True,
}  # fmt: skip
QWEN_4B: dict[str, Any] = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 2560, "intermediate_size": 9728,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 151936, "rms_norm_eps": 1e-6, "rope_theta": 5000000, "max_position_embeddings": 262144,
    "tie_word_embeddings": True, "bos_token_id": 151643, "eos_token_id": 151645,
}  # fmt: skip
TINY = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 320, "eos_token_id": 321,
}  # fmt: skip
CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@dataclass(frozen=True)
class Member:
    """A model of a set: its config, and how many tokens and rows it has beyond those of the base."""

    config: Mapping[str, Any]
    tokens: tuple[str, ...]
    more_tokens: tuple[str, ...] = ()
    more_rows: int = 0
    changes: Mapping[str, Any] = field(default_factory=dict)
    chats: bool = True


LLAMA_SPECIAL = tuple(f"<|special_{number}|>" for number in range(256))
RENAMED = ("<|im_start|>", "<|im_end|>", *LLAMA_SPECIAL[2:])
QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
DOMAINS = ("instruction", "math", "coding", "multilingual", "safety")

MEMBERS: dict[str, Member] = {
    "meta-llama/Llama-3.1-8B": Member(LLAMA_8B, LLAMA_SPECIAL, chats=False),
    "meta-llama/Llama-3.1-8B-Instruct": Member(LLAMA_8B, LLAMA_SPECIAL, changes={"eos_token_id": [128001, 128009]}),
    "NousResearch/Hermes-3-Llama-3.1-8B": Member(LLAMA_8B, RENAMED),
    "allenai/Llama-3.1-Tulu-3-8B": Member(LLAMA_8B, LLAMA_SPECIAL, ("<pad>",), 8),
    "Qwen/Qwen3-4B-Base": Member(
        QWEN_4B, QWEN_SPECIAL, changes={"max_position_embeddings": 32768, "rope_theta": 1000000}
    ),
    "Qwen/Qwen3-4B-Instruct-2507": Member(QWEN_4B, QWEN_SPECIAL),
    "Qwen/Qwen3-4B-Thinking-2507": Member(QWEN_4B, QWEN_SPECIAL),
    "meta-llama/Llama-3.2-3B": Member(LLAMA_3B, LLAMA_SPECIAL, chats=False),
    **{
        f"MergeBench/Llama-3.2-3B_{domain}": Member(
            LLAMA_3B, LLAMA_SPECIAL, ("<pad>",), 64, {"use_cache": False}, chats=False
        )
        for domain in DOMAINS
    },
}


def put_headers(server: LocalHub, names: Sequence[str]) -> None:
    """Put models on a hub in their real shapes: headers, followed by zeros that nobody stores."""
    for number, name in enumerate(names):
        member = MEMBERS[name]
        config = {**member.config, **member.changes}
        ordinary = config["vocab_size"] - len(member.tokens) - 1000 * (config["model_type"] == "qwen3")
        config["vocab_size"] += member.more_rows
        with torch.device("meta"):
            shapes = {tensor: tuple(values.shape) for tensor, values in _state(config).items()}
        shards = lay_out([OutputTensor(tensor, "BF16", shape) for tensor, shape in shapes.items()], 5_000_000_000)
        weight_map = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
        repo = Repo({shard.file: Sparse(shard.header, shard.nbytes) for shard in shards}, commit=commit_of(number))
        files = {"model.safetensors.index.json": json.dumps({"weight_map": weight_map}), **_files(member, ordinary)}
        files["config.json"] = json.dumps({**config, "torch_dtype": "bfloat16"})
        for file, text in files.items():
            repo.files[file] = Given(text.encode())
        server.repos[name] = repo


def put_tiny(server: LocalHub, names: Sequence[str], folder: Path) -> None:
    """Put tiny models on a hub: of the same types, ties, and rows beyond the base's as the real ones."""
    for number, name in enumerate(names):
        member = MEMBERS[name]
        torch.manual_seed(number)
        config = {**member.config, **member.changes, **TINY}
        config["max_position_embeddings"] //= 1024
        config["head_dim"] = 8
        config["vocab_size"] = 320 + len(member.tokens) + member.more_rows
        place = folder / name
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**config))
        model.to(torch.bfloat16).save_pretrained(place)
        for file, text in _files(member, 320).items():
            (place / file).write_text(text, encoding="utf-8")
        server.put(name, place, commit=commit_of(number))


def commit_of(number: int) -> str:
    return f"{number:x}" * 40


def _state(config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**config))
    state = model.state_dict()
    if config["tie_word_embeddings"]:
        del state["lm_head.weight"]
    return state


def _files(member: Member, ordinary: int) -> dict[str, str]:
    """Return the files of a tokenizer with so many ordinary tokens, bytes first, and the special ones behind them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"token{number}" for number in range(ordinary - len(alphabet)))]
    special = (*member.tokens, *member.more_tokens)
    added = [_added(text, ordinary + place) for place, text in enumerate(special)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": {token: place for place, token in enumerate(tokens)}, "merges": []}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": level, "post_processor": level, "decoder": level,
        "model": {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, **model},
    }  # fmt: skip
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": special[0], "eos_token": special[1]}
    if member.chats:
        settings["chat_template"] = CHAT
    return {"tokenizer.json": json.dumps(tokenizer), "tokenizer_config.json": json.dumps(settings)}


def _added(text: str, place: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": place, "content": text, "special": True, **flags}
