"""Hashed fields against an oracle of Python integers: hash, ids, estimates, and what `prepare` writes."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplight_jax.cli import main
from deeplight_jax.data import rawlines
from deeplight_jax.data.encode import prepare
from deeplight_jax.data.hashing import Distinct, Hashed, hash64, parse_hashed, sharing
from deeplight_jax.data.prepared import open_prepared, read_vocabulary
from deeplight_jax.data.recipes import Recipe
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.data.tabular import csv_recipe
from deeplight_jax.data.vocabulary import group_by_width
from deeplight_jax.errors import DataError

RECIPE = Recipe(
    name="small",
    columns=("label", "n1", "c1", "c2", "c3"),
    label="label",
    numeric_columns=("n1",),
    min_count=2,
    test_fraction=0.2,
    delimiter="\t",
    hash_buckets=("c3=11:qr", "c1=50"),
)
M = 2**64 - 1


def oracle_hash(value: bytes) -> int:
    """The documented formula, in Python's integers."""
    h = 0
    words = [value[i : i + 8].ljust(8, b"\0") for i in range(0, max(1, len(value)), 8)]
    for word in words:
        h = ((h ^ int.from_bytes(word, "big")) + 0x9E3779B97F4A7C15) & M
        h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & M
        h = (h ^ (h >> 27)) * 0x94D049BB133111EB & M
        h ^= h >> 31
    return h


def oracle_ids(value: bytes, rows: int) -> tuple[int, int]:
    if not value:
        return 0, 0
    h = oracle_hash(value)
    return 1 + h % (rows - 1), 1 + h // (rows - 1) % (rows - 1)


def ids_of(encoder: Hashed, values: list[bytes]) -> list[int]:
    out = np.empty(len(values), np.int64)
    for width, rows, keys in group_by_width(np.array(values)):
        out[rows] = encoder.ids(width, keys)
    return out.tolist()


def test_hashes_are_the_same_everywhere():
    """Written down: data, runs and artifacts depend on them."""
    golden = {
        b"": 0xE220A8397B1DCDAF,
        b"68fd1e64": 0x7E5C170EB1AF73A9,
        b"a value of more than one word": 0xA88EDE810D8D2160,
    }
    for value, expected in golden.items():
        ((_, _, keys),) = group_by_width(np.array([value]))
        assert int(hash64(keys)[0]) == oracle_hash(value) == expected


@given(
    st.lists(st.binary(max_size=40).map(lambda v: v.replace(b"\0", b"x")), min_size=1, max_size=30),
    st.integers(2, 2**31 - 1),
)
def test_ids_are_those_of_the_formula(values, rows):
    expected = [oracle_ids(v, rows) for v in values]
    assert ids_of(Hashed(rows), values) == [r for r, _ in expected]
    assert ids_of(Hashed(rows, quotient=True), values) == [q for _, q in expected]


def test_an_encoder_survives_its_file_and_is_no_vocabulary():
    for encoder in (Hashed(2), Hashed(2**31 - 1, quotient=True)):
        assert parse_hashed(encoder.to_bytes()) == encoder
    for other in (b"", b"hash splitmix64 rows 5 remainder\t3\n", b"hash md5 rows 5 remainder\n"):
        assert parse_hashed(other) is None


@pytest.mark.parametrize(("count", "tolerance"), [(0, 0), (3_000, 0), (400_000, 0.05)])
def test_distinct_values_are_estimated(count, tolerance):
    """In any order, with repetitions; empty values are none."""
    keys = np.arange(1, count + 1, dtype=np.uint64)
    shown = np.random.default_rng(0).permutation(np.concatenate([keys, keys, np.zeros(9, np.uint64)]))
    sketch = Distinct()
    for part in np.array_split(shown, 7):
        sketch.add(8, part)
    assert sketch.estimate() == pytest.approx(count, rel=tolerance, abs=0)


