"""Any tabular log: CSV by a column config, libsvm lines, splits by column or by file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplight_jax.cli import main
from deeplight_jax.data.encode import prepare
from deeplight_jax.data.prepared import open_prepared, read_vocabulary
from deeplight_jax.data.tabular import csv_recipe, libsvm_recipe
from deeplight_jax.errors import DataError

COLUMNS = """
label = "click"
numeric = ["age"]
categorical = ["site", "user"]
split = "fold"
"""
LOG = """note,site,fold,click,age,user
x,"a,b",train,1,3,u1
y,c,train,0,,u2
z,c,valid,1,1,u9
w,a,test,0,8,u1
v,c,somewhere,0,8,u1
"""


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_csv_by_a_column_config(tmp_path):
    raw, config = write(tmp_path, "log.csv", LOG), write(tmp_path, "columns.toml", COLUMNS)
    data = prepare(csv_recipe(config, raw), [raw], tmp_path / "data")
    assert [(f.name, f.kind, f.size) for f in data.schema.fields] == [
        ("age", "numeric", 1),
        ("site", "categorical", 3),  # unknown, "a,b" and c
        ("user", "categorical", 3),
    ]
    assert {name: split.rows for name, split in data.splits.items()} == {"train": 2, "valid": 1, "test": 1}
    assert data.manifest["rejected"]["by_reason"] == {"bad_split": 1}
    assert data.manifest["rejected"]["first"][0]["line"] == 6
    site, user = (read_vocabulary(tmp_path / "data", f) for f in ("site", "user"))
    assert set(site) == {"a,b", "c"}
    train, valid, test = (data.splits[s] for s in ("train", "valid", "test"))
    assert [site[i - 1] for i in train.ids[:, 0]] == ["a,b", "c"]
    assert [user[i - 1] for i in train.ids[:, 1]] == ["u1", "u2"]
    assert valid.ids[0, 1] == 0  # u9 is not among the train rows
    assert site[valid.ids[0, 0] - 1] == "c"
    assert test.ids[0, 0] == 0
    np.testing.assert_allclose(train.values[:, 0], [np.log(3) ** 2, 0], rtol=1e-6)
    assert [list(s.label) for s in (train, valid, test)] == [[1, 0], [1], [0]]


def test_columns_named_for_files_without_a_header(tmp_path):
    raw = write(tmp_path, "log.tsv", "1\tred\t5\n0\tblue\t6\n")
    config = write(
        tmp_path,
        "c.toml",
        'columns = ["y", "colour", "n"]\nlabel = "y"\ncategorical = ["colour"]\ntest_fraction = 0\n'
        "valid_fraction = 0\n",
    )
    data = prepare(csv_recipe(config, raw), [raw], tmp_path / "data")
    assert [f.name for f in data.schema.fields] == ["colour"]
    assert data.split("train").rows == 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('label = "clik"', r"has no column 'clik'; did you mean 'click'\?"),
        ('label = "click"\ncategorical = ["site", "site"]', "named twice"),
        ('lable = "click"', r"unknown key 'lable'; did you mean 'label'\?"),
        ('label = ["click"]', "must be a str"),
        ('label = "click"\nnumeric = "age"', "must be a list of column names"),
        ("numeric = []", "names no label"),
        ("label = ", "is not TOML"),
        ('label = "click"', "a column beside the label"),
        ('label = "click"\ncategorical = ["site"]\nmin_count = 0', "min_count = 0"),
        ('label = "click"\ncategorical = ["site"]\ndelimiter = " "', "libsvm"),
        ('label = "click"\ncategorical = ["site"]\nsplit = "fold"\ntest_fraction = 0.5', "names the splits"),
    ],
)
def test_mistakes_in_a_column_config_are_named(tmp_path, config, message):
    raw = write(tmp_path, "log.csv", LOG)
    with pytest.raises(DataError, match=message):
        csv_recipe(write(tmp_path, "columns.toml", config), raw)


def test_libsvm_with_a_file_for_each_split(tmp_path):
    train = write(tmp_path, "train.libsvm", "1 10:1 451:1\n-1 11:1 451:1.0 \n0 10:1 7:1\n")
    valid = write(tmp_path, "valid.libsvm", "0 10:1 451:1\n")
    test = write(tmp_path, "test.libsvm", "1 99:1 7:1\n1 10:0.5 7:1\n2 10:1 7:1\n1 10:1\n")
    data = prepare(libsvm_recipe(train), [train], tmp_path / "data", valid=[valid], test=[test])
    assert {name: split.rows for name, split in data.splits.items()} == {"train": 3, "valid": 1, "test": 1}
    assert data.manifest["rejected"]["by_reason"] == {"column_count": 1, "bad_label": 1, "not_one_hot": 1}
    words = [read_vocabulary(tmp_path / "data", f) for f in ("f1", "f2")]
    found = [[words[f][i - 1] for f, i in enumerate(row)] for row in data.split("train").ids]
    assert found == [["10", "451"], ["11", "451"], ["10", "7"]]
    assert list(data.split("train").label) == [1, 0, 0]
    assert data.split("test").ids[0, 0] == 0


def test_libsvm_as_it_is_found(tmp_path):
    """Plus signs, tabs, doubled spaces and CRLF are taken; what is not INDEX:1 is refused, not misread."""
    good = "+1 3:1 9:1\r\n-1.0  4:1\t9:1 \r\n1.0 3:1.0 8:1\n+1 4:1 8:1\n"
    bad = "0 3 9:1\n1 :1 9:1\n0:1 3:1 9:1\n1 3:2 9:1\n1 3:1:1 9:1\n-2 3:1 9:1\n1 3:1 9:1 7:1\n"
    raw = write(tmp_path, "a.libsvm", good + bad)
    recipe = replace(libsvm_recipe(raw), test_fraction=0.0, valid_fraction=0.0)
    data = prepare(recipe, [raw], tmp_path / "data")
    assert list(data.split("train").label) == [1, 0, 1, 1]
    assert data.manifest["positives"]["train"] == 3
    rejected = data.manifest["rejected"]["by_reason"]
    assert rejected == {"column_count": 1, "bad_label": 1, "not_one_hot": 5}


def test_libsvm_indices_in_changing_order_are_refused(tmp_path):
    raw = write(tmp_path, "a", "1 3:1 9:1\n0 9:1 3:1\n" * 20)
    with pytest.raises(DataError, match=r"index [39] stands at positions 1 and 2"):
        prepare(libsvm_recipe(raw), [raw], tmp_path / "data")


def test_libsvm_rows_in_another_order_than_the_training_rows_are_refused(tmp_path):
    """All their indices would be unknown, without a word."""
    train = write(tmp_path, "a", "1 3:1 9:1\n0 4:1 8:1\n" * 20)
    other = write(tmp_path, "b", "1 7:1 6:1\n0 9:1 3:1\n")
    with pytest.raises(DataError, match="index 9 stands at positions 2 and 1"):
        prepare(libsvm_recipe(train), [train], tmp_path / "no", test=[other])
    prepare(libsvm_recipe(train), [train], tmp_path / "day")
    with pytest.raises(DataError, match="index 9 stands at positions 2 and 1"):
        prepare(libsvm_recipe(other), [other], tmp_path / "no", vocab=tmp_path / "day")
    hashed = replace(libsvm_recipe(train), hash_buckets=("f1=5:qr",))
    assert (
        prepare(hashed, [train], tmp_path / "yes", test=[other]).split("test").rows == 2
    )  # f1 knows no values
    assert not (tmp_path / "no").exists()


def test_numbers_as_other_programs_write_them(tmp_path):
    texts = ["1e-05", "1E3", ".5", "5.", "+3", "-2.5e+1", "7"]
    raw = write(tmp_path, "log.csv", "y,n,c\n" + "".join(f"1,{t},a\n" for t in texts) + "0,NA,a\n0,0x1,a\n")
    config = write(
        tmp_path, "c.toml", 'label = "y"\nnumeric = ["n"]\ncategorical = ["c"]\ntest_fraction = 0\n'
    )
    recipe = replace(csv_recipe(config, raw), valid_fraction=0.0)
    data = prepare(recipe, [raw], tmp_path / "data")
    numbers = np.array([float(t) for t in texts])
    wanted = [np.log(x) ** 2 if x > 2 else x for x in numbers]
    np.testing.assert_allclose(data.split("train").values[:, 0], wanted, rtol=1e-6)
    assert data.manifest["rejected"]["by_reason"] == {"bad_number": 2}


@pytest.mark.parametrize("name", ["site/domain", "../../pwned", "a\\b", ".hidden", "x" * 201])
def test_a_column_cannot_name_a_file_elsewhere(tmp_path, name):
    raw = write(tmp_path, "log.csv", f"y,{name}\n1,a\n")
    config = write(tmp_path, "c.toml", f"label = 'y'\ncategorical = ['{name}']\n")
    with pytest.raises(DataError, match="cannot name a file"):
        csv_recipe(config, raw)


def test_headers_with_quotes_case_and_order(tmp_path):
    config = write(tmp_path, "c.toml", 'label = "y"\ncategorical = ["a", "A"]\ntest_fraction = 0\n')
    one = write(tmp_path, "1.csv", 'y,"site,x",a,A\n1,"q,r",u,v\n')
    data = prepare(csv_recipe(config, one), [one], tmp_path / "data")
    assert [f.name for f in data.schema.fields] == ["a", "A"]
    other = write(tmp_path, "2.csv", 'y,"site,x",A,a\n1,"q,r",u,v\n')
    with pytest.raises(DataError, match=r"2\.csv line 1: .*'A' where 'a' is due .* y,site,x,a,A"):
        prepare(csv_recipe(config, one), [one, other], tmp_path / "two")
    with pytest.raises(DataError, match=r"its fields come in another order \(a, A\)"):
        prepare(csv_recipe(config, other), [other], tmp_path / "day", vocab=tmp_path / "data")
    twice = write(tmp_path, "3.csv", "y,n,n,a,A\n")
    with pytest.raises(DataError, match=r"3\.csv line 1: column names repeat: 'n'"):
        csv_recipe(config, twice)


def test_a_file_cannot_stand_in_two_splits(tmp_path):
    raw = write(tmp_path, "a", "1 3:1 9:1\n")
    with pytest.raises(DataError, match="given twice"):
        prepare(libsvm_recipe(raw), [raw], tmp_path / "data", test=[raw])


def test_other_lines_are_not_taken_for_libsvm(tmp_path):
    with pytest.raises(DataError, match=r"line 1 is not libsvm's"):
        libsvm_recipe(write(tmp_path, "log.csv", LOG))


def test_only_the_splits_without_files_are_drawn(tmp_path):
    lines = "".join(f"{i % 2} {i % 7}:1\n" for i in range(400))
    raw, test = write(tmp_path, "a", lines), write(tmp_path, "b", "1 3:1\n")
    data = prepare(libsvm_recipe(raw), [raw], tmp_path / "data", test=[test])
    assert data.split("test").rows == 1
    assert 20 < data.split("valid").rows < 70  # a tenth
    assert data.split("train").rows + data.split("valid").rows == 400


def test_files_beside_a_split_column_or_a_vocabulary_are_refused(tmp_path):
    raw, config = write(tmp_path, "log.csv", LOG), write(tmp_path, "columns.toml", COLUMNS)
    recipe = csv_recipe(config, raw)
    with pytest.raises(DataError, match="column fold names the splits"):
        prepare(recipe, [raw], tmp_path / "data", test=[config])
    prepare(recipe, [raw], tmp_path / "data")
    with pytest.raises(DataError, match="are all test rows"):
        prepare(recipe, [raw], tmp_path / "day2", vocab=tmp_path / "data", valid=[config])
    day = prepare(recipe, [raw], tmp_path / "day2", vocab=tmp_path / "data")
    assert {name: split.rows for name, split in day.splits.items()} == {"test": 4}


def test_from_the_command_line(tmp_path, capsys):
    raw, config = write(tmp_path, "log.csv", LOG), write(tmp_path, "columns.toml", COLUMNS)
    command = ["prepare", "csv", str(raw), "--columns", str(config), "--out", str(tmp_path / "data")]
    assert main(command) == 0
    assert open_prepared(tmp_path / "data").manifest["recipe"]["name"] == "csv"
    assert main(["prepare", "csv", str(raw), "--out", str(tmp_path / "other")]) == 2
    assert "--columns" in capsys.readouterr().err
    twice = ["--test", str(config), "--test-fraction", "0.5"]
    assert main([*command, *twice]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main(["prepare", "synthetic", "--columns", str(config), "--out", str(tmp_path / "world")]) == 2
    assert "leave --columns out" in capsys.readouterr().err
    command[1] = "criteo"
    assert main(command) == 2
    assert "--columns describes csv files" in capsys.readouterr().err
