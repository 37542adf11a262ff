"""What comes from outside is printed as it is: rich would drop [words] and stumble over [/words]."""

from rich.console import Console

from deeplight_jax.reporting.bench_tables import sweep_table
from deeplight_jax.reporting.sweep_tables import members_table, status_table
from deeplight_jax.reporting.tables import prepared_table, rejected_table, results_table
from deeplight_jax.serving.rates import RateSweep
from deeplight_jax.sweeping.ledger import Status

EVIL = "[bold] [/no]"


def printed(table) -> str:
    console = Console(width=200)
    with console.capture() as told:
        console.print(table)
    return told.get()


def test_a_line_of_a_log_is_shown_as_it_is():
    bad = {"file": "[a].tsv", "line": 3, "reason": "a value is no number", "text": f"1\t{EVIL}"}
    rejected = {"total": 1, "by_reason": {"a value is no number": 1}, "first": [bad]}
    manifest = {"rows": {"train": 1}, "schema": [], "rejected": rejected}
    for text in (printed(rejected_table(rejected)), printed(prepared_table(manifest))):
        assert EVIL in text
        assert "[a].tsv:3" in text


def test_names_and_errors_are_shown_as_they_are():
    status = Status(1, [], {}, {"0a": f"refused {EVIL}"}, [], None)
    member = {"name": "0a", "state": "done", "data.dir": EVIL}
    tables = [
        results_table(f"runs/{EVIL}", {}),
        status_table(f"runs/{EVIL}", status),
        members_table(f"runs/{EVIL}", [member, {**member, "data.dir": "other"}]),
    ]
    assert [printed(table).count(EVIL) for table in tables] == [1, 2, 2]


def test_what_to_install_is_named_whole():
    assert "deeplight-jax[bench]" in printed(sweep_table(RateSweep([], None, None, None, None, None)))
