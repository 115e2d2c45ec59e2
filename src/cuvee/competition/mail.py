"""E-mail to the organiser, by an account on a mail server.

Where to, and which server, stands in `private/server.yaml`; the account's address and password stand in the
environment, `CUVEE_MAIL_ADDRESS` and `CUVEE_MAIL_PASSWORD`. The connection is encrypted before anything else is said,
and the server's certificate is checked.
"""

import smtplib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from cuvee.competition.limits import Limits
from cuvee.errors import PlatformError, RecipeError

ADDRESS_VARIABLE = "CUVEE_MAIL_ADDRESS"
PASSWORD_VARIABLE = "CUVEE_MAIL_PASSWORD"
SECONDS_TO_ANSWER = 20.0
SUBMISSION, SUBMISSION_BY_TLS = 587, 465
"""The ports of mail servers by RFC 8314: the first begins in the clear and encrypts by STARTTLS."""

LONGEST_SUBJECT = 120


@dataclass(frozen=True)
class Mail:
    """An account to write from, and whom to write to. Without a password nobody signs in, as at a relay of one's own.

    `tls` says how the connection is encrypted: `starttls`, `always` from its first byte, or `never`.
    """

    host: str
    port: int
    address: str
    to: tuple[str, ...]
    password: str = field(default="", repr=False)
    tls: str = "starttls"
    context: ssl.SSLContext | None = None

    @property
    def name(self) -> str:
        """Its name in the console."""
        return "e-mail"

    def tell(self, title: str, sentences: Sequence[str]) -> str:
        """Send a message to all; return for whom the server does not take it.

        Raises PlatformError, without the password, where the server takes it for nobody.
        """
        message = self.message(title, sentences)
        try:
            with self._connected() as server:
                if self.password:
                    server.login(self.address, self.password)
                refused = server.send_message(message)
        except smtplib.SMTPNotSupportedError as error:
            hint = "name its port for TLS and `mail_tls: always`, or another server"
            raise PlatformError(f"the mail server '{self.host}' cannot do it: {error}", hint=hint) from error
        except (smtplib.SMTPException, OSError) as error:
            raise PlatformError(f"the mail server '{self.host}' takes no message: {_why(error)}") from error
        if refused:
            return f"the mail server '{self.host}' takes no message for {', '.join(sorted(refused))}"
        return ""

    def message(self, title: str, sentences: Sequence[str]) -> EmailMessage:
        """Write a message as programs do: no program answers it."""
        message = EmailMessage()
        message["From"] = self.address
        message["To"] = ", ".join(self.to)
        message["Subject"] = _on_a_line(f"{title}: {sentences[0]}")[:LONGEST_SUBJECT]
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._domain)
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834
        lines = [_on_a_line(title), "", *(f"- {_on_a_line(sentence)}" for sentence in sentences), ""]
        message.set_content("\n".join(lines))
        return message

    def _connected(self) -> smtplib.SMTP:
        """Connect, and encrypt."""
        context = self.context or ssl.create_default_context()
        if self.tls == "always":
            return smtplib.SMTP_SSL(
                self.host, self.port, local_hostname=self._domain, timeout=SECONDS_TO_ANSWER, context=context
            )
        server = smtplib.SMTP(self.host, self.port, local_hostname=self._domain, timeout=SECONDS_TO_ANSWER)
        if self.tls == "starttls":
            try:
                server.starttls(context=context)
            except BaseException:
                server.close()
                raise
        return server

    @property
    def _domain(self) -> str:
        return self.address.rpartition("@")[2]


def mail_of(limits: Limits, environment: Mapping[str, str]) -> Mail | None:
    """Return how the organiser gets e-mail, if that is set.

    Raises RecipeError where the environment lacks the account, or its password would go in the clear.
    """
    if not limits.mail_to:
        return None
    address, password = environment.get(ADDRESS_VARIABLE, ""), environment.get(PASSWORD_VARIABLE, "")
    if not is_address(address):
        seen = f"is '{address}'" if address else "is not set"
        hint = f"export {ADDRESS_VARIABLE}=competition@example.org, and {PASSWORD_VARIABLE} if the server asks for one"
        raise RecipeError(f"private/server.yaml has 'mail_to', and {ADDRESS_VARIABLE} {seen}", hint=hint)
    if password and limits.mail_tls == "never":
        hint = f"take out `mail_tls: never`, or unset {PASSWORD_VARIABLE}"
        raise RecipeError("with 'mail_tls: never' the password would go in the clear", hint=hint)
    host, _, port = limits.mail_server.partition(":")
    usual_port = SUBMISSION_BY_TLS if limits.mail_tls == "always" else SUBMISSION
    return Mail(host, int(port or usual_port), address, limits.mail_to, password, limits.mail_tls)


def is_address(text: str) -> bool:
    """Tell whether a text is one plain e-mail address: no name beside it, no second one, nothing a header ends at."""
    local, at, domain = text.rpartition("@")
    has_parts = bool(local) and bool(at) and bool(domain)
    is_plain = text.isascii() and text.isprintable() and not set(text) & set(' ,;:<>()[]"\\')
    return has_parts and is_plain and "@" not in local and len(text) <= 254


def _on_a_line(text: str) -> str:
    return " ".join(text.split())


def _why(error: Exception) -> str:
    """Quote a server or the network, which holds no password."""
    if isinstance(error, smtplib.SMTPResponseException):
        words = error.smtp_error
        said = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
        return f"{type(error).__name__}, {error.smtp_code} {_on_a_line(said)[:200]}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"it refuses {', '.join(sorted(error.recipients))}"
    return f"{type(error).__name__}: {_on_a_line(str(error))[:200]}"
