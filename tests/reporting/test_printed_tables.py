"""What comes from outside is printed as it is: rich would drop [words] and stumble over [/words]."""

from rich.console import Console

from deeplight_jax.reporting.bench_tables import sweep_table
from deeplight_jax.reporting.sweep_tables import MembersTable, status_table
from deeplight_jax.reporting.tables import prepared_table, rejected_table, results_table
from deeplight_jax.serving.rates import RateSweep
from deeplight_jax.sweeping.ledger import Status

EVIL = "[bold] [/no]"


def printed(table, width=200) -> str:
    console = Console(width=width)
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
        MembersTable(f"runs/{EVIL}", [member, {**member, "data.dir": "other"}]),
    ]
    assert [printed(table).count(EVIL) for table in tables] == [1, 2, 2]


def test_what_to_install_is_named_whole():
    assert "deeplight-jax[bench]" in printed(sweep_table(RateSweep([], None, None, None, None, None)))


def test_a_table_of_members_leaves_figures_out_rather_than_cut_them():
    figures = {"valid_roc_auc": 0.80123, "valid_log_loss": 0.4412, "params_nonzero": 10_325_123}
    figures |= {"engine_bytes": 108_788_123, "p50_us": 123.45, "seconds": 12345.6}
    members = [
        {"name": f"{i}" * 16, "state": "done", "sparsity.field_matrix": i / 10, **figures} for i in (7, 8)
    ]
    whole, narrow, folded = (printed(MembersTable("t", members, "8" * 16), width) for width in (120, 60, 24))
    for text in (whole, narrow):
        assert "7" * 16 in text
        assert "8" * 16 + " *" in text
    for text in (whole, narrow, folded):
        assert "…" not in text
        assert "0.8012" in text
    assert all(figure in whole for figure in ("0.4412", "10,325,123", "108,788,123", "123.45", "12345.6"))
    assert "no room" not in whole
    assert "no room for seconds, non-zero parameters" in " ".join(narrow.split())
    assert "108,788,123" in narrow
    assert "10,325,123" not in narrow
