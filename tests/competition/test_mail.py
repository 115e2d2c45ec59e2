"""What the organiser is told by e-mail, by a real mail server with STARTTLS and an account, and what fails."""

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from competition.made import Clock, tiny_competition
from competition.serving import Served, serve
from cuvee.competition.database import Database
from cuvee.competition.limits import Limits
from cuvee.competition.mail import Mail, is_address, mail_of
from cuvee.competition.messages import keep_telling, messengers_of, tell_news
from cuvee.competition.settings import read_limits
from cuvee.competition.webhook import Webhook
from cuvee.errors import CuveeError, PlatformError, RecipeError

controller = pytest.importorskip("aiosmtpd.controller", reason="a mail server of the extra 'dev'")
smtp = pytest.importorskip("aiosmtpd.smtp", reason="a mail server of the extra 'dev'")

PASSWORD = "a-password-of-the-tests"
OWN = "competition@example.org"


@dataclass
class Inbox:
    """A mail server on this machine, and all that came to it. It takes nothing for whom it does not know."""

    port: int
    certificate: Path
    messages: list[EmailMessage] = field(default_factory=list)
    unknown: tuple[str, ...] = ()

    def mail(self, *to: str, **changes: Any) -> Mail:
        """Return an account on it."""
        trusts = ssl.create_default_context(cafile=str(self.certificate))
        account = Mail("127.0.0.1", self.port, OWN, to or ("ada@example.org",), PASSWORD, context=trusts)
        return replace(account, **changes)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802  # its name in aiosmtpd
        if address in self.unknown:
            return "550 there is no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  # its name in aiosmtpd
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 OK"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this machine and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a mail server of the tests")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("mail")
    own, secret = folder / "certificate.pem", folder / "key.pem"
    own.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return own, secret


@pytest.fixture
def inbox(certificate: tuple[Path, Path]) -> Iterator[Inbox]:
    yield from listening(certificate)


@pytest.fixture
def plain_inbox(certificate: tuple[Path, Path]) -> Iterator[Inbox]:
    """A relay that knows neither TLS nor accounts."""
    yield from listening(None, certificate[0])


def listening(certificate: tuple[Path, Path] | None, trusted: Path | None = None) -> Iterator[Inbox]:
    options: dict[str, Any] = {}
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        options = {"tls_context": context, "require_starttls": True, "auth_required": True, "authenticator": known}
        trusted = certificate[0]
    assert trusted is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inbox = Inbox(port, trusted)
    running = controller.Controller(inbox, hostname="127.0.0.1", port=port, **options)
    running.start()
    yield inbox
    running.stop()


def known(server: Any, session: Any, envelope: Any, mechanism: str, account: Any) -> Any:
    is_known = (account.login, account.password) == (OWN.encode(), PASSWORD.encode())
    return smtp.AuthResult(success=is_known, handled=False)


@pytest.fixture
def watched(sqlite: Database, clock: Clock) -> Iterator[Served]:
    """A server that wants a backup a day."""
    yield from serve(sqlite, clock, tiny_competition(), Limits(backup_every=timedelta(hours=24)))


def test_a_message_comes_encrypted_from_the_account_and_says_that_a_program_wrote_it(inbox: Inbox) -> None:
    mail = inbox.mail("ada@example.org", "grace@example.org")
    assert mail.tell("A tïny\ncompetition", ["one thing", "another"]) == ""
    [message] = inbox.messages
    assert (message["From"], message["To"]) == (OWN, "ada@example.org, grace@example.org")
    assert message["Subject"] == "A tïny competition: one thing"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@example.org>")
    assert message.get_content().splitlines()[:4] == ["A tïny competition", "", "- one thing", "- another"]


def test_news_are_told_once_each_by_every_way(watched: Served, inbox: Inbox) -> None:
    mail = inbox.mail()
    assert [tell_news(watched.service, mail) for _ in range(2)] == [1, 0]
    told: list[str] = []
    webhook = Said(told)
    assert [tell_news(watched.service, webhook) for _ in range(2)] == [1, 0], "the other way has told of its own"
    assert len(inbox.messages) == len(told) == 1


