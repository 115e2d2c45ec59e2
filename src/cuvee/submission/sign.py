"""Ed25519 signatures: the organiser's key pair, and verdicts that anyone can check against the public key."""

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuvee.errors import MissingExtra, RecipeError, SubmissionError
from cuvee.submission.pack import canonical_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PREFIX = "ed25519:"


def new_key(path: Path) -> str:
    """Write a new private key that only its owner may read; return the public key as `competition.yaml` has it."""
    serialization, ed25519 = _modules()
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    return public_key(key)


def read_key(path: Path) -> "Ed25519PrivateKey":
    """Read a private key. Raises RecipeError."""
    serialization, ed25519 = _modules()
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(f"cannot read the private key: {error}", where=str(path)) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise RecipeError("this is no Ed25519 key", where=str(path))
    found: Ed25519PrivateKey = key
    return found


def public_key(key: "Ed25519PrivateKey") -> str:
    """Return the public half as text."""
    serialization, _ = _modules()
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return PREFIX + base64.b64encode(raw).decode()


def signed(content: dict[str, Any], key: "Ed25519PrivateKey") -> dict[str, Any]:
    """Return `content` with its signature and the public key that checks it."""
    signature = base64.b64encode(key.sign(canonical_json(content))).decode()
    return {"content": content, "public_key": public_key(key), "signature": signature}


def checked(document: Any, trusted: str) -> dict[str, Any]:
    """Return the content of a signed document. Raises SubmissionError unless the `trusted` key has signed it."""
    if not isinstance(document, dict) or set(document) != {"content", "public_key", "signature"}:
        raise SubmissionError("this is no signed document: expected content, public_key and signature")
    if document["public_key"] != trusted:
        raise SubmissionError("signed with another key than the competition's")
    from cryptography.exceptions import InvalidSignature

    try:
        signature = base64.b64decode(document["signature"], validate=True)
        _public(trusted).verify(signature, canonical_json(document["content"]))
    except (InvalidSignature, ValueError, TypeError) as error:
        raise SubmissionError("the signature is not that of this content") from error
    return dict(document["content"])


def _public(text: str) -> "Ed25519PublicKey":
    _, ed25519 = _modules()
    key: Ed25519PublicKey = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix(PREFIX)))
    return key


def _modules() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtra("judge", missing="cryptography") from error
    return serialization, ed25519
