"""`data weights`: a server that is slow, cut, broken or lies; kills; two terminals; folders and mirrors."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.base import process
from tests.support.cli import Place, Ran, finish, opened
from tests.support.data import Served, Server, checkpoint, serving, sha256
from tests.support.trivial import until

DATA = checkpoint()
NAME = f"net-{sha256(DATA)[:8]}.pth"
EXPERIMENT = """
name: tiny
implementations: {only: the only one}
codes: {shell: {path: .}}
models: {big: {implementations: {only: {code: shell, checkpoint: released/big.pth}}}}
tasks:
  train: {kind: train, implementation: only, command: ["true"]}
  test: {kind: test, implementation: only, inputs: {checkpoint: released}, command: ["true"]}
weights:
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as http_server:
        yield http_server


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(
        tmp_path / "project", EXPERIMENT + "  none: {url: 'http://127.0.0.1:1/none.pth'}\n"
    ) as project:
        yield project


def declare(place: Place, *entries: str) -> None:
    place.text("experiments/tiny.yaml", EXPERIMENT + "".join(f"  {entry}\n" for entry in entries))


def target(place: Place, name: str = NAME) -> Path:
    return place.root / ".weights" / "hub" / "checkpoints" / name


def rows(ran: Ran) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in ran.json["weights"]}


def left(place: Place) -> list[str]:
    """Whatever lies beside the finished files."""
    folder = target(place).parent
    return (
        sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) if folder.is_dir() else []
    )


def bodies(place: Place) -> list[int]:
    return [path.stat().st_size for path in target(place).parent.glob(".*.part/body")]


def test_brought_checked_and_left_alone_the_second_time(place: Place, server: Server) -> None:
    server.files[f"/w/{NAME}"] = Served(DATA)
    declare(place, f"net: {{url: '{server.url}/w/{NAME}'}}")
    preview = place.invoke("data", "weights", "tiny", "--dry-run", "--json")
    assert (preview.code, rows(preview)["net"]["there"]) == (0, "missing")
    assert (server.asked, target(place).exists()) == ([], False)
    first = place.invoke("data", "weights", "tiny", "--json")
    assert (first.code, first.err) == (0, "")
    row = rows(first)["net"]
    assert (row["there"], row["sha256"], row["brought"]) == ("right", sha256(DATA), row["url"])
    assert (target(place).read_bytes(), left(place)) == (DATA, [])
    second = place.invoke("data", "weights", "tiny")
    assert (second.code, "right" in second.out, len(server.asked)) == (0, True, 1)
    # What was recorded is what `sha256sum -c` reads.
    recorded = place.root / "checksums" / f"{NAME}.sha256"
    done = process.run(["sha256sum", "-c", recorded], cwd=target(place).parent, timeout=60)
    assert (done.code, done.stdout) == (0, f"{NAME}: OK\n")


def test_a_login_in_a_url_reaches_its_server_and_nobody_else(place: Place, server: Server) -> None:
    server.files[f"/{NAME}"] = Served(DATA, cut=[100_000])
    url = f"http://ann:planted%20word@{server.url.removeprefix('http://')}/{NAME}"
    declare(place, f"net: {{url: '{url}'}}")
    cut = place.invoke("data", "weights", "tiny", "--tries", "1")
    content = b"".join(path.read_bytes() for path in target(place).parent.rglob("*") if path.is_file())
    ran = place.invoke("data", "weights", "tiny")
    assert (cut.code, ran.code, target(place).read_bytes() == DATA) == (1, 0, True)
    assert server.logins == ["Basic YW5uOnBsYW50ZWQgd29yZA=="] * 2
    assert "planted" not in cut.out + cut.err + ran.out + ran.err
    assert b"planted" not in content


def test_a_connection_that_is_cut_goes_on_where_it_ended(place: Place, server: Server) -> None:
    server.files[f"/{NAME}"] = Served(DATA, cut=[100_000, 50_000], status=[503])
    declare(place, f"net: {{url: '{server.url}/{NAME}'}}")
    ran = place.invoke("data", "weights", "tiny")
    assert (ran.code, target(place).read_bytes() == DATA, left(place)) == (0, True, [])
    assert [r for _, r in server.asked] == ["", "", "bytes=100000-", "bytes=150000-"]