@pytest.mark.parametrize(("distinct", "places"), [(0, 5), (1, 5), (2, 5), (300, 1000), (5, 1)])
def test_collisions_are_as_expected(distinct, places):
    """By the formula's own product, and where there are many by what a thousand draws do."""
    alone = 1.0
    for _ in range(distinct - 1):
        alone *= (places - 1) / places
    assert sharing(distinct, places) == pytest.approx(1 - alone)
    if distinct == 300:
        drawn = np.random.default_rng(0).integers(0, places, (1000, distinct))
        shared = [np.isin(d, np.flatnonzero(np.bincount(d) > 1)).mean() for d in drawn]
        assert sharing(distinct, places) == pytest.approx(np.mean(shared), abs=0.005)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """1,500 rows, hashed c1 of short and c3 of long values, c2 with a vocabulary; and the rows themselves."""
    draw = np.random.default_rng(1)
    rows = [
        (str(i % 2), str(i), f"{a:x}" if a else "", f"b{b}", f"a long value, {c}" if c else "")
        for i, (a, b, c) in enumerate(draw.integers(0, [400, 9, 300], (1500, 3)).tolist())
    ]
    folder = tmp_path_factory.mktemp("hashed")
    (folder / "raw.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return prepare(RECIPE, [folder / "raw.tsv"], folder / "data"), rows, folder / "raw.tsv"


def test_prepared_ids_are_hashes_whatever_the_split(prepared):
    data, rows, _ = prepared
    assert [(f.name, f.size) for f in data.schema.categorical] == [
        ("c1", 50), ("c2", 10), ("c3", 11), ("c3.q", 11)]  # fmt: skip
    found = {
        name: iter(zip(s.ids.tolist(), s.values.tolist(), strict=True)) for name, s in data.splits.items()
    }
    taken = {value[0]: ids for split in found.values() for ids, value in split}
    assert len(taken) > 1000  # the transformed number tells the rows apart, beyond the first two
    for _, number, c1, _, c3 in rows[3:]:
        ids = taken[np.float32(np.log(float(number)) ** 2).item()]
        assert ids[0] == oracle_ids(c1.encode(), 50)[0]
        assert tuple(ids[2:]) == oracle_ids(c3.encode(), 11)
    assert sorted(read_vocabulary(data.directory, "c2")) == [f"b{i}" for i in range(9)]
    with pytest.raises(DataError, match="c1 is hashed"):
        read_vocabulary(data.directory, "c1")


def test_the_manifest_tells_the_expected_collisions(prepared):
    data, rows, _ = prepared
    train = data.split("train").rows
    told = data.manifest["hashed"]
    for column, at, places in (("c1", 2, 49), ("c3", 4, 100)):
        upper = len({row[at] for row in rows} - {""})
        assert 0.85 * upper < told[column]["distinct"] <= min(upper, train)
        n = told[column]["distinct"]
        assert told[column]["sharing"] == pytest.approx(1 - (1 - 1 / places) ** (n - 1))
    assert (told["c3"]["fields"], told["c1"]["fields"]) == (2, 1)


def test_a_later_day_and_any_number_of_threads_hash_the_same(prepared, tmp_path, monkeypatch):
    data, _, raw = prepared
    later = prepare(replace(RECIPE, hash_buckets=()), [raw], tmp_path / "later", vocab=data.directory)
    assert later.schema == data.schema
    assert later.manifest["hashed"] == {}
    monkeypatch.setattr(rawlines, "BLOCK_BYTES", 500)
    again = prepare(RECIPE, [raw], tmp_path / "again", threads=3)
    assert again.content_hash == data.content_hash
    assert again.manifest["hashed"] == data.manifest["hashed"]
    everything = np.concatenate([data.splits[n].ids for n in ("train", "valid", "test")])
    assert sorted(later.split("test").ids.tolist()) == sorted(everything.tolist())


def test_the_command_and_a_column_config(prepared, tmp_path, capsys):
    header = tmp_path / "rows.tsv"
    header.write_text("\t".join(RECIPE.columns) + "\n" + prepared[2].read_text())
    columns = tmp_path / "columns.toml"
    columns.write_text('label = "label"\nnumeric = ["n1"]\ncategorical = ["c1", "c2", "c3"]\n')
    out = tmp_path / "data"
    command = ["prepare", "csv", str(header), "--columns", str(columns), "--out", str(out), "--hash-buckets"]
    assert main([*command, "c1=50", "c3=11:qr"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())  # however narrow the table is
    assert "c1 hashed" in shown
    assert re.search(r"11 rows twice; about 29\d values, 94\.\d\d% of them expected to collide", shown)
    assert json.loads((out / "manifest.json").read_text())["recipe"]["hash_buckets"] == ["c1=50", "c3=11:qr"]
    columns.write_text(columns.read_text() + 'hash_buckets = ["c1=50", "c3=11:qr"]\n')
    assert csv_recipe(columns, header).hash_buckets == ("c1=50", "c3=11:qr")
    assert open_prepared(out).schema.num_rows == 1 + 50 + 10 + 22
    assert main(["prepare", "synthetic", "--out", str(tmp_path / "s"), "--hash-buckets", "C1=9"]) == 2


@pytest.mark.parametrize(
    ("specs", "match"),
    [
        (("c1",), "write FIELD=ROWS"),
        (("c1=1",), "use 2 to"),
        (("c1=3000000000",), "use 2 to"),
        (("c1=5:qr2",), "write FIELD=ROWS"),
        (("n1=5",), "'n1' is no categorical column"),
        (("c11=5",), "did you mean"),
        (("c1=5", "c1=6"), "twice"),
    ],
)
def test_wrong_specs_are_refused(specs, match):
    with pytest.raises(DataError, match=match):
        replace(RECIPE, hash_buckets=specs)


def test_names_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"c3\.q, which another column has"):
        replace(RECIPE, columns=(*RECIPE.columns, "c3.q"))
    with pytest.raises(DataError, match="hash the largest"):
        Schema((Field("a", "categorical", 2**30), Field("b", "categorical", 2**30)))


def test_another_recipes_hashed_data_is_named_as_such(tmp_path):
    (tmp_path / "rows").write_text("1\t3\ta\tb\tc\n0\t4\td\te\tf\n" * 20)
    prepare(RECIPE, [tmp_path / "rows"], tmp_path / "day")
    with pytest.raises(DataError, match="prepared by recipe small and does not fit other"):
        prepare(Recipe("other", ("label", "d"), "label", (), 1, 0.1), [tmp_path / "rows"], tmp_path / "out",
                vocab=tmp_path / "day")  # fmt: skip
