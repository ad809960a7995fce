"""Secrets are masked; text that only sounds like one is not."""

from __future__ import annotations

import pytest

from ddqjobs.base import secrets
from ddqjobs.base.secrets import assigned, is_secret, masked, told

SECRETS = [
    ("HF_TOKEN=abc123 rest", "HF_TOKEN=*** rest"),
    ('{"password": "hunter2"}', '{"password": "***"}'),
    ("dict(api_key='abc', lr=1)", "dict(api_key='***', lr=1)"),
    ("https://bob:hunter2@host/x", "https://bob:***@host/x"),
    ("https://aaaabbbbccccdddd@host/x", "https://***@host/x"),
    ("--api-key hunter2 --lr 3", "--api-key *** --lr 3"),
    ("Authorization: Bearer abcdefgh.x", "Authorization: Bearer ***"),
    ("is ghp_abcdefghijklmnopqrst.", "is ***."),
    ("-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----", "***\n-----END PRIVATE KEY-----"),
]
HARMLESS = [
    "num_tokens: 900, pad_token=0",
    "loss_token: 0.53e-4",
    "tokens: [1, 2]",
    "secret=$HOME/x",
    "git@github.com:open-mmlab/mmdetection",
    "DDQJOBS_TOKEN=20260101-000000-0badcafe",
    "keys: name, title",
    "http://host:8080/path",
]


@pytest.mark.parametrize(("text", "expected"), SECRETS)
def test_a_secret_is_masked(text: str, expected: str) -> None:
    assert masked(text) == expected
    assert masked(expected) == expected


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_none_stays(text: str) -> None:
    assert masked(text) == text


def test_names_decide_as_words() -> None:
    names = "WANDB_API_KEY HF_TOKEN PGPASSWORD GITHUB_PAT AWS_ACCESS_KEY_ID MY_CREDENTIALS"
    assert all(is_secret(name, "x") for name in names.split())
    assert not any(is_secret(name, "x") for name in ["TOKENIZERS_PARALLELISM", "KEYBOARD", "MONKEY", "PATH"])
    assert is_secret("DATABASE", "postgres://me:word@host")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("export K=abc#d1", "abc#d1"),
        ("export K=abc#d1 # don't", "abc#d1"),
        ("K='a #b'#c;# it's", "a #b#c"),
        ('K="a\\"#b" true', 'a"#b'),
        (r"K=a\ #b", "a #b"),
        ("K=abc; X='goes on", "abc"),
        ("true # don't\nexport K=abc", "abc"),
    ],
)
def test_setup_lines_are_read_as_a_shell_reads_them(line: str, value: str) -> None:
    assert assigned([line, "# L=it", "true #M=x"]) == {"K": value}


def test_options_tell_their_values_but_for_placeholders() -> None:
    argv = ["x", "--token", "$tr0ng", "--password", "-x{{y", "--api-key", "a{env.KEY}", "--secret", "--fast"]
    assert told(argv) == {"--token": "$tr0ng", "--password": "-x{y"}


def test_values_that_begin_as_references_do_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", set())
    values = ["$tr0ng!pw", "{pw}more", "$HOME/x", "{env.D}"]
    secrets.remember({f"TOKEN_{i}": value for i, value in enumerate(values)})
    assert masked("$tr0ng!pw, {pw}more, {{pw}}more, $HOME/x, {env.D}") == "***, ***, ***, $HOME/x, {env.D}"
    monkeypatch.undo()
    secrets._pattern.cache_clear()
