"""Tiny models with tokenizers of the two kinds that GGUF has."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from foreign.test_gguf import MADE
from tokenizers_made import TEXT, byte_level_bpe

gguf = pytest.importorskip("gguf")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

SIZE = 352
"""Rows of the embedding: more than the tokenizers have tokens."""


def pieces_bpe() -> str:
    """Return the tokenizer.json of a BPE as SentencePiece has it: spaces are letters, unknown ones are bytes."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    made.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=345, special_tokens=special, show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    content = json.loads(made.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    content["model"]["merges"] = all_merges(content["model"]["vocab"])
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    return json.dumps(content)


def all_merges(vocabulary: dict[str, int]) -> list[list[str]]:
    """Return every pair that makes a piece, the older piece first, as converters of SentencePiece's models do."""
    return [
        [piece[:at], piece[at:]]
        for piece in sorted(vocabulary, key=vocabulary.__getitem__)
        for at in range(1, len(piece))
        if piece[:at] in vocabulary and piece[at:] in vocabulary and not piece.startswith("<")
    ]


TOKENIZERS: dict[str, Callable[[], tuple[str, dict[str, object]]]] = {
    "bytes": lambda: (byte_level_bpe(size=340), {"eos_token": "<|endoftext|>"}),
    "pieces": lambda: (pieces_bpe(), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Give the folder of a model of a family, with a tokenizer of a kind."""
    made: dict[tuple[str, str], Path] = {}

    def make(family: str, kind: str = "bytes") -> Path:
        if (family, kind) not in made:
            folder = made[family, kind] = tmp_path_factory.mktemp("model") / family
            torch.manual_seed(1)
            model = MADE[family]()
            model.resize_token_embeddings(SIZE)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
            model.save_pretrained(folder)
            text, said = TOKENIZERS[kind]()
            (folder / "tokenizer.json").write_text(text, encoding="utf-8")
            settings = {"tokenizer_class": "PreTrainedTokenizerFast", **said}
            (folder / "tokenizer_config.json").write_text(json.dumps(settings))
            (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
        return made[family, kind]

    return make