def test_a_file_that_changed_meanwhile_starts_anew(place: Place, server: Server) -> None:
    old = Served(checkpoint(seed=1), cut=[100_000], ranges=True)
    server.files["/net.pth"] = old
    declare(place, f"net: {{url: '{server.url}/net.pth'}}")
    assert place.invoke("data", "weights", "tiny", "--tries", "1").code == 1
    assert bodies(place) == [100_000]
    server.files["/net.pth"] = Served(DATA)
    ran = place.invoke("data", "weights", "tiny")
    assert ran.code == 0
    assert target(place, "net.pth").read_bytes() == DATA
    assert [r for _, r in server.asked] == ["", "bytes=100000-"]


def test_a_server_without_ranges(place: Place, server: Server) -> None:
    server.files[f"/{NAME}"] = Served(DATA, cut=[100_000], ranges=False)
    declare(place, f"net: {{url: '{server.url}/{NAME}'}}")
    assert place.invoke("data", "weights", "tiny").code == 0
    assert target(place).read_bytes() == DATA


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (None, "the server answers 404 Not Found"),
        (Served(DATA, status=[403]), "the server answers 403 Forbidden"),
        (Served(DATA, status=[500] * 9), "the server answers 500 Internal Server Error, 1 times in a row"),
        (Served(checkpoint(seed=2)), f"SHA-256 is {sha256(checkpoint(seed=2))}, and should begin with"),
        (Served(DATA, cut=[0] * 9), "the connection was cut, 1 times in a row"),
    ],
    ids=["404", "403", "500", "wrong content", "cut at once"],
)
def test_what_goes_wrong_is_one_line(
    place: Place, server: Server, served: Served | None, message: str
) -> None:
    if served is not None:
        server.files[f"/{NAME}"] = served
    declare(place, f"net: {{url: '{server.url}/{NAME}'}}")
    ran = place.invoke("data", "weights", "tiny", "--tries", "1")
    assert ran.code == 1
    [line] = [text for text in ran.out.splitlines() if text.startswith("net: ")]
    assert message in line
    assert f"{server.url}/{NAME}" in line
    assert (target(place).exists(), left(place)) == (False, [])
    assert not (place.root / "checksums").exists()  # nothing is trusted that was refused


def test_no_network(place: Place) -> None:
    ran = place.invoke("data", "weights", "tiny", "--tries", "1", "--json")
    assert ran.code == 1
    assert rows(ran)["none"]["why"] == "http://127.0.0.1:1/none.pth: Connection refused, 1 times in a row"
    declare(place, "none: {url: 'http://no-such-host.invalid/none.pth'}")
    [why] = [
        r["why"] for r in rows(place.invoke("data", "weights", "tiny", "--tries", "1", "--json")).values()
    ]
    assert why.startswith("http://no-such-host.invalid/none.pth: ")
    assert "\n" not in why


def test_a_page_instead_of_a_checkpoint_is_never_trusted(place: Place, server: Server) -> None:
    server.files["/net.pth"] = Served(b"<html>please log in</html>")
    declare(place, f"net: {{url: '{server.url}/net.pth'}}")
    ran = place.invoke("data", "weights", "tiny", "--json")
    assert ran.code == 1
    assert "is no whole checkpoint" in rows(ran)["net"]["why"]
    assert (target(place, "net.pth").exists(), (place.root / "checksums").exists()) == (False, False)


def test_a_checkpoint_with_flipped_bits_is_never_trusted(place: Place, server: Server) -> None:
    """It has no checksum but those inside it."""
    middle = len(DATA) // 2
    server.files["/net.pth"] = Served(DATA[:middle] + bytes([DATA[middle] ^ 1]) + DATA[middle + 1 :])
    declare(place, f"net: {{url: '{server.url}/net.pth'}}")
    ran = place.invoke("data", "weights", "tiny", "--json")
    assert ran.code == 1
    assert "damaged: the checksum of archive/data.pkl is another one" in rows(ran)["net"]["why"]
    assert (target(place, "net.pth").exists(), (place.root / "checksums").exists()) == (False, False)


