"""Malformed rows of every kind among good ones: each counted by its reason, no good row touched."""

import gzip
from dataclasses import replace

import numpy as np
import pytest

from deeplight_jax.data.encode import prepare
from deeplight_jax.data.recipes import CRITEO
from deeplight_jax.errors import DataError

RECIPE = replace(CRITEO, min_count=1)
FEW = 60  # malformed rows of each kind in the short form


def good_rows(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        numbers = [str(x) if x % 5 else "" for x in rng.integers(0, 99, 13)]
        cells = [f"{x:08x}" if x % 7 else "" for x in rng.integers(0, 40, 26)]
        yield "\t".join([str(rng.integers(2)), *numbers, *cells]).encode()


def with_cell(row, at, text):
    cells = row.split(b"\t")
    cells[at] = text
    return b"\t".join(cells)


KINDS = {  # from a good row and a random generator
    "wrong delimiter": (lambda r, g: r.replace(b"\t", b","), "column_count"),
    "semicolons": (lambda r, g: r.replace(b"\t", b";"), "column_count"),
    "missing columns": (lambda r, g: b"\t".join(r.split(b"\t")[: g.integers(1, 39)]), "column_count"),
    "extra columns": (lambda r, g: r + b"\tx" * int(g.integers(1, 5)), "column_count"),
    "a quote that swallows": (lambda r, g: b'"' + r.replace(b"\t", b'"\t"', 1)[1:], "label"),
    "NUL": (lambda r, g: with_cell(r, int(g.integers(14, 40)), b"a\0b"), "control_character"),
    "invalid UTF-8": (lambda r, g: with_cell(r, int(g.integers(14, 40)), b"\xff\xfe"), "bad_encoding"),
    "half a character": (
        lambda r, g: with_cell(r, int(g.integers(14, 40)), "é".encode()[:1]),
        "bad_encoding",
    ),
    "huge number": (
        lambda r, g: with_cell(r, int(g.integers(1, 14)), b"9" * int(g.integers(40, 400))),
        "number",
    ),
    "nan": (
        lambda r, g: with_cell(r, int(g.integers(1, 14)), g.choice([b"nan", b"NaN", b"inf", b"-inf"])),
        "number",
    ),
    "exponent": (lambda r, g: with_cell(r, int(g.integers(1, 14)), b"1e5"), "number"),
    "words": (lambda r, g: with_cell(r, int(g.integers(1, 14)), b"three"), "number"),
    "label 2": (lambda r, g: with_cell(r, 0, g.choice([b"2", b"-1", b"0.5", b"", b"yes"])), "label"),
    "BOM within": (lambda r, g: b"\xef\xbb\xbf" + r, "label"),
    "carriage returns": (lambda r, g: with_cell(r, 0, r[:1] + b"\r"), "control_character"),
}


def test_every_malformed_row_is_counted_and_every_good_one_is_as_it_was(tmp_path, long, figure):
    rng, each = np.random.default_rng(3), 10_000 if long else FEW
    good = list(good_rows(40_000 if long else 1_500))
    bad = [(kind, KINDS[kind][0](good[rng.integers(len(good))], rng)) for kind in KINDS for _ in range(each)]
    mixed = [("", line) for line in good] + bad
    # any order that leaves the good rows in theirs
    places = np.sort(rng.choice(len(mixed), len(good), replace=False))
    order = np.full(len(mixed), -1)
    order[places] = np.arange(len(good))
    order[order < 0] = len(good) + rng.permutation(len(bad))
    lines = [mixed[i][1] for i in order]
    for line in (line for _, line in bad):
        assert b"\n" not in line
    files = {
        "clean.txt": b"\n".join(good) + b"\n",
        "mixed.txt": b"\n".join(lines) + b"\n",
        "crlf.txt": b"\r\n".join(lines) + b"\r\n",
        "mixed.txt.gz": gzip.compress(b"\xef\xbb\xbf" + b"\n".join(lines), 1),
    }
    made = {}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        made[name] = prepare(RECIPE, [tmp_path / name], tmp_path / f"out-{name}")
    clean = made.pop("clean.txt")
    assert clean.manifest["rejected"]["total"] == 0
    for name, found in made.items():
        rejected = found.manifest["rejected"]
        assert found.manifest["accepted"] == len(good), name
        assert rejected["total"] == len(bad) == sum(rejected["by_reason"].values()), name
        assert found.content_hash == clean.content_hash, name  # of every byte of every array and vocabulary
        for row in rejected["first"]:
            assert mixed[order[row["line"] - 1]][0], row  # the line it names is a malformed one
    figure(
        "malformed rows", kinds=len(KINDS), each=each, good_rows=len(good), by_reason=rejected["by_reason"]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone_has_its_reason(kind, tmp_path):
    make, reason = KINDS[kind]
    rng, good = np.random.default_rng(1), list(good_rows(30))
    lines = [line for row in good for line in (row, make(row, rng))]
    (tmp_path / "raw.txt").write_bytes(b"\n".join(lines) + b"\n")
    rejected = prepare(RECIPE, [tmp_path / "raw.txt"], tmp_path / "out").manifest["rejected"]
    assert rejected["total"] == 30
    assert all(reason in found for found in rejected["by_reason"]), rejected["by_reason"]
    assert [row["line"] for row in rejected["first"]] == [*range(2, 42, 2)]


@pytest.mark.parametrize(
    "content", [b"", b"\n\n\n", b"\xef\xbb\xbf", gzip.compress(b"")], ids=["empty", "lines", "BOM", "gz"]
)
def test_a_file_without_rows_is_named(content, tmp_path):
    file = tmp_path / ("raw.txt.gz" if content[:2] == b"\x1f\x8b" else "raw.txt")
    file.write_bytes(content)
    with pytest.raises(DataError):
        prepare(RECIPE, [file], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_gzip_file_cut_anywhere_is_named(tmp_path, long):
    whole, rng = gzip.compress(b"\n".join(good_rows(300))), np.random.default_rng(0)
    file = tmp_path / "raw.txt.gz"
    for _ in range(200 if long else 12):
        file.write_bytes(whole[: rng.integers(1, len(whole))])
        with pytest.raises(DataError, match=r"raw\.txt\.gz"):
            prepare(RECIPE, [file], tmp_path / "out")
        assert [p.name for p in tmp_path.iterdir()] == ["raw.txt.gz"]
