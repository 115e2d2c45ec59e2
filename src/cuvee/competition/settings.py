"""`server.yaml` in a competition's private folder: what its organiser sets of the server. All of it may be left out.

proxies: [10.0.0.0/8]      # whose X-Forwarded-For and X-Forwarded-Proto count
https: true                # visitors come by HTTPS: cookies are Secure, and browsers are told by HSTS
invitation: a-secret-code  # who registers a team must know it
team_storage: 200MB        # archives and recipes of a team
teams_per_hour: 30         # registrations of one address, and so on
backup_every_hours: 24     # the server is not well where the newest backup is older
webhook: https://hooks.example.org/services/a-secret   # is told what is not well
mail_to: [organiser@example.org]      # are told, too; the account is in CUVEE_MAIL_ADDRESS and CUVEE_MAIL_PASSWORD
mail_server: smtp.example.org:587
"""

import ipaddress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cuvee.amounts import bytes_of
from cuvee.competition.limits import Limits
from cuvee.competition.mail import is_address
from cuvee.documents.checked import checked
from cuvee.documents.document import read_document, read_text
from cuvee.errors import RecipeError

FILE = "server.yaml"

UNITS = frozenset({"minutes", "hours", "days"})
"""How the name of a setting ends that is a period of time."""


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


def _amount(text: str) -> str:
    bytes_of(text)
    return text


def _webhook(text: str) -> str:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise ValueError(f"expected an address such as https://hooks.example.org/secret: {error}") from None
    is_of_web = url.scheme in ("https", "http") and bool(url.host)
    if not is_of_web or url.userinfo:
        raise ValueError("expected an address such as https://hooks.example.org/secret, without a name or password")
    return text


def _recipient(text: str) -> str:
    if not is_address(text):
        raise ValueError("expected an e-mail address such as organiser@example.org, without a name")
    return text


Count = Annotated[int, Field(ge=1, le=10**6)]


class Settings(BaseModel):
    """What the file may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    proxies: list[Annotated[str, AfterValidator(_network)]] = []
    https: bool = False
    invitation: Annotated[str, Field(max_length=120)] = ""
    team_storage: Annotated[str, AfterValidator(_amount)] | None = None
    teams_per_hour: Count | None = None
    sign_ins_per_hour: Count | None = None
    sends_per_hour: Count | None = None
    what_ifs_per_minute: Count | None = None
    downloads_per_hour: Count | None = None
    checks_per_minute: Count | None = None
    connections_per_address: Count | None = None
    worker_silence_minutes: Count | None = None
    longest_wait_hours: Count | None = None
    backup_every_hours: Count | None = None
    keep_days: Count | None = None
    webhook: Annotated[str, AfterValidator(_webhook), Field(max_length=2000)] = ""
    webhook_networks: list[Annotated[str, AfterValidator(_network)]] = []
    mail_to: Annotated[list[Annotated[str, AfterValidator(_recipient)]], Field(max_length=20)] = []
    mail_server: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$")] = ""
    mail_tls: Literal["starttls", "always", "never"] = "starttls"


def read_limits(path: Path) -> Limits:
    """Read the limits that an organiser has set. Raises RecipeError that holds every problem of the file."""
    if not path.exists():
        return Limits()
    text = read_text(path, "settings")
    if all(line.strip().startswith("#") for line in text.splitlines() if line.strip()):
        return Limits()
    settings = checked(Settings, read_document(text, str(path)))
    if bool(settings.mail_to) != bool(settings.mail_server):
        present, missing = ("mail_to", "mail_server") if settings.mail_to else ("mail_server", "mail_to")
        hint = "`mail_to: [organiser@example.org]` and `mail_server: smtp.example.org:587` go together"
        raise RecipeError(f"it has '{present}' and no '{missing}'", where=str(path), hint=hint)
    return _limits(settings)


def _limits(settings: Settings) -> Limits:
    lists = ("proxies", "webhook_networks", "mail_to")
    written = settings.model_dump(exclude_none=True, exclude={*lists, "team_storage"})
    values: dict[str, Any] = {}
    for name, value in written.items():
        limit, _, unit = name.rpartition("_")
        if unit in UNITS:
            values[limit] = timedelta(**{unit: value})
        else:
            values[name] = value
    if settings.team_storage is not None:
        values["team_bytes"] = bytes_of(settings.team_storage)
    values |= {name: tuple(getattr(settings, name)) for name in lists}
    return replace(Limits(), **values)
