"""A small server of OpenAI's completions API on the loopback address, with a tiny model: what vLLM and SGLang answer.

It computes each text by itself, in one plain forward pass.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from cuvee.evaluation.model import LanguageModel


@dataclass
class Completions:
    """What the server has and how it behaves: `fails` are statuses that it answers first, one a request."""

    model: LanguageModel
    names: Sequence[str] = ("tiny",)
    key: str | None = None
    echoes: bool = True
    writes_after_echo: bool = True
    start: bool = True
    fails: list[int] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/v1/models":
            return {"data": [{"id": name, "root": name, "max_model_len": 256} for name in self.names]}
        if path == "/v1/chat/completions":
            text = "".join(f"<{turn['role']}>{turn['content']}" for turn in body["messages"])
            written, count = self.written(text, body)
            return {"choices": [{"message": {"content": written}}], "usage": {"total_tokens": count}}
        texts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        if not body.get("echo"):
            written, count = self.written(texts[0], body)
            return {"choices": [{"index": 0, "text": written}], "usage": {"total_tokens": count}}
        choices = [{"index": index, "text": text, "logprobs": self.echo(text)} for index, text in enumerate(texts)]
        read = sum(len(self.tokens(text)) for text in texts)
        return {"choices": choices[::-1], "usage": {"prompt_tokens": read}}

    def tokens(self, text: str) -> list[int]:
        (row,) = self.model.encode([text])
        return row if self.start else row[1:]

    def echo(self, text: str) -> dict[str, Any] | None:
        row = self.tokens(text)
        with torch.inference_mode():
            table = self.model.network(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
        values = [None, *(float(table[place, token]) for place, token in enumerate(row[1:]))]
        last = int(table[-1].argmax())
        if not self.echoes:
            return {"tokens": [self.word(last)], "token_logprobs": [float(table[-1, last])]}
        if self.writes_after_echo:
            row, values = [*row, last], [*values, float(table[-1, last])]
        return {"tokens": [self.word(token) for token in row], "token_logprobs": values}

    def word(self, token: int) -> str:
        return str(self.model.tokenizer.convert_ids_to_tokens(token))

    def written(self, text: str, body: dict[str, Any]) -> tuple[str, int]:
        row, new = self.tokens(text), []
        while len(new) < body["max_tokens"]:
            with torch.inference_mode():
                token = int(self.model.network(input_ids=torch.tensor([row + new])).logits[0, -1].argmax())
            if token in self.model.end_tokens:
                break
            new.append(token)
        found = self.model.tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for stop in body.get("stop", ()):
            found = found.split(stop)[0]
        return found, len(row) + len(new)


@contextmanager
def serving(what: Completions) -> Iterator[Completions]:
    """Serve on a free port until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: dict[str, Any]) -> None:
            with what.lock:
                what.requests.append(self.path)
                status = what.fails.pop(0) if what.fails else 200
                if what.key and self.headers.get("Authorization") != f"Bearer {what.key}":
                    status = 401
                found = what.answer(self.path, body) if status == 200 else {"error": f"status {status}, as told"}
            text = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    what.address = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield what
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