@dataclass
class Said:
    """A way of telling that a test reads."""

    told: list[str]
    name: str = "webhook"

    def tell(self, title: str, sentences: Any) -> str:
        self.told.extend(sentences)
        return ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": "wrong"}, "SMTPAuthenticationError, 535"),
        ({"context": None}, "CERTIFICATE_VERIFY_FAILED|SSLError"),
        ({"tls": "never", "password": ""}, "530"),
        ({"tls": "always"}, "SSLError"),
        ({"port": 1}, "ConnectionRefusedError"),
        ({"host": "no-such-host.invalid"}, "gaierror"),
        ({"to": ("nobody@example.org",)}, "refuses nobody@example.org"),
    ],
)
def test_a_message_that_does_not_leave_says_why_and_never_the_password(
    inbox: Inbox, changes: dict[str, Any], said: str
) -> None:
    inbox.unknown = ("nobody@example.org",)
    with pytest.raises(PlatformError, match=said) as refused:
        inbox.mail(**changes).tell("A tiny competition", ["all is well"])
    assert PASSWORD not in f"{refused.value}{inbox.mail(**changes)!r}"
    assert inbox.messages == []


def test_a_server_without_tls_gets_neither_password_nor_message(plain_inbox: Inbox) -> None:
    with pytest.raises(PlatformError, match="STARTTLS extension not supported"):
        plain_inbox.mail().tell("A tiny competition", ["all is well"])
    assert plain_inbox.mail(tls="never", password="").tell("A tiny competition", ["all is well"]) == ""
    assert len(plain_inbox.messages) == 1, "a relay of the organiser's own, as the file says"


def test_who_does_not_get_it_keeps_nobody_from_it_and_it_is_not_sent_twice(watched: Served, inbox: Inbox) -> None:
    inbox.unknown = ("nobody@example.org",)
    mail = inbox.mail("ada@example.org", "nobody@example.org")
    assert [tell_news(watched.service, mail) for _ in range(2)] == [1, 0]
    assert len(inbox.messages) == 1
    [failing] = console(watched)
    assert failing["why"] == "the mail server '127.0.0.1' takes no message for nobody@example.org"


def test_the_console_says_what_fails_until_it_works_and_judging_goes_on(watched: Served, inbox: Inbox) -> None:
    with pytest.raises(PlatformError):
        tell_news(watched.service, inbox.mail(password="wrong"))
    watched.clock.advance(hours=1)
    with pytest.raises(PlatformError):
        tell_news(watched.service, inbox.mail(port=1))
    [failing] = console(watched)
    assert (failing["name"], failing["since"]) == ("e-mail", "2026-06-10T12:00:00Z")
    assert "ConnectionRefusedError" in failing["why"]
    page = watched.page("organiser", "/organiser").text
    assert "You are not told by e-mail since" in page
    assert PASSWORD not in page
    watched.send()
    assert watched.judge_all() == 1
    assert tell_news(watched.service, inbox.mail()) == 1
    assert console(watched) == []


def console(served: Served) -> list[dict[str, str]]:
    found: list[dict[str, str]] = served.ask("organiser", "GET", "/api/organiser/console").json()["not_sent"]
    return found


def test_a_server_tells_at_its_start_that_messages_arrive(served: Served, inbox: Inbox) -> None:
    over = threading.Event()
    over.set()
    keep_telling(served.service, inbox.mail(), over)
    keep_telling(served.service, inbox.mail(port=1), over)  # and goes on where they do not
    assert [message["Subject"] for message in inbox.messages] == ["A tiny competition: the server has started"]


def test_where_to_stands_in_the_file_and_the_account_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("mail_to: [ada@example.org]\nmail_server: smtp.example.org\nmail_tls: always\n")
    account = {"CUVEE_MAIL_ADDRESS": OWN, "CUVEE_MAIL_PASSWORD": PASSWORD}
    limits = read_limits(file)
    assert messengers_of(limits, account) == [
        Mail("smtp.example.org", 465, OWN, ("ada@example.org",), PASSWORD, "always")
    ]
    with pytest.raises(RecipeError, match="CUVEE_MAIL_ADDRESS is not set"):
        mail_of(limits, {})
    with pytest.raises(RecipeError, match="in the clear"):
        mail_of(replace(limits, mail_tls="never"), account)
    both = replace(limits, webhook="https://hooks.example.org/x")
    assert [type(messenger) for messenger in messengers_of(both, account)] == [Webhook, Mail]
    for wrong, said in (
        ("mail_to: [ada@example.org]", "no 'mail_server'"),
        ("mail_server: smtp.example.org", "no 'mail_to'"),
        ("mail_to: [Ada <ada@example.org>]\nmail_server: smtp.example.org", "mail_to"),
        ("mail_to: [ada@example.org]\nmail_server: smtp://example.org", "mail_server"),
    ):
        file.write_text(f"{wrong}\n")
        with pytest.raises(CuveeError, match=said):
            read_limits(file)


@pytest.mark.parametrize("text", ["", "ada", "@example.org", "ada@", "a@b@c", "ada@example.org\nBcc: x@y", "ä@b.org"])
def test_what_would_end_a_header_or_name_a_second_one_is_no_address(text: str) -> None:
    assert not is_address(text)
