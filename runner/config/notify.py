"""The schema of `suite.notify`: who is told how a suite ended, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

CHANGE, ALWAYS = "change", "always"
WHEN = (CHANGE, ALWAYS)
CHATS = ("slack", "dingtalk", "feishu", "wecom")
STARTTLS, TLS, PLAIN = "starttls", "tls", "none"
SECURITY = (STARTTLS, TLS, PLAIN)
ADDRESS = re.compile(r"[^\s@,<>]+@[^\s@,<>]+")
SERVER = re.compile(r"[\w.-]+|\[[0-9a-fA-F:]+\]")


@dataclass
class EmailConfig:
    """An e-mail by SMTP. The environment variable SUITE_SMTP_PASSWORD has the password."""

    to: list[str] = field(default_factory=list)
    """Addresses of the receivers; none: no e-mail."""
    sender: str | None = None
    """Address of the sender; null: the first receiver."""
    server: str = "localhost"
    """Host name of the SMTP server."""
    port: int = 587
    """Port of the SMTP server."""
    security: str = STARTTLS
    """starttls, tls or none."""
    user: str | None = None
    """User name at the SMTP server; null: no login."""


@dataclass
class NotifyConfig:
    """Messages about the result of a suite."""

    when: str = CHANGE
    """change: if a receiver was last told other verdicts; always: after every night."""
    chats: dict[str, str] = field(default_factory=dict)
    """Variables with webhook addresses, for slack, dingtalk, feishu, wecom: {slack: MY_HOOK}."""
    email: EmailConfig = field(default_factory=EmailConfig)
    """An e-mail."""
    link: str | None = None
    """Address under which the suite's directory can be seen, for the link in the message."""

    @property
    def asked(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self.chats or self.email.to)


def problems(notify: NotifyConfig, environment: Mapping[str, str]) -> list[str]:
    """Return a line for each violated rule."""
    found = []
    if notify.when not in WHEN:
        found.append(f"suite.notify.when={notify.when}: must be one of {', '.join(WHEN)}")
    for chat, variable in notify.chats.items():
        where = f"suite.notify.chats.{chat}"
        if chat not in CHATS:
            found.append(f"{where}: must be one of {', '.join(CHATS)}")
        elif not re.fullmatch(r"[A-Za-z_]\w*", variable):
            found.append(
                f"{where}: must be the name of an environment variable with the webhook's address, "
                "which is a secret"
            )
        elif not environment.get(variable, "").startswith(("http://", "https://")):
            found.append(
                f"{where}={variable}: set the environment variable {variable} to the webhook's "
                "address, https://…"
            )
    email = notify.email
    for address in [*email.to, *([email.sender] if email.sender is not None else [])]:
        if not ADDRESS.fullmatch(address):
            found.append(f"suite.notify.email: {address}: is no address; write name@host")
    if email.security not in SECURITY:
        given = email.security
        found.append(f"suite.notify.email.security={given}: must be one of {', '.join(SECURITY)}")
    if not SERVER.fullmatch(email.server):
        found.append(
            f"suite.notify.email.server={email.server}: must be a host name; the port is "
            "suite.notify.email.port"
        )
    if not 0 < email.port < 65536:
        found.append(f"suite.notify.email.port={email.port}: must be between 1 and 65535")
    if notify.link is not None and not notify.link.startswith(("http://", "https://")):
        found.append(f"suite.notify.link={notify.link}: must begin with http:// or https://")
    return found
