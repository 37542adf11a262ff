"""`deeplight report` as a user calls it, over runs of a tiny planted world."""

import json
import re
from html.parser import HTMLParser

import pytest

from deeplight_jax.cli import main
from deeplight_jax.training.inspect import load_run

EVIL = "<script>alert('$x$')</script>&C26"  # as the fixture names a field
FIGURES = ["pareto", "schedule", "weights", "field_map", "calibration", "field_losses"]
VOID = {"meta", "link", "br", "path", "use", "rect", "image", "input"}


class Page(HTMLParser):
    """Elements that are open, ids, texts by element, and addresses that a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.texts, self.fetched = [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:")):
                self.fetched.append(value)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    command = [
        "report",
        str(runs),
        "--out",
        str(folder / "report.html"),
        "--figures",
        str(folder / "figures"),
    ]
    assert main([*command, "--sample", "200"]) == 0
    return folder


def test_page_is_whole_and_fetches_nothing(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert not page.fetched
    assert len(page.ids) == len(set(page.ids))
    assert "url(http" not in text
    assert "@import" not in text
    assert '<meta name="viewport"' in text
    assert [i.removeprefix("figure-") for i in page.ids if i and i.startswith("figure-")] == FIGURES
    assert not list(written.glob(".*"))


def test_names_from_outside_are_escaped(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    assert EVIL not in text
    page = Page(text)
    assert len([t for t in page.texts["script"] if t.strip()]) == 2  # the pairs' data and our own script
    assert EVIL in page.texts["text"]  # a label of the map of R
    assert EVIL in _pair_data(text)["fields"]


def test_figures_are_files_too(written):
    files = {f.stem: f.read_bytes() for f in (written / "figures").iterdir()}
    assert sorted(files) == sorted(FIGURES)
    assert all(content.startswith(b"\x89PNG") for content in files.values())


def test_pairs_are_those_of_the_masks(runs, written):
    data = _pair_data((written / "report.html").read_text(encoding="utf-8"))
    assert sorted(r["name"] for r in data["runs"]) == ["pruned/seed-0", "pruned/seed-1"]
    for shown in data["runs"]:
        found = load_run(runs / shown["name"])
        keep, r = found.masks["fwfm"]["r"], found.params["fwfm"]["r"]
        assert shown["keep"] == "".join("01"[int(k)] for k in keep)
        assert shown["w"] == pytest.approx(r.tolist(), rel=1e-3, abs=1e-9)
    planted = json.loads((runs.parent / "data" / "manifest.json").read_text())["synthetic"]["pairs"]
    assert [list(found.schema.pairs[i]) for i in data["planted"]] == planted
    before = load_run(f"{runs / data['runs'][0]['name']}@{found.plan.warmup_steps}")  # its own warm-up
    assert data["before"] == pytest.approx(before.params["fwfm"]["r"].tolist(), rel=1e-3)


def test_json_tells_what_was_written(runs, tmp_path, capsys):
    out = tmp_path / "new" / "one.html"
    capsys.readouterr()
    assert main(["report", str(runs / "dense"), "--out", str(out), "--sample", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] == out.stat().st_size
    assert found["runs"] == 1
    assert found["figures"] == ["schedule", "weights", "field_map"]  # nothing to compare, no rows read


def test_what_cannot_be_read_is_listed(written, runs, capsys):
    text = (written / "report.html").read_text(encoding="utf-8")
    assert re.search(r"RUNS/broken: .*config\.json: not a saved config", text)
    command = ["report", str(runs), "--out", str(written / "again.html"), "--sample", "0"]
    assert main([*command, "--focus", "pruned/seed-1"]) == 0
    shown = capsys.readouterr().out
    assert "not read: " in shown
    assert "a closer look at pruned/seed-1" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{runs}/none"], "no such folder"),
        (["{runs}/../data"], "holds no run"),
        (["{runs}/broken"], "no run can be read"),
        (
            ["{runs}", "--focus", "seed-7"],
            "--focus seed-7 is none of the runs; they are dense, pruned/seed-0",
        ),
        (["{runs}", "--out", "{runs}"], "is a folder; name a file"),
        (["{runs}", "--figures", "{runs}/dense/config.json"], "is a file; name a folder"),
        (["{runs}", "--sample", "-1"], "use 0 or more"),
        (
            ["{runs}", "--bench", "{runs}/dense/config.json", "--figures", "{runs}/figures"],
            "is no output of `deeplight bench --json`",
        ),
    ],
)
def test_mistakes_are_one_line(runs, tmp_path, capsys, arguments, message):
    capsys.readouterr()
    words = [word.format(runs=runs) for word in arguments]
    assert main(["report", "--out", str(tmp_path / "r.html"), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "r.html").exists()
    assert not (runs / "figures").exists()


def test_a_run_in_progress_is_shown(runs, tmp_path):
    import shutil

    shutil.copytree(runs / "pruned" / "seed-0", tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99')
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "r.html"), "--sample", "100"]) == 0
    text = (tmp_path / "r.html").read_text()
    assert "not finished" in text
    assert "run (unfinished, step" in text


def test_lost_data_leaves_its_figures_out(runs, tmp_path):
    import shutil

    shutil.copytree(runs / "pruned" / "seed-0", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["dir"] = str(tmp_path / "gone")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    (tmp_path / "run" / "sha256.json").unlink()  # as the error says to, where one edits a run oneself
    out = tmp_path / "r.html"
    assert main(["report", str(tmp_path / "run"), "--out", str(out)]) == 0
    assert "No calibration and no field losses" in out.read_text()
    moved = ["--data", str(runs.parent / "data"), "--sample", "100"]
    assert main(["report", str(tmp_path / "run"), "--out", str(out), *moved]) == 0
    assert "figure-calibration" in out.read_text()


def _pair_data(text):
    return json.loads(re.search(r'id="pair-data">(.*?)</script>', text)[1])
