"""C programs with the library in them, under the sanitizers: the example, threads that share an engine."""

import hashlib
import os
import subprocess

import numpy as np
import pytest
from c_library import ROOT, built
from random_models import CASES, MIXED, SCHEMAS, random_rows
from small_artifacts import small

from deeplight_jax import serving
from deeplight_jax.serving import native
from deeplight_jax.serving.artifact import save

needs_native = pytest.mark.skipif(not native.available(), reason="the native engine was not built")


def ran(program, *arguments, text=""):
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, input=text, check=False, capture_output=True, text=True)


@pytest.fixture(scope="session")
def example(linked):
    return built(linked, ROOT / "examples/score.c", "-std=c11")


def lines_of(ids, values):
    rows = zip(values.tolist(), ids.tolist(), strict=True)
    return "".join(" ".join(map(str, [*row, *own])) + "\n" for row, own in rows)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_the_example_scores_lines_of_text_as_python_does(example, tmp_path, name, options):
    path = tmp_path / "model.safetensors"
    for schema in SCHEMAS.values():
        save(path, small(name, schema, **options))
        rows = random_rows(schema, 1100, 2)  # more than its block
        found = ran(example, path, text=lines_of(*rows))
        assert (found.returncode, found.stderr) == (0, "")
        scores = np.array(found.stdout.split(), np.float32)
        np.testing.assert_allclose(scores, serving.load(path).score(*rows), rtol=1e-5, atol=1e-6)


@needs_native
def test_the_example_s_text_holds_a_score_whole(native_build, tmp_path):
    """Bit for bit, where the library is optimised as Python's is: nine digits give a float32 back."""
    if "DEEPLIGHT_TEST_BUILD" in os.environ:
        pytest.skip("built with the sanitizers, which round otherwise")
    plain = built((native_build, []), ROOT / "examples/score.c", "-std=c11")
    path = tmp_path / "model.safetensors"
    save(path, small())
    rows = random_rows(MIXED, 300, 3)
    scores = np.array(ran(plain, path, text=lines_of(*rows)).stdout.split(), np.float32)
    np.testing.assert_array_equal(scores, serving.load(path).score(*rows))


def test_the_example_lists_fields_and_names_what_is_wrong(example, tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, small())
    listed = [line.split("\t") for line in ran(example, path, "--fields").stdout.splitlines()]
    assert listed == [[f.name, f.kind, str(f.size)] for f in MIXED.fields]
    assert (ran(example, path).returncode, ran(example, path).stdout) == (0, "")
    for text, named in (
        ("0 0 1 1 1\n0 0 1 1\n", "line 2 does not hold 2 values and 3 ids"),
        ("0 0 1 1 1 1\n", "line 1 does not hold"),
        ("0 x 1 1 1\n", "line 1 does not hold"),
        ("0 0 1 1 99999999999\n", "line 1 does not hold"),
        ("0 0 1 1 1\n0 nan 1 1 1\n", "from line 1: row 1: the value of numeric field 1 is not finite"),
        ("0 0 1 3 1\n", "from line 1: row 0: id 3 of categorical field 1 is outside 0 to 2"),
    ):
        found = ran(example, path, text=text)
        assert (found.returncode, found.stdout) == (1, "")
        assert named in found.stderr
    missing = ran(example, tmp_path / "missing")
    assert (missing.returncode, missing.stderr) == (
        1,
        f"score: {tmp_path}/missing: no such file; `deeplight export` writes one\n",
    )


def test_sha256_is_hashlib_s_by_either_way(linked):
    program = built(linked, ROOT / "tests/native/sha256.cpp", "-std=c++17")
    data = np.random.default_rng(0).bytes(100_003)
    found = subprocess.run([str(program)], input=data, check=True, capture_output=True).stdout.decode()
    wanted = [hashlib.sha256(data[:n]).hexdigest() for n in [*range(301), len(data)]]
    assert [line.split() for line in found.splitlines()] == [[digest, digest] for digest in wanted]


def test_threads_score_as_one_thread_does(linked, tmp_path):
    program = built(linked, ROOT / "tests/native/threads.cpp", "-std=c++17")
    path = tmp_path / "model.safetensors"
    for name in ("lr", "nfm", "deepfwfm"):
        save(path, small(name))
        found = ran(program, path, "20")
        assert (found.returncode, found.stderr) == (0, "")
        assert found.stdout == "4 threads scored 20 mixed batches each as one thread does\n"