def test_an_unknown_checksum_is_recorded_and_holds_from_then_on(place: Place, server: Server) -> None:
    server.files["/net.pth"] = Served(DATA)
    declare(place, f"net: {{url: '{server.url}/net.pth'}}")
    assert "not known; recorded at first download" in place.invoke("data", "weights", "tiny", "--dry-run").out
    assert rows(place.invoke("data", "weights", "tiny", "--json"))["net"]["there"] == "right"
    file = target(place, "net.pth")
    file.write_bytes(checkpoint(seed=3))
    wrong = place.invoke("data", "weights", "tiny", "--json")
    assert (wrong.code, rows(wrong)["net"]["there"]) == (1, "wrong")
    assert f"and was {sha256(DATA)} the first time" in rows(wrong)["net"]["why"]
    assert file.read_bytes() == checkpoint(seed=3)  # the user's: told, not replaced
    file.unlink()
    server.files["/net.pth"] = Served(checkpoint(seed=3))
    again = place.invoke("data", "weights", "tiny", "--json")
    assert (again.code, file.exists()) == (1, False)


def test_a_checksum_file_that_is_none_is_told(place: Place, server: Server) -> None:
    declare(place, f"net: {{url: '{server.url}/net.pth'}}")
    place.text("checksums/net.pth.sha256", "what is this")
    ran = place.invoke("data", "weights", "tiny")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "checksums/net.pth.sha256: does not begin with a SHA-256" in ran.err


def test_by_hand_and_from_a_folder_and_from_a_mirror(place: Place, server: Server, tmp_path: Path) -> None:
    declare(place, "big: {path: released/big.pth, page: 'https://example.org/big', models: [big]}",
            f"net: {{url: 'http://127.0.0.1:1/{NAME}'}}")  # fmt: skip
    ran = place.invoke("data", "weights", "tiny", "--tries", "1")
    assert ran.code == 1
    assert f"bring it from https://example.org/big to {place.root}/released/big.pth" in ran.out
    usb = tmp_path / "usb"
    usb.mkdir()
    (usb / "big.pth").write_bytes(DATA)
    server.files[f"/mirror/{NAME}"] = Served(DATA)
    brought = place.invoke(
        "data", "weights", "tiny", "--from", str(usb), "--from", f"{server.url}/mirror/", "--json"
    )
    assert brought.code == 0, brought.out
    assert rows(brought)["big"]["brought"] == str(usb / "big.pth")
    assert rows(brought)["net"]["brought"] == f"{server.url}/mirror/{NAME}"
    assert (place.root / "released" / "big.pth").read_bytes() == DATA
    missing = place.invoke("data", "weights", "tiny", "--from", str(tmp_path / "nowhere"))
    assert (missing.code, missing.err.count("\n")) == (2, 1)


def test_a_dry_run_ends_as_the_command_would(place: Place, tmp_path: Path) -> None:
    declare(
        place,
        "big: {path: released/big.pth, page: 'https://example.org/big'}",
        "net: {url: 'http://127.0.0.1:1/net.pth'}",
    )

    def dry(*arguments: str) -> Ran:
        return place.invoke("data", "weights", "tiny", "--dry-run", *arguments)

    # Nobody can bring one of the two, and it says so; the other may well be there when it is asked for.
    by_hand = f"bring it from https://example.org/big to {place.root / 'released' / 'big.pth'}"
    preview = dry()
    assert preview.code == 1
    assert f"big: has no URL that a program may use: {by_hand}" in preview.out
    assert "net: would be brought from http://127.0.0.1:1/net.pth" in preview.out
    assert place.invoke("data", "weights", "tiny", "--tries", "1").code == 1
    weights = rows(dry("--json"))
    assert (by_hand in weights["big"]["why"], weights["net"]["why"]) == (True, "")
    # A folder without it changes nothing.
    usb = tmp_path / "usb"
    usb.mkdir()
    usb_preview = dry("--from", str(usb))
    assert usb_preview.code == 1
    assert f"big: is not in {usb}, and has no URL" in usb_preview.out
    # One that has it does: nothing is there yet, and nothing was done.
    (usb / "big.pth").write_bytes(DATA)
    would = dry("--from", str(usb))
    assert (would.code, f"big: would be brought from {usb}/big.pth" in would.out) == (0, True)
    assert not (place.root / "released").exists()
    # With a filter that leaves only what can be had.
    assert dry("--task", "train").code == 0


