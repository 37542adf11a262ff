"""Preparation against a pure-Python oracle, on malformed rows, at any thread count, and when it fails."""

from __future__ import annotations

import csv
import math
import random
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplight_jax.data import rawlines, vocabulary
from deeplight_jax.data.encode import prepare
from deeplight_jax.data.prepared import open_prepared, read_vocabulary
from deeplight_jax.data.recipes import AVAZU, CRITEO, Recipe
from deeplight_jax.errors import DataError

SMALL = Recipe(
    name="small",
    columns=("label", "n1", "c1", "n2", "c2", "c3"),
    label="label",
    numeric_columns=("n1", "n2"),
    min_count=2,
    test_fraction=0.25,
    valid_fraction=0.2,
    delimiter="\t",
)


# An oracle that shares nothing with the package but the recipe.


def oracle_split(index: int, recipe: Recipe) -> str:
    m = 2**64 - 1

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & m
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & m
        return x ^ (x >> 31)

    golden = 0x9E3779B97F4A7C15
    key = mix((recipe.split_seed + golden) & m)
    test, valid = ((mix((key + (2 * index + k) * golden) & m) >> 11) / 2**53 for k in (0, 1))
    return "test" if test < recipe.test_fraction else "valid" if valid < recipe.valid_fraction else "train"


def oracle_number(text: str, numeric: str) -> float:
    x = float(text) if text else 0.0
    x = math.log(x) ** 2 if x > 2 else x
    return x if numeric == "value" else float(math.floor(x))


def oracle(rows: list[list[str]], recipe: Recipe, vocab: dict[str, list[str]] | None = None) -> dict:
    """Splits {name: (ids, values, label)} and vocabularies {field: values} of well-formed rows of cells."""
    splits = [oracle_split(i, recipe) if vocab is None else "test" for i in range(len(rows))]
    at = {name: i for i, name in enumerate(recipe.columns)}
    numbers = [[oracle_number(r[at[c]], recipe.numeric) for c in recipe.numeric_columns] for r in rows]
    values = [[r[at[c]] for c in recipe.categorical_columns] for r in rows]
    names = list(recipe.categorical_columns)
    if recipe.numeric == "bucket":
        names = list(recipe.numeric_columns) + names
        for i, r in enumerate(rows):
            buckets = [
                str(int(n)) if r[at[c]] else ""
                for c, n in zip(recipe.numeric_columns, numbers[i], strict=True)
            ]
            values[i], numbers[i] = buckets + values[i], []
    if vocab is None:
        vocab = {}
        for f, name in enumerate(names):
            seen = Counter(
                v[f]
                for v, s in zip(values, splits, strict=True)
                if recipe.vocab_scope == "all" or s == "train"
            )
            kept = [v for v, n in seen.items() if n >= recipe.min_count]
            vocab[name] = sorted(kept, key=lambda v, seen=seen: (-seen[v], v.encode()))
    ids_of = [{v: i + 1 for i, v in enumerate(vocab[name])} for name in names]
    out: dict = {"vocab": vocab, "splits": {}}
    for split in ("train", "valid", "test"):
        chosen = [i for i, s in enumerate(splits) if s == split]
        out["splits"][split] = (
            np.array(
                [[d.get(v, 0) for d, v in zip(ids_of, values[i], strict=True)] for i in chosen], np.int32
            ),
            np.array([numbers[i] for i in chosen], np.float64),
            np.array([int(rows[i][at[recipe.label]]) for i in chosen], np.uint8),
        )
    return out


def check_against_oracle(prepared, rows, recipe, vocab=None) -> None:
    expected = oracle(rows, recipe, vocab)
    for name, values in expected["vocab"].items():
        assert read_vocabulary(prepared.directory, name) == values
        size = next(f.size for f in prepared.schema.fields if f.name == name)
        assert size == 1 + len(values)
    splits = ["test"] if vocab is not None else ["train", "valid", "test"]
    assert sorted(prepared.splits) == sorted(splits)
    for split in splits:
        ids, values, label = expected["splits"][split]
        found = prepared.splits[split]
        assert found.rows == len(label)
        assert found.ids.tolist() == ids.tolist()
        assert found.label.tolist() == label.tolist()
        np.testing.assert_allclose(found.values.ravel(), values.astype(np.float32).ravel(), rtol=1.2e-7)
        assert prepared.manifest["positives"][split] == int(label.sum())


def make_rows(recipe: Recipe, count: int, seed: int) -> list[list[str]]:
    """Rows of zipf-like values: some empty, some of more than 8 bytes, some not ASCII."""
    draw = random.Random(seed)
    numbers = [
        "",
        "0",
        "1",
        "2",
        "3",
        "-1",
        "-2",
        "12345678",
        "123456789",
        "2.5",
        "0.1",
        "-3.75",
        "0007",
        "17",
    ]

    def value() -> str:
        n = int(draw.paretovariate(0.8))
        return ["", "é€", f"{n % 97:08x}", f"v{n % 7}", f"a value of {n % 11} bytes", "x" * (n % 257)][n % 6]

    return [
        [
            str(draw.randrange(2))
            if c == recipe.label
            else draw.choice(numbers)
            if c in recipe.numeric_columns
            else value()
            for c in recipe.columns
        ]
        for _ in range(count)
    ]


