"""Notifications as site and user files declare them: who is told, by which way, of which events."""

from __future__ import annotations

from typing import Literal

from ddqjobs.spec.table import Duration, Name, Table, Variable

Kind = Literal["end", "failure", "diverged", "stuck", "verdict"]
KINDS: tuple[Kind, ...] = ("end", "failure", "diverged", "stuck", "verdict")
Way = Literal["command", "webhook", "slack", "feishu", "dingtalk", "ntfy", "mail"]


class Secret(Table, frozen=True, kw_only=True):
    """The place of a secret: a variable or a file, one of the two."""

    variable: Variable | Literal[""] = ""
    """Environment variable that holds it, where ddqjobs is called. Example: SLACK_URL"""
    file: str = ""
    """File that holds it, yours alone (mode 0600); `~` and `$VARIABLES` are allowed. Example:
    ~/.config/ddqjobs/slack"""

    def __str__(self) -> str:
        return f"${self.variable}" if self.variable else self.file


class Channel(Table, frozen=True, kw_only=True):
    """One way of telling somebody."""

    by: Way
    """How it is sent; `feishu` is Lark too, `webhook` posts the whole event as JSON. Example: slack"""
    events: list[Kind] = []
    """Events that are sent; empty, all: a matrix ended, a first failure, a training that diverged, a run
    that hung, verdicts that changed. Example: [end, failure]"""
    command: list[str] = []
    """Command of `by: command`; it finds the event in `$DDQJOBS_EXPERIMENT`, `$DDQJOBS_TITLE`,
    `$DDQJOBS_TEXT`, `$DDQJOBS_ID`, and as JSON on its input. Example: [sh, -c, 'notify-send
    "$DDQJOBS_TITLE"']"""
    url: Secret | None = None
    """Where the address lies that is posted to; of ntfy, with its topic. Example: {variable: SLACK_URL}"""
    token: Secret | None = None
    """Where the access token lies that ntfy or a webhook asks for. Example: {file:
    ~/.config/ddqjobs/ntfy-token}"""
    sign: Secret | None = None
    """Where the signing secret of a Feishu or DingTalk robot lies. Example: {variable: DINGTALK_SECRET}"""
    server: str = ""
    """Mail server, with its port. Example: smtp.example.org:587"""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """How the mail server is spoken to. Example: tls"""
    user: str = ""
    """User at the mail server; empty, it asks for none. Example: alice"""
    password: Secret | None = None
    """Where the password at the mail server lies. Example: {file: ~/.config/ddqjobs/mail}"""
    sender: str = ""
    """Mail address that it comes from. Example: alice@example.org"""
    to: list[str] = []
    """Mail addresses that it goes to. Example: [alice@example.org]"""
    timeout: Duration = "10s"
    """How long one attempt to send may take. Example: 10s"""

    def wants(self, kind: str) -> bool:
        """Return whether events of this kind are sent."""
        return not self.events or kind in self.events


class User(Table, frozen=True, kw_only=True):
    """A whole user file, ``~/.config/ddqjobs/config.yaml``: what holds for you alone, in every project."""

    notify: dict[Name, Channel] = {}
    """Who is told of what you wait for, beside those whom a site names. Example: {phone: {by: ntfy, url:
    {file: ~/.config/ddqjobs/ntfy}}}"""
