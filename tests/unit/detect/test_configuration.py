"""Configurations and options that cannot be read: one line, before anything is begun. Needs mmcv."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmcv")

from ddqjobs.detect import runtime
from tests.support import processor
from tests.support.paths import ROOT

TEXT = """
model = dict(type="Detector", necks=[dict(channels=1)])
loader = dict(batch_size=2)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.py"
    path.write_text(TEXT)
    return path


def test_options_that_fit(config: Path) -> None:
    options = ["model.necks.0.channels=3", "loader.size=(1,[2,3])", "name=a=b"]
    cfg = runtime.load_config(str(config), options)
    assert cfg.model.necks[0].channels == 3
    assert list(cfg.loader["size"]) == [1, [2, 3]]
    assert cfg.name == "a=b"


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("max_epochs", "expected key=value"),
        ("=3", "expected key=value"),
        ("size=[1,2", "a value is a number, a word, or a list"),
        ("size=[{'a':1,'b':2},{'a':3}]", "a value is a number, a word, or a list"),
        ("loader={'size':2}", "set each key of a dict by an option of its own"),
        ("loader=dict(size=2)", "set each key of a dict by an option of its own"),
        ("model.necks.1.channels=2", "Index 1 exceeds the length of list"),
        ("model.necks.channels=2", "list indices must be integers"),
        (
            "loader.batch_size.train=4",
            "batch_size is a dict in the child config but is of type <class 'int'>",
        ),
    ],
)
def test_options_that_do_not(config: Path, option: str, why: str) -> None:
    with pytest.raises(runtime.CannotLoad) as error:
        runtime.load_config(str(config), ["fine=1", option])
    text = str(error.value)
    assert text.startswith(f"option {option!r}")
    assert why in text
    assert "\n" not in text


def test_a_configuration_that_is_no_python(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("a = 1\nb = 3 4\n")
    above = tmp_path / "above.py"
    above.write_text('_base_ = ["./base.py"]\n')
    with pytest.raises(runtime.CannotLoad, match=r"above.py, or a configuration that it builds on, line 2: "):
        runtime.load_config(str(above))


def test_nothing_is_begun(config: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "ddqjobs.detect.train", str(config), "--work-dir", str(tmp_path / "work")]
    done = subprocess.run(
        [*argv, "--cfg-options", "max_epochs"],
        env=processor.variables(processor.ON_THE_CPU, ROOT),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "train: option 'max_epochs': expected key=value"
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "work").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_run_s_own_configuration_gets_the_hook_and_keeps_all_else(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = "custom_imports = dict(imports=['json'])\ncustom_hooks = [dict(type='Other')]\n"
    monkeypatch.setenv("DDQJOBS_CONFIG", str(config))
    around = str(ROOT / "experiments" / "configs" / "ddq" / "resume.py")
    for text, imports, hooks in [(TEXT, [], []), (TEXT + more, ["json"], ["Other"])]:
        config.write_text(text)
        cfg = runtime.load_config(around)
        assert cfg.custom_imports.imports == [*imports, "ddqjobs.detect.hooks.resume"]
        assert [hook.type for hook in cfg.custom_hooks] == [*hooks, "ResumeHook"]
        assert cfg.model == runtime.load_config(str(config)).model
        assert not {"os", "_base_"} & set(cfg)
