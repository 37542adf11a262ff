"""Raw rows are scored as the same rows prepared are, labelled or not, and every line is accounted for."""

import gzip
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from random_models import config_of, random_params
from small_run import raw_rows

import deeplight_jax as dl
from deeplight_jax.cli import main
from deeplight_jax.data.encode import prepare
from deeplight_jax.data.identity import identity
from deeplight_jax.data.prepared import open_prepared
from deeplight_jax.data.recipes import AVAZU, CRITEO, Recipe
from deeplight_jax.data.tabular import csv_recipe, libsvm_recipe
from deeplight_jax.data.unlabelled import layout_of
from deeplight_jax.errors import DataError
from deeplight_jax.serving import artifact, export, scoring
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import build
from deeplight_jax.serving.raw import _Part, _rebatched, score_raw
from deeplight_jax.serving.scoring import score_split

BAD = ["", "1\t2\t3", "2" + "\t1" * 39, "\t".join(["1", *["x"] * 13, *["a"] * 26]), "\x01" + "\t1" * 39]


def engine_for(data):
    """A random model over prepared data, with what `export` would carry along."""
    return build(artifact_for(data))


def artifact_for(data):
    params = random_params("fm", data.schema, 0, {})
    about = {"data": {**identity(data), "recipe": data.manifest["recipe"]}}
    made = compact(config_of("fm").model, data.schema, params)
    return Artifact(made, about, export._vocabularies(data))


def scores_of(file):
    return duckdb.sql(f"FROM '{file}'").fetchnumpy()


def write(path: Path, lines, end="\n"):
    path.write_text(end.join(lines) + end, encoding="utf-8")
    return path


def same_as_prepared(engine, recipe, raw, train, tmp_path):
    """Scores of labelled raw rows, which are those of `prepare` with the old vocabulary."""
    later = prepare(recipe, [raw], tmp_path / f"{raw.name}-later", vocab=train.directory)
    score_split(engine, later, "test", tmp_path / "prepared.parquet")
    found = score_raw(engine, [raw], tmp_path / "raw.parquet")
    wanted, scored = scores_of(tmp_path / "prepared.parquet"), scores_of(tmp_path / "raw.parquet")
    assert scored["score"].tobytes() == wanted["score"].tobytes()
    np.testing.assert_array_equal(scored["label"], wanted["label"])
    assert found["rejected"] == later.manifest["rejected"]
    assert found["rows"] == later.split("test").rows
    return scored


@pytest.fixture(scope="module")
def day2(tmp_path_factory):
    """700 Criteo rows with values never seen, and malformed lines between; the good ones, their numbers."""
    folder = tmp_path_factory.mktemp("day2")
    good = raw_rows(folder / "good.txt", 700, seed=2, values=9).read_text().splitlines()
    lines = list(good)
    for i, bad in enumerate(BAD * 3):
        lines.insert(37 * i, bad)
    numbers = [i for i, line in enumerate(lines, start=1) if line not in BAD]
    return write(folder / "day2.txt", lines), good, numbers


