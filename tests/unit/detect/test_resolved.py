"""Two attempts of one run are compared by the configurations that they ran with."""

from __future__ import annotations

import json
from pathlib import Path

from ddqjobs.detect.checks import resolved


def attempt(folder: Path, number: int, digest: str, cfg: dict[str, object]) -> None:
    place = folder / str(number)
    place.mkdir()
    (place / "run.json").write_text(json.dumps({"digest": digest}))
    (place / resolved.NAME).write_text(json.dumps(cfg))


def test_what_differs_by_nature_is_taken_out() -> None:
    def of(work_dir: str, data: str) -> dict[str, object]:
        cfg = {
            "work_dir": work_dir,
            "resume": work_dir == "/r/2",
            "launcher": "none",
            "out": f"{work_dir}/results",
            "data": (f"{data}/train", {"b", "a"}),
            "kind": Path,
        }
        return resolved.plain(cfg, {"DDQJOBS_WORK_DIR": work_dir, "DDQJOBS_INPUT_DATA": data})

    one = of("/r/1", "/shared/data")
    assert one == of("/r/2", "/node/copy")
    assert one == {
        "out": "$DDQJOBS_WORK_DIR/results",
        "data": ["$DDQJOBS_INPUT_DATA/train", ["a", "b"]],
        "kind": f"{Path.__module__}.Path",
    }
    json.dumps(one)


def test_a_secret_is_recorded_as_a_mark_that_still_compares(tmp_path: Path) -> None:
    def cfg(word: str) -> dict[str, object]:
        return {
            "tracker": {"api_key": word, "login": [{"user": word}], "tokens": [word]},
            "weights": f"https://ann:{word}@host/r50.pth",
            "note": f"for {word}",
            "hub": f"hf_{word * 2}",
        }

    def of(word: str) -> dict[str, object]:
        return resolved.plain(cfg(word), {"TRACKER_KEY": word})

    recorded = of("planted-1-aB")
    assert "planted" not in json.dumps({**recorded, "tracker": recorded["tracker"]})
    assert resolved.first_differences(recorded, of("planted-1-aB")) == ()
    other = resolved.plain(cfg("planted-2-aB"), {})
    assert {line.partition(":")[0] for line in resolved.differences(recorded, other)} >= {
        "tracker.api_key", "tracker.tokens.0", "weights", "hub",
    }  # fmt: skip
    plainly = {"api_key": "planted-1-aB", "url": "https://ann:planted-1-aB@host"}  # by an earlier version
    assert resolved.first_differences(plainly, resolved.plain(plainly, {})) == ()


def test_headers_and_numbers_below_secret_keys_are_marked() -> None:
    cfg = {
        "Authorization": "Bearer abcdefgh",
        "Cookie": "a=b",
        "password": 12345678,
        "credentials": {"pin": 1234, "on": True, "user": None},
        "key_dim": 8,
    }
    recorded = resolved.plain(cfg, {})
    marks = (
        recorded["Authorization"],
        recorded["Cookie"],
        recorded["password"],
        recorded["credentials"]["pin"],
    )
    assert [mark[:7] for mark in marks] == ["secret:"] * 4
    assert recorded["credentials"] == {"pin": marks[3], "on": True, "user": None}
    assert recorded["key_dim"] == 8
    assert resolved.first_differences(cfg, recorded) == ()  # by an earlier version


def test_differences_show_no_secret_of_a_configuration_without_marks() -> None:
    def cfg(host: str) -> dict[str, object]:
        return {
            "u": f"https://me:hunter2@{host}/a",
            "hooks": [{"u": f"https://me:hunter2@{host}"}] * len(host),
        }

    places = resolved.first_differences(cfg("h"), cfg("ho"))
    assert len(places) == 2
    assert "hunter2" not in str(places)
    assert "@ho/a" in places[1]


def test_a_number_of_another_type_is_a_difference() -> None:
    others = ({"a": 1.0}, {"a": True})
    assert [resolved.first_differences({"a": 1}, other) for other in others] == [
        ("a: 1 against 1.0",),
        ("a: 1 against true",),
    ]


def test_attempts_of_one_digest_are_compared(tmp_path: Path) -> None:
    attempt(tmp_path, 1, "other", {"lr": 3})
    attempt(tmp_path, 2, "same", {"lr": 1, "nan": float("nan"), "a": {"b": [1, 2]}})
    assert resolved.compare(tmp_path, "same") == ()
    attempt(tmp_path, 3, "same", {"lr": 1, "nan": float("nan"), "a": {"b": [1, 2]}})
    assert resolved.compare(tmp_path, "same") == ()
    attempt(tmp_path, 4, "same", {"lr": 2, "nan": float("nan"), "a": {"b": [1, 3]}, "new": "x"})
    assert resolved.compare(tmp_path, "same") == (
        "a.b.1: 2 against 3",
        "lr: 1 against 2",
        "new: nothing against x",
    )
    (tmp_path / "4" / resolved.NAME).write_text("{")
    assert resolved.compare(tmp_path, "same") == ()


def test_of_what_sounds_secret_no_value_is_told() -> None:
    def cfg(word: str) -> dict[str, object]:
        named = {
            "token": [word],
            "db-password": word,
            "passwd": word,
            "WANDB_KEY": word,
            "wandb": {"apikey": word},
        }
        return {**named, "custom_keys": word}

    places = "WANDB_KEY", "custom_keys: one against two", "db-password", "passwd", "token.0", "and 1 more"
    assert resolved.first_differences(cfg("one"), cfg("two")) == places
    differences = ('hooks: [] against [{"api_key": "...", "host": "h"}]',)
    assert (
        resolved.first_differences({"hooks": []}, {"hooks": [{"api_key": "s3", "host": "h"}]}) == differences
    )


def test_many_differences_are_counted(tmp_path: Path) -> None:
    attempt(tmp_path, 1, "d", {str(n): 0 for n in range(9)})
    attempt(tmp_path, 2, "d", {str(n): 1 for n in range(9)})
    assert resolved.compare(tmp_path, "d")[-1] == "and 4 more"


def test_configurations_are_kept_by_the_digest_of_their_run(tmp_path: Path) -> None:
    attempt(tmp_path, 1, "d", {"lr": 1, "b": 2})
    attempt(tmp_path, 2, "d", {"b": 2, "lr": 1})
    attempt(tmp_path, 3, "d", {"lr": 2, "b": 2})
    attempt(tmp_path, 4, "e", {"lr": 2, "b": 2})
    folder = tmp_path / resolved.ALL
    attempts = {"1": "d", "2": "d", "3": "d", "4": "e"}
    digests = [resolved.keep(folder, d, tmp_path / n / resolved.NAME) for n, d in attempts.items()]
    assert digests[0] == digests[1] != digests[2] == digests[3]
    names = {resolved.name("d", digests[0]), resolved.name("d", digests[2]), resolved.name("e", digests[3])}
    assert {path.name for path in folder.iterdir()} == names
    assert resolved.keep(folder, "d", tmp_path / "5" / resolved.NAME) == ""
