"""Malformed lines are counted, shown and harm no other line."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplight_jax.data import rawlines
from deeplight_jax.data.cells import REASONS
from deeplight_jax.data.encode import prepare
from deeplight_jax.data.prepared import read_vocabulary
from deeplight_jax.data.recipes import Recipe

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
BAD = {
    b"": "empty_line",
    b"1\t3\tred\t4\tgreen": "column_count",
    b"1\t3\tred\t4\tgreen\tblue\t": "column_count",
    b"just text": "column_count",
    b" ": "column_count",
    b"\t3\tred\t4\tgreen\tblue": "missing_label",
    b"2\t3\tred\t4\tgreen\tblue": "bad_label",
    b"-1\t3\tred\t4\tgreen\tblue": "bad_label",
    b"1.0\t3\tred\t4\tgreen\tblue": "bad_label",
    b"01\t3\tred\t4\tgreen\tblue": "bad_label",
    b"?\t3\tred\t4\tgreen\tblue": "bad_label",
    b"1\t3\tr\xffd\t4\tgreen\tblue": "bad_encoding",
    b"1\t3\tr\xc3\t4\tgreen\tblue": "bad_encoding",
    b"1\t3\t\xed\xa0\x80\t4\tgreen\tblue": "bad_encoding",
    b"1\t3\tr\x00d\t4\tgreen\tblue": "control_character",
    b"1\t3\tr\x1fd\t4\tgreen\tblue": "control_character",
    b"1\t3\tr\x7fd\t4\tgreen\tblue": "control_character",
    b"1\t3\tr\rd\t4\tgreen\tblue": "control_character",
    b"1\t3\tred\t4\tgreen\t" + b"b" * 257: "value_too_long",
    b"1\t3\tred\t4\tgreen\t" + b"b" * 40_000: "line_too_long",
} | {
    b"1\t3\tred\t" + text + b"\tgreen\tblue": "bad_number"
    for text in (
        *(
            b"nan",
            b"inf",
            b"-inf",
            b"1e5",
            b"0x10",
            b"1_000",
            b"1,5",
            b"+1",
            b"--1",
            b"-",
            b".",
            b"1.",
            b".5",
        ),
        *(b" 1", b"1 ", b"1-", b"12/3", b"1:", b"12345678x", b"1.2.3", b"9" * 40, b"9" * 65, "１".encode()),
        *(
            b"1" * 8 + b":",
            b"/1234567",
            b":",
            b"\xc2\xb2",
            b"-x",
            b".0",
            b"-.0",
            b"1..0",
            b"a.0",
            b"--1.0",
            b'"1"',
            b"None",
        ),
    )
}


@pytest.mark.parametrize(("line", "reason"), BAD.items(), ids=lambda x: repr(x)[:40])
def test_a_malformed_line_is_counted_and_shown(tmp_path, line, reason):
    raw = tmp_path / "rows.txt"
    raw.write_bytes(b"\n".join([GOOD, line, GOOD, b""]))
    found = prepare(SMALL, [raw], tmp_path / "out").manifest
    assert (found["accepted"], found["rejected"]["total"]) == (2, 1)
    assert found["rejected"]["by_reason"] == {reason: 1}
    (first,) = found["rejected"]["first"]
    assert (first["file"], first["line"], first["reason"]) == ("rows.txt", 2, reason)
    assert len(first["text"]) <= 200
    assert first["text"].isprintable()
    assert reason in REASONS


def test_only_plain_decimals_are_numbers(tmp_path):
    draw = random.Random(0)
    texts = [
        "".join(draw.choices("0123456789.-+e_ x", [9] * 10 + [6, 4, 1, 1, 1, 1, 1], k=k % 12))
        for k in range(20_000)
    ]
    raw = tmp_path / "rows"
    raw.write_text("".join(f"1\t{t}\ta\t\tb\tc\n" for t in texts))
    recipe = replace(SMALL, test_fraction=0, valid_fraction=0)
    made = prepare(recipe, [raw], tmp_path / "out")
    numbers = [float(t or 0) for t in texts if re.fullmatch(r"(-?[0-9]+(\.[0-9]+)?)?", t)]
    assert 2000 < len(numbers) < 18_000
    expected = [math.log(x) ** 2 if x > 2 else x for x in numbers]
    np.testing.assert_allclose(made.splits["train"].values[:, 0], np.float32(expected), rtol=1.2e-7)
    assert made.manifest["rejected"]["by_reason"] == {"bad_number": len(texts) - len(numbers)}


CSV = {
    b'1,3,"red",4,"gr,een","bl""ue"': ["red", "gr,een", 'bl"ue'],
    b'"1","3",red,"4",,""': ["red", "", ""],
    b'1,3,"red,4,green,blue': "bad_quote",
    b'1,3,red",4,green,blue': "bad_quote",
    b'1,3,r"e"d,4,green,blue': "bad_quote",
    b'1,3,"red"x,4,green,blue': "bad_quote",
    b'1,3,"red",4,green,"blue': "bad_quote",
    b'1,3,"red",4,green,blue"': "bad_quote",
    b'1,3,"r\x1fd",4,green,blue': "control_character",
    b"1,3,r\x1fd,4,green,blue": "control_character",
    b'1,3,"r\td",4,green,blue': "control_character",
    b"1\x1f3,red,4,green,blue": "control_character",
    b'1,3,"red",4,green,blue,': "column_count",
    b'1,"3,red",4,green,blue': "column_count",
    b'"",3,"red",4,green,blue': "missing_label",
    b"1,3,\xff,4,green,blue": "bad_encoding",
    b'"1,3,\xff,4,green,blue': "bad_encoding",
    b'1,"3,5",red,4,green,blue': "bad_number",
    b'"' + b"x" * 40_000: "line_too_long",
}


@pytest.mark.parametrize(("line", "expected"), CSV.items(), ids=lambda x: repr(x)[:40])
def test_quotes_in_comma_separated_lines(tmp_path, line, expected):
    recipe = replace(SMALL, delimiter=",", min_count=1, test_fraction=0, valid_fraction=0)
    raw = tmp_path / "rows.csv"
    raw.write_bytes(b"0,1,a,2,b,c\n" + line + b"\n0,1,a,2,b,c")
    prepared = prepare(recipe, [raw], tmp_path / "out")
    good = isinstance(expected, list)
    assert prepared.manifest["rejected"]["by_reason"] == ({} if good else {expected: 1})
    assert prepared.splits["train"].rows == 2 + good
    if good:
        cells = [read_vocabulary(tmp_path / "out", c) for c in ("c1", "c2", "c3")]
        ids = prepared.splits["train"].ids[1]
        assert [values[i - 1] for values, i in zip(cells, ids, strict=True)] == expected


def test_a_quote_in_a_tab_separated_file_is_data(tmp_path):
    recipe = replace(SMALL, test_fraction=0, valid_fraction=0)
    (tmp_path / "rows").write_bytes(b'1\t3\t"\t4\ta"b\t"c"\n' * 3)
    assert prepare(recipe, [tmp_path / "rows"], tmp_path / "out").manifest["accepted"] == 3
    assert [read_vocabulary(tmp_path / "out", c) for c in ("c1", "c2", "c3")] == [['"'], ['a"b'], ['"c"']]


good_lines = st.builds(
    lambda *cells: "\t".join(cells).encode(),
    st.sampled_from("01"),
    st.sampled_from(["", "0", "-1", "17", "123456789", "2.5"]),
    st.sampled_from(["", "a", "é€", "a value of 19 bytes"]),
    st.sampled_from(["", "3"]),
    st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=20),
    st.sampled_from(["x" * 8, "y" * 256]),
)
bad_lines = st.sampled_from(sorted(BAD)) | st.binary(max_size=40).filter(
    lambda b: b"\n" not in b and b.count(b"\t") != 5 and not b.endswith(b"\r")
)


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(good_lines.map(lambda b: (True, b)) | bad_lines.map(lambda b: (False, b)), max_size=40),
    newline=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
    cut=st.integers(0, 40),
    block=st.sampled_from([64, 300, 100_000]),
)
def test_malformed_lines_never_touch_the_good_ones(tmp_path_factory, lines, newline, last, cut, block):
    lines = [(True, GOOD), *lines, (True, GOOD)]
    place = tmp_path_factory.mktemp("mixed")
    files = [lines[:cut], lines[cut:]]
    paths = [place / "0.tsv", place / "1.tsv"]
    for path, part in zip(paths, files, strict=True):
        path.write_bytes(newline.join(b for _, b in part) + (newline if part and last else b""))
    counted = sum(
        len(p.read_bytes().split(b"\n")) - (not p.read_bytes() or p.read_bytes()[-1:] == b"\n") for p in paths
    )
    (place / "clean.tsv").write_bytes(b"".join(b + b"\n" for good, b in lines if good))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rawlines, "BLOCK_BYTES", block)
        mixed = prepare(SMALL, paths, place / "mixed")
    clean = prepare(SMALL, [place / "clean.tsv"], place / "clean")
    found = mixed.manifest
    assert found["accepted"] + found["rejected"]["total"] == counted
    assert found["accepted"] == clean.manifest["accepted"] == sum(good for good, _ in lines)
    assert mixed.content_hash == clean.content_hash
    rejected = [i for i, (good, _) in enumerate(lines) if not good]
    if len(rejected) == found["rejected"]["total"]:
        where = [(0, i + 1) if i < cut else (1, i - cut + 1) for i in rejected]
        shown = [(int(r["file"][0]), r["line"]) for r in found["rejected"]["first"]]
        assert shown == where[:20]