def test_filters_choose_what_the_runs_need(place: Place, server: Server) -> None:
    declare(place, "big: {path: released/big.pth}", f"net: {{url: '{server.url}/{NAME}', models: [big]}}")

    def names(*filters: str) -> list[str]:
        return list(rows(place.invoke("data", "weights", "tiny", *filters, "--dry-run", "--json")))

    assert names() == ["big", "net"]
    assert names("--task", "test") == ["big"]
    assert names("--task", "train") == ["net"]


def test_kill_9_in_the_middle_and_again(place: Place, server: Server) -> None:
    served = Served(DATA, hold=120_000)
    server.files[f"/{NAME}"] = served
    declare(place, f"net: {{url: '{server.url}/{NAME}'}}")
    child = place.spawn("data", "weights", "tiny")
    until(lambda: bodies(place) == [120_000])
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not target(place).exists()
    served.go.set()
    ran = place.invoke("data", "weights", "tiny")
    assert (ran.code, target(place).read_bytes() == DATA, left(place)) == (0, True, [])
    assert server.asked[-1] == (f"/{NAME}", "bytes=120000-")


def test_two_terminals_at_once(place: Place, server: Server) -> None:
    served = Served(DATA, hold=120_000)
    server.files["/net.pth"] = served
    declare(place, f"net: {{url: '{server.url}/net.pth'}}")
    children = [place.spawn("data", "weights", "tiny", "--json") for _ in range(2)]
    until(lambda: bodies(place) == [120_000, 120_000])
    served.go.set()
    assert [finish(child).code for child in children] == [0, 0]
    assert (target(place, "net.pth").read_bytes() == DATA, left(place)) == (True, [])
    assert (place.root / "checksums" / "net.pth.sha256").read_text() == f"{sha256(DATA)}  net.pth\n"


def test_what_two_killed_terminals_left_is_used_once_and_removed(place: Place, server: Server) -> None:
    served = Served(DATA, hold=120_000)
    server.files[f"/{NAME}"] = served
    declare(place, f"net: {{url: '{server.url}/{NAME}'}}")
    children = [place.spawn("data", "weights", "tiny") for _ in range(2)]
    until(lambda: bodies(place) == [120_000, 120_000])
    for child in children:
        child.kill()
        child.communicate()
    served.go.set()
    children = [place.spawn("data", "weights", "tiny") for _ in range(3)]
    assert [finish(child).code for child in children] == [0, 0, 0]
    assert place.invoke("data", "weights", "tiny").code == 0  # whoever comes last tidies up
    assert (target(place).read_bytes() == DATA, left(place)) == (True, [])


