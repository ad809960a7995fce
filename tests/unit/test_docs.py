"""The documentation says each thing once, and its links lead somewhere."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from ddqjobs.cli.commands import COMMANDS, load
from ddqjobs.cli.docs import lines
from ddqjobs.detect.compare import mappings
from tests.support import markdown
from tests.support.cli import Place, opened
from tests.support.markdown import PAGES, reference
from tests.support.paths import ROOT

DOCS = ROOT / "docs"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        yield project


def twice(names: list[str]) -> list[str]:
    return [word for word, count in Counter(names).items() if count > 1]


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.stem)
def test_no_section_is_there_twice(path: Path) -> None:
    assert twice(re.findall(r"^## .+$", path.read_text(), re.M)) == []


def test_the_picture_of_the_packages_is_that_of_the_import_contracts() -> None:
    text = (DOCS / "explanation/design.md").read_text()
    picture = text.partition("```mermaid")[2].partition("```")[0]
    arrows = re.findall(r"^  (\w+) --> (\w+)$", picture, re.M)
    layers = re.findall(
        r'"(\w+)"', (ROOT / "pyproject.toml").read_text().partition("\nlayers = [")[2].partition("]")[0]
    )
    assert len(layers) == 14
    assert arrows == list(itertools.pairwise(layers))


def test_the_modules_that_the_design_names_are_there() -> None:
    section = (DOCS / "explanation/design.md").read_text().partition("## Modules")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)/` \|.*\|(.*)\|$", section, re.M)
    named = [
        f"{package}/{name}"
        for package, description in rows
        for name in re.findall(r"`([\w.]+(?:\.py|/))`", description)
    ]
    answers = section.partition("| question |")[2]
    named += re.findall(r"`((?:\w+/)+\w+\.py)`", answers)
    assert len(named) > 50
    assert [path for path in named if not (ROOT / "ddqjobs" / path).exists()] == []


def test_the_tests_that_the_promises_name_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (DOCS / "explanation/promises.md").read_text())
    assert len(named) > 40
    gone = [(path, name) for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert gone == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    dead = []
    for target in markdown.links(page):
        name, _, anchor = target.partition("#")
        place = (page.parent / name) if name else page
        if not place.exists() or (anchor and anchor not in markdown.anchors(place)):
            dead.append(target)
    assert dead == []
    if DOCS in page.parents:  # the site and the wheel have nothing else
        assert [target for target in markdown.links(page) if not inside(page.parent, target)] == []


def inside(folder: Path, target: str) -> bool:
    """Return whether a link leads to a place within the documentation."""
    return (folder / target.partition("#")[0]).resolve().is_relative_to(DOCS)


def test_the_index_has_every_page() -> None:
    named = {(DOCS / link.partition("#")[0]).resolve() for link in markdown.links(DOCS / "README.md")}
    pages = {page for page in DOCS.rglob("*.md") if page.parent.name != "decisions"}
    assert {str(page.relative_to(DOCS)) for page in pages - named} == {"README.md"}


def test_the_command_lists_and_shows_the_pages(place: Place) -> None:
    listed = place.call("docs")
    assert {line.split()[0] for line in listed.out.splitlines()} == {
        str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")
    }
    assert place.call("docs", "verdicts").out == (DOCS / "explanation/verdicts.md").read_text()
    assert "there is no page verdict; did you mean 'verdicts'" in place.call("docs", "verdict").err


@pytest.mark.parametrize(
    "link",
    ["data.md", "how-to/data", "how-to/data.md", "../how-to/data.md", "../../docs/how-to/data.md", "./data"],
)
def test_the_command_takes_links_as_the_pages_have_them(place: Place, link: str) -> None:
    assert place.call("docs", link).out == (DOCS / "how-to/data.md").read_text()


def test_a_link_with_an_anchor_shows_from_that_heading_on(place: Place) -> None:
    text = (DOCS / "how-to/operations.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    for heading in headings:
        shown = place.call("docs", f"../how-to/operations.md#{markdown.slug(heading[3:])}")
        assert (shown.code, shown.out) == (0, text[text.index(f"\n{heading}\n") + 1 :])
    wrong = place.call("docs", f"operations#{markdown.slug(headings[0][3:])}s")
    assert wrong.code == 2
    assert f"did you mean '{markdown.slug(headings[0][3:])}'" in wrong.err


def test_the_command_finds_the_headings_that_links_may_name() -> None:
    for page in sorted(DOCS.rglob("*.md")):
        assert {anchor for anchor, _ in lines(page)} - {""} == markdown.anchors(page), page


def test_a_search_names_page_heading_and_line(place: Place) -> None:
    found = place.call("docs", "--search", "IDEMPOTENCY-key")
    assert found.code == 0
    assert re.fullmatch(r"how-to/notifications#what-is-promised: \.\.\..*Idempotency-Key.*\n", found.out)
    link = found.out.partition(": ")[0]
    assert place.call("docs", link).out.startswith("## What is promised\n")
    assert place.call("docs", "data", "--search", "Idempotency-Key").code == 1
    absent = "a-word-of-no" + "-page"
    missing = place.call("docs", "--search", absent)
    assert (missing.code, missing.out) == (1, "")
    assert f"no page contains '{absent}'" in missing.err


def test_a_search_finds_words_across_the_lines_of_a_paragraph(place: Place) -> None:
    key = place.call("docs", "--search", "limits.calls_per_minute")
    see = "for this key of site files see `ddqjobs schema site limits.calls_per_minute`\n"
    why = "error: no page contains 'limits.calls_per_minute'; "
    assert (key.code, key.out, key.err) == (1, "", why + see)
    key = place.call("docs", "--search", "calls_per_minute")
    assert (key.code, key.err) == (0, see.replace("limits.", ""))
    found = place.call("docs", "--search", "fixes refuses environment names").out
    assert found.startswith("how-to/environments#environments: ")
    linked = place.call("docs", "[when it is worth it](../how-to/operations.md#canary)").out
    assert linked.startswith("## Canary\n")


def refusal(argv: list[str]) -> str:
    """Return why the command line does not take these words; empty if it does."""
    name, *arguments = argv[1:] or ["--help"]
    if name.startswith("-"):
        return ""
    if name not in COMMANDS:
        return f"no command {name}"
    command, context = load(name), None
    try:
        while True:
            context = command.make_context(name, arguments, parent=context)
            if not hasattr(command, "resolve_command"):
                return ""
            name, command, arguments = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
    except typer.Exit:
        return ""
    except Exception as error:
        return str(error) or type(error).__name__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_command_line_takes_every_command_of_a_page(page: Path) -> None:
    refused = {" ".join(argv): refusal(argv) for argv in markdown.commands(page)}
    assert {line: why for line, why in refused.items() if why} == {}


def test_each_reason_not_to_run_a_line_is_that_of_a_line() -> None:
    """`tools/run_docs.py` runs them; `make test-long` calls it."""
    walk = markdown.tool("run_docs")
    shells = ("", "bash", "sh", "console")
    lines = [
        f"{page.relative_to(ROOT)}: {line}"
        for page in walk.pages()
        for language, text in markdown.blocks(page)
        if language in shells
        for line in walk.lines(text)
    ]
    assert [pattern for pattern in walk.REASONS if not any(re.search(pattern, line) for line in lines)] == []


@pytest.mark.parametrize("name", ["README", "docs/how-to/first-day-slurm", "docs/how-to/first-day-donau"])
def test_both_languages_have_the_same_commands(name: str) -> None:
    english, chinese = (ROOT / f"{name}{ending}" for ending in (".md", ".zh-CN.md"))
    assert lines_of_code(english) == lines_of_code(chinese) != []


def test_the_page_of_commands_is_their_help() -> None:
    page = (DOCS / "reference/commands.md").read_text(encoding="utf-8")
    assert page == reference().commands(), "run tools/reference.py"


def lines_of_code(page: Path) -> list[str]:
    """Return the lines of a page's blocks of code, explanations beside commands left out."""
    return [
        re.split(r"  +", line)[0] if line.startswith("ddqjobs ") else line
        for _, text in markdown.blocks(page)
        for line in text.splitlines()
    ]


