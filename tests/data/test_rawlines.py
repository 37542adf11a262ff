"""Raw files come in many shapes and fail in many ways."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from backports import zstd

from deeplight_jax.data import encode, rawlines
from deeplight_jax.data.encode import parse_bytes, prepare
from deeplight_jax.data.rawlines import printable
from deeplight_jax.data.recipes import AVAZU, CRITEO, Recipe
from deeplight_jax.errors import DataError

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "criteo" / "train70k.txt.gz"

SMALL = Recipe(
    name="small",
    columns=("label", "n1", "c1", "n2", "c2", "c3"),
    label="label",
    numeric_columns=("n1", "n2"),
    min_count=1,
    test_fraction=0.25,
    delimiter="\t",
)

# Malformed lines

GOOD = b"1\t3\tred\t4\tgreen\tblue"


# Files


def lines_of(count: int) -> list[bytes]:
    return [f"{i % 2}\t{i}\tv{i % 5}\t\tw{i % 3}\té{i % 7}".encode() for i in range(count)]


def test_line_ends_bom_and_compression_change_nothing(tmp_path):
    plain = b"".join(line + b"\n" for line in lines_of(500))
    shapes = {
        "plain.tsv": plain,
        "crlf.txt": plain.replace(b"\n", b"\r\n"),
        "open-ended": plain[:-1],
        "bom.tsv": b"\xef\xbb\xbf" + plain,
        "one.tsv.gz": gzip.compress(plain),
        "members.tsv.gz": gzip.compress(plain[:3000]) + gzip.compress(plain[3000:]),
        "one.tsv.zst": zstd.compress(plain),
        "frames.tsv.zst": zstd.compress(plain[:3000]) + zstd.compress(plain[3000:]),
    }
    hashes = set()
    for name, data in shapes.items():
        (tmp_path / name).write_bytes(data)
        made = prepare(SMALL, [tmp_path / name], tmp_path / f"out-{name}")
        assert made.manifest["accepted"] == 500, name
        assert made.manifest["inputs"] == [
            {"name": name, "bytes": len(data), "lines": 500, "delimiter": "\t"}
        ]
        hashes.add(made.content_hash)
    assert len(hashes) == 1


@pytest.mark.parametrize(("suffix", "squeeze"), [(".gz", gzip.compress), (".zst", zstd.compress)])
def test_a_truncated_or_damaged_file_is_named(tmp_path, suffix, squeeze):
    whole = squeeze(b"".join(line + b"\n" for line in lines_of(20_000)))
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    for data in (whole[:-1], whole[: len(whole) // 2], b"", b"0\t1\ta\t1\tb\tc\n", bytes(damaged)):
        raw = tmp_path / f"rows.tsv{suffix}"
        raw.write_bytes(data)
        with pytest.raises(DataError, match=rf"rows\.tsv{suffix} (is|cannot)"):
            prepare(SMALL, [raw], tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == [raw.name]


def test_missing_and_unusable_inputs_are_named(tmp_path):
    with pytest.raises(DataError, match="no raw files given"):
        prepare(SMALL, [], tmp_path / "out")
    with pytest.raises(DataError, match="gone: no such file"):
        prepare(SMALL, [tmp_path / "gone"], tmp_path / "out")
    with pytest.raises(DataError, match="is not a regular file"):
        prepare(SMALL, [tmp_path], tmp_path / "out")
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="no row of the raw files is accepted: they hold no lines"):
        prepare(SMALL, [tmp_path / "empty"], tmp_path / "out")
    (tmp_path / "bad").write_bytes(b"x\n\n")
    with pytest.raises(
        DataError, match=r"2 rejected \(empty_line 1, column_count 1\).*bad line 1: column_count"
    ):
        prepare(SMALL, [tmp_path / "bad"], tmp_path / "out")
    with pytest.raises(DataError, match="x cannot be read: File name too long"):
        prepare(SMALL, ["x" * 300], tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "empty"]


def test_a_line_without_end_stays_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(rawlines, "BLOCK_BYTES", 1000)
    (tmp_path / "rows").write_bytes(GOOD + b"\n" + b"9" * 2_000_000 + b"\n" + GOOD)
    longest = max(len(b.data) for b in rawlines.read_blocks([tmp_path / "rows"], SMALL))
    assert longest < 4 * rawlines.MAX_LINE_BYTES
    found = prepare(SMALL, [tmp_path / "rows"], tmp_path / "out").manifest
    assert (found["accepted"], found["rejected"]["by_reason"]) == (2, {"line_too_long": 1})
    assert found["rejected"]["first"][0]["text"] == "9" * 197 + "..."


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [(GOOD + b"\r" + GOOD + b"\r", "control_character", "CR alone"),
     (b"9" * 200_000 + b"\n", "line_too_long", "longer than 32,768 bytes")],
)  # fmt: skip
def test_a_first_line_that_is_no_header_to_csv_is_named(tmp_path, data, reason, said):
    (tmp_path / "rows").write_bytes(data)
    with pytest.raises(DataError, match=rf"1 rejected \({reason} 1\)"):
        prepare(SMALL, [tmp_path / "rows"], tmp_path / "out")
    with pytest.raises(DataError, match=rf"rows.* {said}"):
        rawlines.first_line(tmp_path / "rows")


def test_avazu_files_need_their_header(tmp_path):
    row = ",".join(["1", "0", *"abcdefghijklmnopqrstuv"])
    header = ",".join(AVAZU.columns)
    raw = tmp_path / "day.csv"
    raw.write_text(f"\ufeff{header}\r\n{row}\r\nbroken\r\n")
    found = prepare(AVAZU, [raw], tmp_path / "out").manifest
    assert (found["accepted"], found["inputs"][0]["lines"]) == (1, 2)
    assert found["rejected"]["first"][0]["line"] == 3
    for first, what in (
        (row, "'1' where 'id' is due"),
        (header.replace("click,", ""), "'hour' where 'click' is due"),
        (header + ",more", "25 columns where 24 are due"),
    ):
        raw.write_text(f"{first}\n{row}\n")
        with pytest.raises(DataError, match=rf"day\.csv line 1: the header .* {what}"):
            prepare(AVAZU, [raw], tmp_path / "no")


def test_each_file_has_its_own_delimiter(tmp_path):
    cells = ["1", *["5"] * 13, *["v"] * 26]
    (tmp_path / "a.tsv").write_text("broken, line, with, commas\n" + "\t".join(cells) + "\n")
    (tmp_path / "b.csv").write_text(",".join(cells) + "\n")
    found = prepare(CRITEO, [tmp_path / "a.tsv", tmp_path / "b.csv"], tmp_path / "out").manifest
    assert found["delimiter"] == "mixed"
    assert [i["delimiter"] for i in found["inputs"]] == ["\t", ","]
    assert (found["accepted"], found["rejected"]["total"]) == (2, 1)


# Limits and failures


def test_max_bad_rows_stops_as_soon_as_more_are_known(tmp_path, monkeypatch):
    monkeypatch.setattr(rawlines, "BLOCK_BYTES", 200)
    raw = tmp_path / "rows"
    raw.write_bytes(b"\n".join([GOOD, b"bad", b""] * 5 + lines_of(5000)))
    assert prepare(SMALL, [raw], tmp_path / "ten", max_bad_rows=10).manifest["rejected"]["total"] == 10
    seen: list[float] = []
    with pytest.raises(DataError, match=r"more than 9 malformed lines: 10 .*column_count 5.*rows line 2"):
        prepare(SMALL, [raw], tmp_path / "nine", max_bad_rows=9, progress=lambda _, x: seen.append(x))
    assert max(seen) < 0.5
    assert not (tmp_path / "nine").exists()


@pytest.mark.parametrize("broken", ["kept", "write"])
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch, broken):
    (tmp_path / "rows").write_bytes(b"\n".join(lines_of(100)))

    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(encode.Counter if broken == "kept" else encode._SplitFiles, broken, fail)
    with pytest.raises(RuntimeError, match="power cut"):
        prepare(SMALL, [tmp_path / "rows"], tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["rows"]


@pytest.mark.parametrize("change", [120, 80, 100])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, change):
    raw = tmp_path / "rows"
    raw.write_bytes(b"\n".join(lines_of(100)))

    def meddle(stage: str, share: float) -> None:
        if (stage, share) == ("count", 1.0):
            (tmp_path / "new").write_bytes(b"\n".join(lines_of(change)))
            (tmp_path / "new").rename(raw)

    with pytest.raises(DataError, match=r"changed while (they were|it was) read"):
        prepare(SMALL, [raw], tmp_path / "out", progress=meddle)
    assert [p.name for p in tmp_path.iterdir()] == ["rows"]


def test_a_full_disk_is_a_data_error(tmp_path, monkeypatch):
    (tmp_path / "rows").write_bytes(b"\n".join(lines_of(100)))

    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(encode.os, "pwrite", full)
    with pytest.raises(DataError, match="No space left on device"):
        prepare(SMALL, [tmp_path / "rows"], tmp_path / "out")


@pytest.mark.parametrize("where", ["Path.write_bytes", "create_split", "Counter.kept"])
def test_a_disk_may_fill_up_anywhere(tmp_path, monkeypatch, where):
    (tmp_path / "rows").write_bytes(b"\n".join(lines_of(100)))

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(f"deeplight_jax.data.encode.{where}", full)
    with pytest.raises(DataError, match=r"cannot write .*out: No space left on device"):
        prepare(SMALL, [tmp_path / "rows"], tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["rows"]


def test_progress_runs_through_both_stages(tmp_path, monkeypatch):
    monkeypatch.setattr(rawlines, "BLOCK_BYTES", 500)
    (tmp_path / "a").write_bytes(b"\n".join(lines_of(100)))
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"\n".join(lines_of(100))))
    told: list[tuple[str, float]] = []
    prepare(SMALL, [tmp_path / "a", tmp_path / "b.gz"], tmp_path / "out", progress=lambda *x: told.append(x))
    for stage in ("count", "encode"):
        shares = [share for s, share in told if s == stage]
        assert shares == sorted(shares)
        assert len(shares) > 4
        assert shares[-1] == 1.0
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 * 10**9), ("1.5 GiB", 3 * 2**29), ("7", 7), ("2k", 2000), ("10e6", 10**7)]
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


def test_options_out_of_range_are_refused(tmp_path):
    (tmp_path / "rows").write_bytes(GOOD)
    with pytest.raises(DataError, match="'much' is no size"):
        prepare(SMALL, [tmp_path / "rows"], tmp_path / "out", memory_limit="much")
    with pytest.raises(DataError, match="'1e400' is no size"):
        parse_bytes("1e400")
    with pytest.raises(DataError, match="max_bad_rows = -1; use 0 or more"):
        prepare(SMALL, [tmp_path / "rows"], tmp_path / "out", max_bad_rows=-1)
    with pytest.raises(DataError, match="threads = 0"):
        prepare(SMALL, [tmp_path / "rows"], tmp_path / "out", threads=0)


def test_the_validation_share_does_not_move_the_test_rows(tmp_path):
    (tmp_path / "rows").write_bytes(b"\n".join(lines_of(3000)))
    made = {
        share: prepare(replace(SMALL, valid_fraction=share), [tmp_path / "rows"], tmp_path / f"{share}")
        for share in (0.0, 0.2)
    }
    rows = {share: {k: s.rows for k, s in p.splits.items()} for share, p in made.items()}
    assert rows[0.0]["valid"] == 0
    assert abs(rows[0.2]["test"] - 750) < 4 * np.sqrt(3000 * 0.25 * 0.75)
    assert abs(rows[0.2]["valid"] - 450) < 4 * np.sqrt(2250 * 0.2 * 0.8)
    assert np.array_equal(made[0.0].splits["test"].values, made[0.2].splits["test"].values)
    other = prepare(replace(SMALL, split_seed=1), [tmp_path / "rows"], tmp_path / "seed")
    assert not np.array_equal(other.splits["test"].values[:50], made[0.2].splits["test"].values[:50])


@pytest.mark.skipif(not REAL.exists(), reason="the real Criteo rows (../shared/data) are not on this machine")
def test_the_real_criteo_rows_are_all_accepted(tmp_path):
    made = prepare(CRITEO, [REAL], tmp_path / "out")
    assert made.manifest["accepted"] == 70_000
    assert made.manifest["rejected"]["total"] == 0
    assert sum(made.manifest["positives"].values()) == 15_776
    assert 10_000 < sum(f.size - 1 for f in made.schema.categorical) < 16_000
    assert len(made.schema.fields) == 39


def packed(name, rows):
    """A file of rows in archives, one of whose members would leave the folder, and in other formats."""
    out = io.BytesIO()
    if name.endswith("zip"):
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("../../outside.txt", rows)
    elif ".tar" in name:
        with tarfile.open(fileobj=out, mode="w:gz" if name.endswith("gz") else "w") as archive:
            member = tarfile.TarInfo("../../outside.txt")
            member.size = len(rows)
            archive.addfile(member, io.BytesIO(rows))
    else:
        out.write({"bz2": bz2, "xz": lzma, "csv": gzip}[name.rpartition(".")[2]].compress(rows))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("rows.zip", "a zip archive; unpack it"),
        ("rows.tar", "a tar archive; unpack it"),
        ("rows.tar.gz", "a tar archive; unpack it"),
        ("rows.xz", "compressed by xz; unpack it"),
        ("rows.bz2", "compressed by bzip2; unpack it"),
        ("rows.csv", "compressed by gzip; name it .gz"),
    ],
)
def test_archives_are_refused_and_never_unpacked(name, told, tmp_path):
    (tmp_path / name).write_bytes(packed(name, b"\n".join(lines_of(100))))
    with pytest.raises(DataError, match=rf"{re.escape(name)} is {told}"):
        prepare(SMALL, [tmp_path / name], tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_what_does_not_print_is_shown_in_few_characters():
    assert printable("plain\tté") == "plain\\tté"
    for text in ("\0" * 999, "a" * 999, "é" * 999, "\U0010ffff" * 999):
        assert len(printable(text)) == 80
        assert printable(text).endswith("...")
        assert printable(text).isprintable()