@pytest.mark.parametrize("rows", [64, 1 << 16])
def test_the_command_scores_as_prepare_and_score_do(
    exported, data, day2, tmp_path, monkeypatch, capsys, rows
):
    raw, _, numbers = day2
    monkeypatch.setattr(scoring, "BLOCK_ROWS", rows)
    later = ["prepare", "criteo", str(raw), "--out", str(tmp_path / "later"), "--vocab", str(data)]
    assert main(later) == 0
    command = ["score", "--artifact", str(exported), "--out"]
    prepared, scored = tmp_path / "prepared.parquet", tmp_path / "raw.parquet"
    assert main([*command, str(prepared), "--data", str(tmp_path / "later")]) == 0
    capsys.readouterr()
    assert main([*command, str(scored), "--raw", str(raw)]) == 0
    shown = capsys.readouterr().out
    assert "700 scores" in shown
    assert "15" in shown
    assert "day2.txt:1" in shown
    wanted, found = scores_of(prepared), scores_of(scored)
    assert found["score"].tobytes() == wanted["score"].tobytes()
    np.testing.assert_array_equal(found["label"], wanted["label"])
    assert found["line"].tolist() == numbers
    assert set(found["file"]) == {"day2.txt"}
    assert main([*command, str(tmp_path / "raw.csv"), "--raw", str(raw), "--threads", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == 700
    assert told["rejected"] == open_prepared(tmp_path / "later").manifest["rejected"]
    csv = scores_of(tmp_path / "raw.csv")
    np.testing.assert_array_equal(csv["score"].astype(np.float32), found["score"])
    np.testing.assert_array_equal(csv["line"], found["line"])


def test_rows_without_a_label_and_files_of_both_layouts(exported, day2, tmp_path):
    raw, good, numbers = day2
    bare = "".join(line.partition("\t")[2] + "\n" for line in good)
    (tmp_path / "bare.txt.gz").write_bytes(gzip.compress(bare.encode()))
    (tmp_path / "bare.txt.zst").write_bytes(zstd.compress(bare.replace("\n", "\r\n").encode()))
    files = [tmp_path / "bare.txt.gz", raw, tmp_path / "bare.txt.zst"]
    engine = dl.serving.load(exported)
    told: list[int] = []
    found = dl.score_raw(
        engine, files, tmp_path / "s.parquet", progress=lambda what, done, _: told.append(done)
    )
    assert (found["rows"], found["rejected"]["total"]) == (2100, 15)
    assert told == sorted(told)
    assert told[-1] == 100
    scored = scores_of(tmp_path / "s.parquet")
    assert scored["file"].tolist() == [f.name for f in files for _ in range(700)]
    assert scored["line"].tolist() == [*range(1, 701), *numbers, *range(1, 701)]
    assert scored["label"].mask.tolist() == [True] * 700 + [False] * 700 + [True] * 700
    score_raw(engine, [raw], tmp_path / "alone.parquet")
    alone = scores_of(tmp_path / "alone.parquet")["score"]
    for part in np.split(scored["score"], 3):  # other rows share a block, which may cost the last bit
        np.testing.assert_allclose(part, alone, rtol=1e-6)


@pytest.mark.parametrize("numeric", ["value", "floor", "bucket"])
def test_every_numeric_transform(tmp_path, numeric):
    recipe = Recipe("small", ("label", "n", "c"), "label", ("n",), 1, 0.1, numeric=numeric)
    day1 = write(tmp_path / "day1.txt", [f"{i % 2}\t{i % 50}\tv{i % 3}" for i in range(100)])
    day2 = write(tmp_path / "day2.txt", [f"{i % 2}\t{i}\tv{i % 7}" for i in range(120)] + ["1\t\t"])
    train = prepare(recipe, [day1], tmp_path / "data")
    scored = same_as_prepared(engine_for(train), recipe, day2, train, tmp_path)
    assert len(set(scored["score"].tolist())) > 3


@pytest.mark.parametrize(("numeric", "hashed"), [("value", ("c=5:qr",)), ("bucket", ("n=9", "c=40"))])
def test_hashed_fields_through_a_file_and_without_labels(tmp_path, numeric, hashed):
    """Values never seen before get the rows they would have had; an empty one stays apart."""
    recipe = Recipe("small", ("label", "n", "c"), "label", ("n",), 1, 0.1, numeric=numeric)
    day1 = write(tmp_path / "day1.txt", [f"{i % 2}\t{i % 50}\tv{i % 3}" for i in range(100)])
    later = [f"{i % 2}\t{i}\tv{i % 7}" for i in range(120)] + ["1\t\t", "0\t3\ta value of many bytes"]
    day2 = write(tmp_path / "day2.txt", later)
    train = prepare(replace(recipe, hash_buckets=hashed), [day1], tmp_path / "data")
    artifact.save(tmp_path / "m.safetensors", artifact_for(train))
    engine = dl.serving.load(tmp_path / "m.safetensors")
    wanted = same_as_prepared(engine, recipe, day2, train, tmp_path)["score"]
    ids = open_prepared(tmp_path / "day2.txt-later").split("test").ids
    assert (ids[120] == 0).all()
    assert (ids[:120] > 0).all()
    score_raw(engine, [write(tmp_path / "bare.txt", [r[2:] for r in later])], tmp_path / "bare.parquet")
    bare = scores_of(tmp_path / "bare.parquet")
    assert bare["score"].tobytes() == wanted.tobytes()
    assert bare["label"].mask.all()


def avazu_line(i):
    return f"{i},{i % 2},14102100,1005,0,s{i % 4},d,c,a,b,e,v{i % 9},ip{i % 5},m,1,0,1,320,50,2,0,35,-1,79"


def test_avazu_without_its_click_column(tmp_path):
    header = ",".join(AVAZU.columns)
    day1 = write(tmp_path / "day1.csv", [header, *map(avazu_line, range(300))])
    day2 = write(tmp_path / "day2.csv", [header, *map(avazu_line, range(200, 450))])
    train = prepare(AVAZU, [day1], tmp_path / "data")
    engine = engine_for(train)
    wanted = same_as_prepared(engine, AVAZU, day2, train, tmp_path)
    without = [
        ",".join(cells[:1] + cells[2:]) for cells in (line.split(",") for line in day2.read_text().split())
    ]
    score_raw(engine, [write(tmp_path / "test.csv", without)], tmp_path / "test.parquet")
    found = scores_of(tmp_path / "test.parquet")
    assert found["score"].tobytes() == wanted["score"].tobytes()
    assert found["line"].tolist() == list(range(2, 252)) == wanted["line"].tolist()
    assert found["label"].mask.all()


@pytest.fixture
def table(tmp_path):
    """A csv recipe with a split column and one that is not read; its prepared data and a labelled file."""
    columns = 'label = "click"\nnumeric = ["x"]\ncategorical = ["a", "b"]\nsplit = "fold"\n'
    (tmp_path / "columns.toml").write_text(columns, encoding="utf-8")
    folds = ["train", "valid", "test"]
    lines = [f'{i % 7},n{i},{i % 2},"a,{i % 4}",{folds[i % 3]},b{i % 5}' for i in range(90)]
    raw = write(tmp_path / "rows.csv", ["x,note,click,a,fold,b", *lines], "\r\n")
    recipe = csv_recipe(tmp_path / "columns.toml", raw)
    return recipe, prepare(recipe, [raw], tmp_path / "data"), raw


@pytest.mark.parametrize("gone", [(), ("click",), ("fold",), ("click", "fold", "note"), ("note",)], ids=str)
def test_csv_headers_say_which_columns_are_there(table, tmp_path, gone):
    recipe, train, raw = table
    engine = engine_for(train)
    wanted = same_as_prepared(engine, recipe, raw, train, tmp_path)
    folder = str(tmp_path).replace("'", "''")
    kept = ", ".join(f'"{c}"' for c in recipe.columns if c not in gone)
    duckdb.sql(f"COPY (SELECT {kept} FROM '{folder}/rows.csv') TO '{folder}/less.csv' (HEADER)")
    score_raw(engine, [tmp_path / "less.csv"], tmp_path / "less.parquet")
    found = scores_of(tmp_path / "less.parquet")
    assert found["score"].tobytes() == wanted["score"].tobytes()
    assert np.ma.getmaskarray(found["label"]).all() == ("click" in gone)


@pytest.mark.parametrize("header", ["x,note,a,b,fold", "x,note,click,a,fold", "b,a,x", "1,2,3,4,5,6"])
def test_a_header_without_a_field_or_in_another_order_is_refused(table, tmp_path, header):
    _, train, _ = table
    raw = write(tmp_path / "odd.csv", [header, "1,2,3,4,5"])
    with pytest.raises(DataError, match=r"odd\.csv line 1: the header of recipe csv is missing or differs"):
        score_raw(engine_for(train), [raw], tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()


def test_libsvm_lines_with_and_without_a_label(tmp_path):
    lines = [f"{1 if i % 3 else -1} {i % 5}:1 {10 + i % 4}:1.0" for i in range(80)]
    train = prepare(
        libsvm_recipe(write(tmp_path / "a.libsvm", lines)), [tmp_path / "a.libsvm"], tmp_path / "d"
    )
    engine = engine_for(train)
    odd = ["1 4:1 2:0.5", "1 3:1", "", "4:1 11:1"]
    later = write(tmp_path / "b.libsvm", [*lines[:50], *odd, "0 77:1 12:1"])
    wanted = same_as_prepared(engine, libsvm_recipe(later), later, train, tmp_path)
    assert len(wanted["score"]) == 51
    bare = [line.partition(" ")[2] for line in [*lines[:50], "0 77:1 12:1"]]
    raw = write(tmp_path / "bare.libsvm", [*bare[:50], "  ", "1 4:1 11:1", "4 11:1", "4:1", bare[50] + " "])
    found = score_raw(engine, [raw], tmp_path / "s.parquet")
    scored = scores_of(tmp_path / "s.parquet")
    assert scored["score"].tobytes() == wanted["score"].tobytes()
    assert scored["line"].tolist() == [*range(1, 51), 55]
    assert sum(found["rejected"]["by_reason"].values()) == 4


def test_libsvm_lines_in_another_order_are_not_scored(tmp_path):
    lines = [f"{i % 2} {i % 5}:1 {10 + i % 4}:1" for i in range(80)]
    train = prepare(
        libsvm_recipe(write(tmp_path / "a.libsvm", lines)), [tmp_path / "a.libsvm"], tmp_path / "d"
    )
    turned = write(tmp_path / "b.libsvm", ["12:1 3:1"])
    with pytest.raises(DataError, match="index 12 stands at positions 2 and 1"):
        score_raw(engine_for(train), [turned], tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()


def test_the_layout_is_the_one_that_most_lines_fit(tmp_path):
    full = "\t".join(["1", *["3"] * 13, *["a"] * 26])
    bare = full[2:]
    layout = partial(layout_of, recipe=CRITEO)
    assert layout(write(tmp_path / "a", [bare, full, full])).label == "label"
    assert layout(write(tmp_path / "b", [full, bare, bare])).columns == CRITEO.columns[1:]
    assert layout(write(tmp_path / "c", ["\t".join(CRITEO.columns[1:]), bare])).label == ""
    assert layout(write(tmp_path / "d", ["rubbish"])) == CRITEO
    assert layout(write(tmp_path / "e", [bare.replace("\t", ",")] * 2)).label == ""
    (tmp_path / "f").write_bytes(b"")
    assert layout(tmp_path / "f") == CRITEO


def test_nothing_is_left_where_scoring_fails(exported, day2, tmp_path, capsys):
    raw, good, _ = day2
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress("\n".join(good).encode())[:-200])
    write(tmp_path / "bad.txt", BAD)
    command = ["score", "--artifact", str(exported), "--out", str(out / "s.parquet"), "--raw"]
    for files, named in (
        ([raw, "--max-bad-rows", "14"], "more than 14 malformed lines"),
        ([tmp_path / "cut.txt.gz"], "cut.txt.gz is truncated"),
        ([tmp_path / "bad.txt"], "no row of the raw files is accepted"),
        ([tmp_path / "missing.txt"], "missing.txt: no such file"),
        ([raw, "--split", "test"], "--split names rows of --data"),
        ([raw, "--threads", "0"], "use 1 or more"),
    ):
        assert main([*command, *map(str, files)]) == 2
        assert named in capsys.readouterr().err.replace("\n", " ")
        assert list(out.iterdir()) == []
    (out / "s.parquet").write_text("old")
    assert main([*command, str(tmp_path / "bad.txt")]) == 2
    assert (out / "s.parquet").read_text() == "old"
    assert main([*command, str(raw), "--max-bad-rows", "15"]) == 0
    assert [p.name for p in out.iterdir()] == ["s.parquet"]


def test_options_of_raw_rows_mean_nothing_for_prepared_ones(exported, data, tmp_path, capsys):
    command = ["score", "--artifact", str(exported), "--out", str(tmp_path / "s.csv"), "--data", str(data)]
    assert main([*command, "--max-bad-rows", "3"]) == 2
    assert "--max-bad-rows is of --raw" in capsys.readouterr().err


def test_an_artifact_without_recipe_or_vocabularies_says_so(table, tmp_path):
    _, train, raw = table
    engine = engine_for(train)
    made = Artifact(engine.model, {}, engine.vocabularies)
    with pytest.raises(DataError, match=r"carries no recipe.*score prepared rows by --data"):
        score_raw(build(made), [raw], tmp_path / "s.csv")
    fewer = {name: data for name, data in engine.vocabularies.items() if name != "a"}
    with pytest.raises(DataError, match="carries no recipe or no vocabularies"):
        score_raw(build(Artifact(engine.model, engine.about, fewer)), [raw], tmp_path / "s.csv")
    cut = {**engine.vocabularies, "a": engine.vocabularies["a"].partition(b"\n")[2]}
    with pytest.raises(DataError, match="the artifact's vocabulary of a makes 4 table rows where 5 are due"):
        score_raw(build(Artifact(engine.model, engine.about, cut)), [raw], tmp_path / "s.csv")
    other = {"data": {"recipe": {"name": "csv", "speed": 3}}}
    with pytest.raises(DataError, match="not a recipe of this version"):
        score_raw(build(Artifact(engine.model, other, engine.vocabularies)), [raw], tmp_path / "s.csv")


def test_rows_without_a_label_are_not_prepared(tmp_path):
    recipe = Recipe("bare", ("a", "b"), "", (), 1, 0.1)
    with pytest.raises(DataError, match="recipe bare names no label; rows without one can be scored"):
        prepare(recipe, [write(tmp_path / "a.txt", ["x\ty"])], tmp_path / "data")


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7))
def test_parts_are_cut_anew_in_order(lengths, size):
    line = np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1]) if lengths else []
    parts = [_Part(n, n, n[:, None], n[:, None] * 0.5, n.astype(np.uint8)) for n in line]
    found = list(_rebatched(parts, size))
    assert [len(p.line) for p in found[:-1]] == [size] * max(0, len(found) - 1)
    assert all(0 < len(p.line) <= size for p in found)
    for name in _Part._fields:
        joined = [getattr(p, name) for p in found]
        wanted = [getattr(p, name) for p in parts if len(p.line)]
        assert np.concatenate([np.zeros(0), *map(np.ravel, joined)]).tolist() == [
            x for array in wanted for x in array.ravel().tolist()
        ]
