"""A workspace's knowledge of its runs."""

from __future__ import annotations

from tests.support.trivial import EXPERIMENT, TrivialProject


def test_products_are_what_the_ledger_recorded(trivial: TrivialProject) -> None:
    trivial.submit_all()
    products = trivial.open().products(EXPERIMENT)
    assert {(name, *product.artifacts.items()) for name, product in products.items()} == {
        (name, ("out", "attempts/1/work_dir/out.txt")) for name in ("first", "second")
    }


def test_a_line_of_the_ledger_that_is_no_record_is_named_and_keeps_nobody_from_waiting(
    trivial: TrivialProject,
) -> None:
    trivial.local_site(submit_timeout="0s")  # the time for which a silent scheduler is waited for
    trivial.cli("submit", EXPERIMENT, "first")
    segment = next((trivial.results / "ledger").glob("*.jsonl"))
    number = segment.read_bytes().count(b"\n") + 1
    with segment.open("ab") as file:
        file.write(b'{"record":"of a newer version"}\n')
    message = f"{segment.name}:{number}: this version cannot read it as a record"
    waited = trivial.cli("submit", EXPERIMENT, "--wait")
    assert (waited.code, waited.stdout.count(message)) == (0, 1), waited
    assert trivial.executions() == {"first": 1, "second": 1}
    result = trivial.cli("status", EXPERIMENT)
    assert (result.code, result.stderr.count(message)) == (3, 1), result