def test_a_disk_that_is_full(place: Place, server: Server, tmp_path: Path) -> None:
    server.files[f"/{NAME}"] = Served(DATA)
    declare(place, f"net: {{url: '{server.url}/{NAME}'}}")
    limit = (200_000, 200_000)
    child = place.spawn(
        "data", "weights", "tiny", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    ran = finish(child)
    assert (ran.code, target(place).exists()) == (1, False)
    assert "File too large; 200 kB that have come stay for the next time" in ran.out
    assert ran.out.count("net: ") == 1
    assert place.invoke("data", "weights", "tiny").code == 0
    assert server.asked[-1][1] == "bytes=200000-"
    assert target(place).read_bytes() == DATA


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small disk")
def test_a_disk_without_room_is_told_before_anything_comes(place: Place, server: Server) -> None:
    folder = target(place).parent
    folder.mkdir(parents=True)
    mounted = process.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", folder], timeout=30)
    if mounted.code:
        pytest.skip(mounted.stderr)
    try:
        server.files[f"/{NAME}"] = Served(DATA)
        declare(place, f"net: {{url: '{server.url}/{NAME}'}}")
        ran = place.invoke("data", "weights", "tiny")
        assert ran.code == 1
        assert (
            f"{folder}: 300 kB still to download, 98.3 kB free; make room there" in ran.out
        )  # a page is the folder's
        assert left(place) == []
    finally:
        assert process.run(["umount", folder], timeout=30).code == 0


def test_a_proxy_is_asked(place: Place, server: Server) -> None:
    url = f"http://weights.invalid/{NAME}"
    server.files[url] = Served(DATA)  # to a proxy one says the whole URL
    declare(place, f"net: {{url: '{url}'}}")
    child = place.spawn("data", "weights", "tiny", "--tries", "1")
    assert "weights.invalid" in finish(child).out
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("http_proxy", server.url)
        patch.delenv("no_proxy", raising=False)
        patch.delenv("NO_PROXY", raising=False)
        ran = place.call("data", "weights", "tiny", "--tries", "1")
    assert (ran.code, target(place).read_bytes() == DATA) == (0, True), ran
    assert server.asked == [(url, "")]


@pytest.mark.parametrize(
    ("entry", "line", "message"),
    [
        ("net: {}", 10, "name a url, or the path where runs look for them, or both"),
        ("net: {url: 'file:///etc/passwd'}", 10, "'file:///etc/passwd' is not an http(s) URL of a file"),
        ("net: {url: 'https://x/'}", 10, "'https://x/' is not an http(s) URL of a file"),
        ("net: {url: 'https://x/a.pth', models: [bigg]}", 10, "unknown model 'bigg'; did you mean 'big'?"),
        (
            "net: {url: 'https://x/a.pth', sha256: ABC}",
            10,
            "sha256 may not be 'ABC': a SHA-256 in lower case",
        ),
        ("net: {url: 'https://x/a.pth', hash: x}", 10, "unknown key 'hash' in weights.net"),
        (
            "net: {url: 'https://x/a.pth'}\n  two: {url: 'https://y/a.pth'}",
            11,
            "have files of the same name a.pth",
        ),
    ],
)
def test_a_wrong_declaration(place: Place, entry: str, line: int, message: str) -> None:
    declare(place, entry)
    ran = place.invoke("data", "weights", "tiny")
    assert (ran.code, ran.out) == (2, "")
    assert f"experiments/tiny.yaml:{line}: " in ran.err
    assert message in ran.err


def test_jobs_look_where_the_site_says(place: Place) -> None:
    def home(**keys: object) -> list[str]:
        place.write("templates/local/site.yaml", {"name": "local", "scheduler": "local", **keys})
        ran = place.invoke("submit", "tiny", "--task", "train", "--dry-run")
        assert ran.code == 0, ran
        return [line.strip() for line in ran.out.splitlines() if "TORCH_HOME" in line]

    assert home() == [f"export TORCH_HOME={place.root}/.weights"]
    assert home(weights="~/shared weights") == ["export TORCH_HOME=\"$HOME\"'/shared weights'"]
    assert home(variables={"TORCH_HOME": "/own"})[-1] == "export TORCH_HOME=/own"
    preview = place.invoke("data", "weights", "tiny", "--dry-run", "--json")
    assert rows(preview)["none"]["target"] == "/own/hub/checkpoints/none.pth"
    declare(place, "big: {path: released/big.pth}")
    assert home() == []  # nothing in torch's cache: nothing is said


def test_doctor_warns_of_what_runs_would_download(place: Place, server: Server) -> None:
    def line() -> tuple[str, str, str]:
        ran = place.invoke("doctor", "tiny", "--task", "train", "--no-job", "--json")
        [entry] = [x for x in ran.json["lines"] if x["what"] == "weights"]
        return entry["level"], entry["found"], entry.get("remedy", "")

    server.files[f"/{NAME}"] = Served(DATA)
    declare(place, f"net: {{url: '{server.url}/{NAME}'}}")
    level, finding, remedy = line()
    assert (level, finding) == ("warning", f"{NAME}: not here, so a run downloads them at its start")
    assert remedy.startswith("ddqjobs data weights tiny")
    assert place.invoke("data", "weights", "tiny").code == 0
    assert line() == ("ok", "all 1 that runs read are here", "")


def test_none_declared_is_told(place: Place) -> None:
    place.text("experiments/tiny.yaml", EXPERIMENT.replace("weights:\n", ""))
    ran = place.invoke("data", "weights", "tiny")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "declares no weights" in ran.err
