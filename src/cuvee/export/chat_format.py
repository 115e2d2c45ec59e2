"""A chat template as the texts around messages, found by rendering it, for Ollama's Modelfiles.

Ollama's own templates are Go's. A template is converted only if it renders some conversations just as the Jinja
template does.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from cuvee.errors import MissingExtra

Messages = Sequence[Mapping[str, str]]

_SYSTEM, _USER, _ANSWER, _AGAIN = "Sentence zero", "Sentence one", "Sentence two", "Sentence three"
_NOW = "@@now@@"


@dataclass(frozen=True)
class ChatFormat:
    """Texts around messages. Those around the system's are None if the template takes no such message.

    `opening` comes before a first message of the user's, `user` before a later message. Behind the system's message it
    is `system_after` instead. `prompt` asks for an answer.
    """

    system_before: str | None
    system_after: str | None
    opening: str
    user: str
    user_after: str
    assistant: str
    assistant_after: str
    prompt: str

    def text(self, messages: Messages) -> str:
        """Return a conversation that ends with the user's message, and asks for an answer."""
        pieces = []
        for i, message in enumerate(messages):
            if message["role"] == "system":
                pieces += [self.system_before or "", message["content"], self.system_after or ""]
            elif message["role"] == "assistant":
                pieces += [self.assistant, message["content"], self.assistant_after]
            else:
                follows_system = i == 1 and messages[0]["role"] == "system"
                before = self.opening if i == 0 else self.user
                pieces += ["" if follows_system else before, message["content"], self.user_after]
        return "".join([*pieces, self.prompt])

    def go_template(self) -> str:
        """Return the same as a template of Go's."""
        follows = '{{ if and (eq $i 1) (eq (index $.Messages 0).Role "system") }}{{ else if eq $i 0 }}'
        user = f"{follows}{self.opening}{{{{ else }}}}{self.user}{{{{ end }}}}{{{{ $m.Content }}}}{self.user_after}"
        answer = f"{self.assistant}{{{{ $m.Content }}}}{self.assistant_after}"
        system = ""
        if self.system_before is not None:
            system = (
                f'{{{{ if eq $m.Role "system" }}}}{self.system_before}{{{{ $m.Content }}}}{self.system_after}'
                "{{ else }}"
            )
        return (
            f"{{{{ range $i, $m := .Messages }}}}{system}"
            f'{{{{ if eq $m.Role "user" }}}}{user}{{{{ else if eq $m.Role "assistant" }}}}{answer}{{{{ end }}}}'
            f"{'{{ end }}' if system else ''}{{{{ end }}}}{self.prompt}"
        )


def chat_format(template: str, special: Mapping[str, str], *, leave_out: str = "") -> ChatFormat | None:
    """Return the texts around messages; None for a template that says more than such texts can.

    `special` are texts by names such as `bos_token`. `leave_out` is the text that the tokenizer itself puts before
    every text. Raises MissingExtra without jinja2.
    """
    render = _Renderer(template, special, leave_out)
    try:
        around = _found(render)
    except (_Unclear, ValueError):
        return None
    texts = [text for text in vars(around).values() if text is not None]
    if not all(map(_can_be_written, texts)):
        return None
    for talk in _talks(around):
        if around.text(talk) != render(talk, prompt=True):
            return None
    return around


def _can_be_written(text: str) -> bool:
    """Say whether a Modelfile can hold a text: it holds no template tag, no quotes of its own and no date."""
    return not any(mark in text for mark in ("{{", '"""', _NOW))


class _Unclear(Exception):
    """The template refuses a conversation, or says other things than texts around messages."""


class _Renderer:
    """Renders a template as transformers does."""

    def __init__(self, template: str, special: Mapping[str, str], leave_out: str) -> None:
        try:
            import jinja2.sandbox
        except ImportError as error:
            raise MissingExtra("eval", missing="jinja2") from error
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
        environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda _: _NOW}
        self._failures = (jinja2.TemplateError, TypeError, _Unclear)
        self._special = special
        self._leave_out = leave_out
        try:
            self._template = environment.from_string(template)
        except jinja2.TemplateError:
            self._template = environment.from_string("{{ raise_exception() }}")

    def __call__(self, messages: Messages, *, prompt: bool) -> str:
        try:
            text = self._template.render(messages=messages, add_generation_prompt=prompt, **self._special)
        except self._failures as error:
            raise _Unclear from error
        return text.removeprefix(self._leave_out)


def _refuse(*_: Any) -> NoReturn:
    raise _Unclear


def _found(render: _Renderer) -> ChatFormat:
    talk = _messages(("user", _USER), ("assistant", _ANSWER), ("user", _AGAIN))
    opening, middle, between, end = _around(render(talk, prompt=True), _USER, _ANSWER, _AGAIN)
    user_after = _around(render(talk, prompt=False), _USER, _ANSWER, _AGAIN)[-1]
    assistant_after = _around(render(talk[:2], prompt=False), _USER, _ANSWER)[-1]
    before, after = _around_system(render)
    return ChatFormat(
        system_before=before,
        system_after=after,
        opening=opening,
        user=_without_start(between, assistant_after),
        user_after=user_after,
        assistant=_without_start(middle, user_after),
        assistant_after=assistant_after,
        prompt=_without_start(end, user_after),
    )


def _around_system(render: _Renderer) -> tuple[str | None, str | None]:
    talk = _messages(("system", _SYSTEM), ("user", _USER))
    try:
        before, after, _ = _around(render(talk, prompt=True), _SYSTEM, _USER)
    except _Unclear:
        return None, None
    return before, after


def _around(text: str, *contents: str) -> list[str]:
    """Return the texts before, between and after the contents of messages."""
    pieces = []
    for content in contents:
        before, found, text = text.partition(content)
        if not found:
            raise _Unclear
        pieces.append(before)
    return [*pieces, text]


def _without_start(text: str, start: str) -> str:
    if not text.startswith(start):
        raise _Unclear
    return text.removeprefix(start)


def _messages(*messages: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in messages]


def _talks(found: ChatFormat) -> list[list[dict[str, str]]]:
    """Return conversations by which a format is checked, with a system's message if the format takes any."""
    longer = _messages(
        ("user", "What is\n\n2 + 2?"),
        ("assistant", "It is 4."),
        ("user", "And 3?"),
        ("assistant", "5"),
        ("user", "Why?"),
    )
    talks = [longer[:1], longer[:3], longer]
    if found.system_before is None:
        return talks
    return talks + [[*_messages(("system", "Be brief.")), *talk] for talk in talks]
