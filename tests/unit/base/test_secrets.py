"""What is masked, and what only sounds like a secret."""

from __future__ import annotations

import pytest

from ddqjobs.base.secrets import is_secret, masked

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


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_a_secret_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_none_stays(text: str) -> None:
    assert masked(text) == text


def test_names_decide_as_words() -> None:
    names = "WANDB_API_KEY HF_TOKEN PGPASSWORD GITHUB_PAT AWS_ACCESS_KEY_ID MY_CREDENTIALS"
    assert all(is_secret(name, "x") for name in names.split())
    assert not any(is_secret(name, "x") for name in ["TOKENIZERS_PARALLELISM", "KEYBOARD", "MONKEY", "PATH"])
    assert is_secret("DATABASE", "postgres://me:word@host")
