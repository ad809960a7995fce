"""pip's settings in uv's words, and uv's complaints in ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.base.process import Completed
from ddqjobs.environments.uv import from_pip, lacking, parse_pip_config, pip_settings, uv_environment


def test_settings_in_uv_s_words(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "ca.pem").touch()
    variables = from_pip(
        {
            "find-links": f"{tmp_path}/wheels\n{tmp_path}/nowhere https://example.org/wheels",
            "index-url": "https://example.org/simple",
            "extra-index-url": f"file://{tmp_path}/wheels file://{tmp_path}/nowhere https://example.org/b",
            "trusted-host": "example.org",
            "default-timeout": "180",
            "cert": f"{tmp_path}/ca.pem",
            "proxy": "http://proxy:3128",
            "no-index": "true",
        }
    )
    assert variables == {
        "UV_FIND_LINKS": f"{tmp_path}/wheels,https://example.org/wheels",
        "UV_DEFAULT_INDEX": "https://example.org/simple",
        "UV_INDEX": f"file://{tmp_path}/wheels https://example.org/b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "example.org",
        "UV_HTTP_TIMEOUT": "180",
        "UV_NO_INDEX": "true",
        "SSL_CERT_FILE": f"{tmp_path}/ca.pem",
        "HTTP_PROXY": "http://proxy:3128",
        "HTTPS_PROXY": "http://proxy:3128",
    }


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    assert from_pip({"find-links": missing, "extra-index-url": f"file://{missing}", "cert": missing}) == {}
    assert from_pip({}) == {}


def test_the_user_s_own_uv_settings_win_and_our_interpreter_s_stay_out(tmp_path: Path) -> None:
    environ = {"UV_FIND_LINKS": "mine", "PATH": "/bin", "VIRTUAL_ENV": "/x", "PYTHONPATH": "/y"}
    variables = uv_environment(tmp_path, environ, {"find-links": str(tmp_path)})
    assert variables["UV_FIND_LINKS"] == "mine"
    assert variables["UV_CACHE_DIR"] == str(tmp_path / ".uv-cache")
    assert variables["PATH"] == "/bin"
    assert not {"VIRTUAL_ENV", "PYTHONPATH"} & variables.keys()


def test_pip_config() -> None:
    text = (
        "global.index-url='https://a'\n"
        "global.find-links='x\\ny'\n"
        "global.cert=not quoted\n"
        "install.index-url='https://b'\n"
        "download.index-url='https://never'\n"
        ":env:.find-links='z'\n"
        "nonsense\n"
    )
    assert parse_pip_config(text) == {"index-url": "https://b", "find-links": "z", "cert": "not quoted"}


def test_pip_is_asked_here_then_on_path_then_its_variables_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs: list[str] = []
    answers = {sys.executable: 1, str(tmp_path / "pip"): 0}

    def run(argv: list[str], **_: object) -> Completed:
        programs.append(argv[0])
        return Completed(tuple(argv), answers[argv[0]], "global.cert='/c'\n", "No module named pip")

    monkeypatch.setattr(process, "run", run)
    environ = {"PATH": str(tmp_path), "PIP_FIND_LINKS": "w", "PIP_EXTRA_INDEX_URL": "https://e", "PIP_X": ""}
    assert pip_settings(environ) == {"find-links": "w", "extra-index-url": "https://e"}
    (tmp_path / "pip").touch(mode=0o755)
    assert pip_settings(environ) == {"cert": "/c"}
    answers[sys.executable] = 0
    programs.clear()
    assert pip_settings(environ) == {"cert": "/c"}
    assert programs == [sys.executable]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "error: No solution found\n  cause: Because there is no version of\n torch==1+cpu and",
            "torch==1+cpu",
        ),
        ("error: No solution found\n  cause: Because tinypkg was not found in the registry", "tinypkg"),
        ("error: No solution found when resolving dependencies\n  cause: whatever", "a package"),
        ("error sending request for url (https://x): dns error", ""),
    ],
)
def test_what_no_index_has(output: str, expected: str) -> None:
    assert lacking(output) == expected
