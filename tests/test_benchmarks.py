"""The pass over all benchmarks: its commands exist, and a file has its name only where its job succeeded."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from threading import Event

import pytest
from rich.console import Console

from deeplight_jax.cli import _parser

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def everything():
    spec = importlib.util.spec_from_file_location("everything", ROOT / "benchmarks" / "everything.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["everything"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["everything"]


def test_every_command_is_one_that_there_is(everything, tmp_path):
    for job in everything.JOBS:
        command = everything.words(job, tmp_path)
        command = command[command.index(sys.executable) + 1 :]
        if command[0] == "-m":
            found, rest = _parser().parse_known_args(command[2:])
            assert found.command == job.command.split()[1]
            assert all(word.startswith("--config.") for word in rest)
        else:
            text = (ROOT / command[0]).read_text(encoding="utf-8")
            assert [w for w in command if w.startswith("--") and w not in text] == []


def test_a_path_with_a_blank_is_one_word(everything, tmp_path):
    job = everything.Job("x", "rank.py --artifact OUT/model.safetensors")
    assert everything.words(job, tmp_path / "my files")[-1] == f"{tmp_path}/my files/model.safetensors"


def test_no_two_jobs_write_one_file(everything):
    names = [job.name for job in everything.JOBS]
    assert len(set(names)) == len(names)


def test_streams_share_no_core_and_no_folder_but_the_data(everything):
    cores = [{job.cores for job in stream} for stream in everything.ACCURACY]
    folders = [{w for j in s for w in j.command.split() if w.startswith("OUT/")} for s in everything.ACCURACY]
    assert cores == [{"0"}, {"1"}]
    assert folders[0] & folders[1] == {"OUT/criteo"}


def test_a_stream_that_is_ended_begins_no_other_job(everything, tmp_path):
    ended, console = Event(), Console(quiet=True)
    good = everything.Job("good", "deeplight --version", "")
    assert [row[:2] for row in everything.in_turn([good], tmp_path, console, ended)] == [("good", "done")]
    ended.set()
    assert everything.in_turn([good._replace(name="other")], tmp_path, console, ended) == []
    assert [p.name for p in tmp_path.iterdir()] == ["good.txt"]


def test_a_job_that_fails_leaves_no_whole_file(everything, tmp_path):
    good = everything.Job("good", "deeplight --version", "")
    bad = everything.Job("bad", "deeplight train --workdir OUT", "")
    assert everything.state_after(good, tmp_path) == "done"
    assert everything.state_after(good, tmp_path) == "done before"
    assert everything.state_after(bad, tmp_path) == "failed: see bad.partial"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.partial", "good.txt"]
    text = (tmp_path / "good.txt").read_text(encoding="utf-8")
    assert text.startswith("$ deeplight --version\ncommit ")
    assert "deeplight 0.1.0" in text


def test_what_is_not_there_is_named(everything, tmp_path):
    job = everything.Job("x", "deeplight --version", needs="criteo no_such_module")
    assert everything.state_after(job, tmp_path) == "not run: no criteo, no_such_module"
    assert list(tmp_path.iterdir()) == []
