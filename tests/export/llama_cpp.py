"""A real llama.cpp, of the package xllamacpp, that runs a GGUF file in this process and tells what it computes."""

import json
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

xllamacpp = pytest.importorskip("xllamacpp")

CONTEXT = 512


class LlamaCpp:
    """A loaded file. Keys and values are kept in float32 and nothing is approximated, so that only the file rounds."""

    def __init__(self, file: Path, *, pooling: bool = False) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx = CONTEXT
        params.n_parallel = 1
        params.n_threads_http = 1
        params.warmup = False
        params.verbosity = -1
        params.embedding = pooling
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        self._server = xllamacpp.Server(params)
        self._wait_for_its_loop("embedding" if pooling else "completion")

    def _wait_for_its_loop(self, path: str) -> None:
        """Let the loop of the server's thread answer once: closed before that has begun, a server waits for ever."""
        self.ask(path, content="a", prompt="a", n_predict=1)

    def log_probabilities(self, tokens: Sequence[int], vocabulary: int) -> np.ndarray:
        """Return the logarithm of the probability of each token of the vocabulary to come next.

        llama.cpp keeps them back after half a letter, so a letter is forced upon it; they are those before the bias.
        """
        letter = self.tokens("a", special=False)[-1]
        answer = self.ask(
            "completion",
            prompt=list(tokens),
            n_predict=1,
            n_probs=vocabulary,
            temperature=0,
            cache_prompt=False,
            logit_bias=[[letter, 1e6]],
        )
        row = np.full(vocabulary, np.nan, np.float32)
        for token in answer["completion_probabilities"][0]["top_logprobs"]:
            row[token["id"]] = token["logprob"]
        return row

    def greedy(self, tokens: Sequence[int], count: int) -> list[int]:
        """Return the tokens that follow if the likeliest is taken each time, ends of texts among them."""
        answer = self.ask(
            "completion", prompt=list(tokens), n_predict=count, temperature=0, return_tokens=True, ignore_eos=False
        )
        return list(answer["tokens"])

    def tokens(self, text: str, *, special: bool = True) -> list[int]:
        """Return the numbers of a text's tokens; the first and last of every text go along if `special`."""
        return list(self.ask("tokenize", content=text, add_special=special, parse_special=True)["tokens"])

    def embedding(self, text: str) -> np.ndarray:
        """Return the vector of a text, pooled as the file says, of length one."""
        return np.asarray(self.ask("embedding", content=text)[0]["embedding"][0], np.float32)

    def ask(self, path: str, **body: Any) -> Any:
        """Post to the server that llama.cpp runs in a thread, and return its answer."""
        request = urllib.request.Request(
            f"{self._server.listening_address}/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@contextmanager
def llama_cpp(file: Path, *, pooling: bool = False) -> Iterator[LlamaCpp]:
    """Open a file in llama.cpp."""
    yield LlamaCpp(file, pooling=pooling)