def write(path: Path, rows: list[list[str]], delimiter: str = "\t", header: str = "") -> Path:
    path.write_bytes((header + "".join(delimiter.join(r) + "\n" for r in rows)).encode())
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks and batches small enough that little data makes many of them."""
    monkeypatch.setattr(rawlines, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(vocabulary, "_BATCH", 64)


# What is written


@pytest.mark.parametrize("numeric", ["value", "floor", "bucket"])
@pytest.mark.parametrize("scope", ["train", "all"])
@pytest.mark.usefixtures("small_blocks")
def test_criteo_rows_agree_with_the_oracle(tmp_path, numeric, scope):
    recipe = replace(CRITEO, numeric=numeric, vocab_scope=scope, min_count=3, test_fraction=0.2, split_seed=5)
    rows = make_rows(recipe, 300, seed=1)
    prepared = prepare(recipe, [write(tmp_path / "rows.tsv", rows)], tmp_path / "out")
    check_against_oracle(prepared, rows, recipe)
    assert prepared.manifest["delimiter"] == "\t"
    assert prepared.manifest["accepted"] == 300
    assert prepared.manifest["rejected"] == {"total": 0, "by_reason": {}, "first": []}
    assert open_prepared(tmp_path / "out").content_hash == prepared.content_hash


@pytest.mark.usefixtures("small_blocks")
def test_avazu_rows_agree_with_the_oracle(tmp_path):
    recipe = replace(AVAZU, min_count=2)
    rows = [[str(10**18 + i), *r[1:]] for i, r in enumerate(make_rows(recipe, 300, seed=2))]
    header = ",".join(recipe.columns) + "\n"
    files = [
        write(tmp_path / f"{i}.csv", part, ",", header) for i, part in enumerate((rows[:120], rows[120:]))
    ]
    prepared = prepare(recipe, files, tmp_path / "out")
    check_against_oracle(prepared, rows, recipe)
    assert prepared.schema.fields[0].size == 1  # every id is new, so none is kept
    assert [i["lines"] for i in prepared.manifest["inputs"]] == [120, 180]
    assert prepared.manifest["delimiter"] == ","


@pytest.mark.parametrize("header", ["", ",".join(CRITEO.columns) + "\n"])
def test_criteo_rows_may_be_comma_separated(tmp_path, header):
    rows = make_rows(CRITEO, 60, seed=3)
    from_csv = prepare(CRITEO, [write(tmp_path / "rows.csv", rows, ",", header)], tmp_path / "csv")
    from_tsv = prepare(CRITEO, [write(tmp_path / "rows.tsv", rows)], tmp_path / "tsv")
    assert from_csv.manifest["delimiter"] == ","
    assert from_csv.content_hash == from_tsv.content_hash


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.usefixtures("small_blocks")
def test_quoted_cells_read_as_they_were_written(tmp_path, quoting):
    rows = make_rows(SMALL, 200, seed=8)
    for i, row in enumerate(rows):
        row[2 + 2 * (i % 2)] = ['a,"b"', '"', "x,y", '""', ",", "plain", ""][i % 7]
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=quoting).writerows(rows)
    recipe = replace(SMALL, delimiter=",")
    check_against_oracle(prepare(recipe, [tmp_path / "rows.csv"], tmp_path / "out"), rows, recipe)


def test_numbers_of_every_plain_form(tmp_path):
    texts = [
        "0",
        "-0",
        "1",
        "2",
        "3",
        "00000003",
        "99999999",
        "100000000",
        "12345678901234567890",
        "2.0000001",
    ]
    texts += [
        "-1",
        "-99999999",
        "-123456789",
        "0.30000000000000004",
        "340282346638528859811704183484516925440",
    ]
    texts += ["-0.5", "10.25", "-340282346638528859811704183484516925440", "0" * 64, "", "7" * 8, "1" * 9]
    texts += ["12.0", "-7.0", "0.0", "-0.0", "00.00", "12345678.0", "123456789.0", "-12345678.0", "3.10"]
    recipe = replace(SMALL, test_fraction=0, valid_fraction=0)
    rows = [["1", t, "a", "-" + t if t[:1] not in ("", "-") else t, "", "b"] for t in texts if len(t) < 64]
    for numeric in ("value", "floor", "bucket"):
        made = replace(recipe, numeric=numeric, min_count=1)
        prepared = prepare(made, [write(tmp_path / "rows", rows)], tmp_path / numeric)
        check_against_oracle(prepared, rows, made)


@pytest.mark.usefixtures("small_blocks")
def test_a_later_day_is_encoded_with_the_first_days_vocabulary(tmp_path):
    for numeric in ("value", "bucket"):
        recipe = replace(SMALL, numeric=numeric)
        first, later = make_rows(SMALL, 200, seed=4), make_rows(SMALL, 90, seed=5)
        out = tmp_path / numeric
        day = prepare(recipe, [write(tmp_path / "first", first)], out)
        vocab = {f.name: read_vocabulary(out, f.name) for f in day.schema.categorical}
        encoded = prepare(SMALL, [write(tmp_path / "later", later)], tmp_path / f"{numeric}2", vocab=out)
        check_against_oracle(encoded, later, recipe, vocab)
        assert encoded.schema == day.schema
        assert encoded.manifest["vocab_from"] == day.content_hash
        assert encoded.manifest["recipe"]["numeric"] == numeric
        again = prepare(SMALL, [tmp_path / "later"], tmp_path / f"{numeric}3", vocab=tmp_path / f"{numeric}2")
        assert again.content_hash == encoded.content_hash  # a later day carries its vocabularies on


def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path):
    rows = write(tmp_path / "rows", make_rows(SMALL, 50, seed=6))
    prepare(SMALL, [rows], tmp_path / "day")
    with pytest.raises(DataError, match="prepared by recipe small and does not fit criteo"):
        prepare(CRITEO, [rows], tmp_path / "out", vocab=tmp_path / "day")
    with pytest.raises(DataError, match="not a prepared data set"):
        prepare(SMALL, [rows], tmp_path / "out", vocab=tmp_path)
    path = tmp_path / "day" / "vocab" / "c1.txt"
    path.write_bytes(path.read_bytes().replace(b"v", b"w"))
    with pytest.raises(DataError, match=r"c1\.txt is damaged"):
        prepare(SMALL, [rows], tmp_path / "out", vocab=tmp_path / "day")
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"c1\.txt makes 1 table rows"):
        prepare(SMALL, [rows], tmp_path / "out", vocab=tmp_path / "day")
    path.unlink()
    with pytest.raises(DataError, match=r"c1\.txt"):
        prepare(SMALL, [rows], tmp_path / "out", vocab=tmp_path / "day")
    assert not (tmp_path / "out").exists()


def all_bytes(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("numeric", ["value", "bucket"])
@pytest.mark.usefixtures("small_blocks")
def test_the_bytes_do_not_depend_on_threads_memory_or_place(tmp_path, numeric):
    recipe = replace(SMALL, numeric=numeric)
    rows = make_rows(SMALL, 2000, seed=7)
    lines = ["\t".join(r) for r in rows]
    lines[100:100] = ["broken", "", "1\tnan\ta\t1\tb\tc"] * 9
    (tmp_path / "a").mkdir()
    raw = tmp_path / "a" / "rows.tsv"
    raw.write_text("\n".join(lines) + "\n")
    made = {t: prepare(recipe, [raw], tmp_path / f"t{t}", threads=t) for t in (1, 2, 4)}
    made[0] = prepare(recipe, [raw], tmp_path / "spilled", threads=3, memory_limit="1KB")
    assert made[1].manifest["rejected"]["total"] == 27
    for other in made.values():
        assert all_bytes(other.directory) == all_bytes(made[1].directory)
    assert str(tmp_path) not in (tmp_path / "t1" / "manifest.json").read_text()
    check_against_oracle(made[1], rows, recipe)


@pytest.mark.usefixtures("small_blocks")
def test_counts_that_went_to_disk_are_exact(tmp_path):
    budget = vocabulary.Budget(1000)
    counter = vocabulary.Counter(tmp_path, budget)
    draw = np.random.default_rng(0)
    seen: Counter[int] = Counter()
    for _ in range(40):
        keys = draw.zipf(1.3, 500).clip(1, 5000).astype(np.uint64) << np.uint64(40)
        seen.update(keys.tolist())
        counter.add(8, keys)
    assert list(tmp_path.iterdir())
    values, counts = counter.kept(3)
    expected = sorted(((-n, k) for k, n in seen.items() if n >= 3))
    assert counts == [-n for n, _ in expected]
    assert [int.from_bytes(v.ljust(8, b"\0"), "big") for v in values] == [k for _, k in expected]


def test_one_long_value_does_not_make_the_others_long(tmp_path):
    """200,000 values of 8 bytes and one of 250: as wide as that one, they would take 50 MB."""
    counter = vocabulary.Counter(tmp_path, vocabulary.Budget(10**9))
    ((_, _, keys),) = vocabulary.group_by_width([b"%08d" % i for i in range(200_000)])
    counter.add(8, keys)
    counter.add(256, np.array([b"x" * 250], "S256"))
    tracemalloc.start()
    try:
        found = vocabulary.Vocabulary(*counter.kept(1))
        assert found.ids(256, np.array([b"x" * 250], "S256")).tolist() == [200_001]  # the last one by bytes
        assert found.ids(8, keys[[0, 77]]).tolist() == [1, 78]
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


def test_look_up_tables_are_made_once_before_any_thread_looks_up(monkeypatch):
    made, make = [], vocabulary._hashed
    monkeypatch.setattr(vocabulary, "_hashed", lambda *a: made.append(1) or make(*a))
    found = vocabulary.Vocabulary([b"b", b"a"], [3, 2])
    assert made == [1]
    ((_, _, keys),) = vocabulary.group_by_width([b"a", b"b", b"c"])
    assert found.ids(8, keys).tolist() == [2, 1, 0]
    assert made == [1]