# Weights of DETR and Deformable DETR: mmdet 2.28.2 below bbox_head.transformer, and mmdet 3.3.0.
RENAMED = {
    "level_embeds": "level_embed",
    "encoder.layers.0.attentions.0.attn.in_proj_bias": "encoder.layers.0.self_attn.attn.in_proj_bias",
    "decoder.layers.5.attentions.0.attn.in_proj_bias": "decoder.layers.5.self_attn.attn.in_proj_bias",
    "decoder.layers.5.attentions.1.value_proj.bias": "decoder.layers.5.cross_attn.value_proj.bias",
    "encoder.layers.0.ffns.0.layers.0.0.weight": "encoder.layers.0.ffn.layers.0.0.weight",
    "decoder.layers.0.norms.2.weight": "decoder.layers.0.norms.2.weight",
    "decoder.post_norm.bias": "decoder.post_norm.bias",
    "reference_points.weight": "reference_points_fc.weight",
    "pos_trans.bias": "pos_trans_fc.bias",
    "pos_trans_norm.bias": "pos_trans_norm.bias",
    "enc_output.weight": "memory_trans_fc.weight",
    "enc_output_norm.weight": "memory_trans_norm.weight",
}


def test_the_experiments_of_the_tutorial_are_valid(place: Place) -> None:
    page = DOCS / "tutorial/your-own-paper.md"
    experiments = [text for language, text in markdown.blocks(page) if language == "yaml"]
    for text in experiments:
        name = re.findall(r"^name: (.+)$", text, re.M)[0]
        (place.root / f"experiments/{name}.yaml").write_text(text)
        assert place.call("plan", name).code == 0
    assert len(experiments) == 7


def test_the_rules_for_weights_whose_names_changed_rename_them() -> None:
    blocks = markdown.blocks(DOCS / "how-to/data.md")
    program = next(text for language, text in blocks if language == "python" and "MAPPINGS" in text)
    known = dict(mappings.MAPPINGS)
    exec(program.replace("sys.exit(convert.main())", ""), {})
    rules = mappings.MAPPINGS.pop("mine")
    assert known == mappings.MAPPINGS
    old = "bbox_head.transformer."
    assert {key: rules(old + key) for key in RENAMED} == RENAMED
    assert rules("bbox_head.input_proj.bias") == "neck.convs.0.conv.bias"
    assert rules("bbox_head.query_embedding.weight") == "query_embedding.weight"
    assert rules("bbox_head.cls_branches.0.bias") == "bbox_head.cls_branches.0.bias"
