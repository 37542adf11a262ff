"""Rivals: each computes what the engine computes, on every model with a compact form."""

import numpy as np
import pytest
from oracle import oracle
from random_models import CASES, CATEGORICAL, MIXED, NUMERIC, SCHEMAS, artifact_of, config_of, random_params

from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving import rivals
from deeplight_jax.serving.bench import draw_rows
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import build
from deeplight_jax.serving.rivals.dense import dense_of_artifact, dense_of_params, kind_of
from deeplight_jax.serving.rivals.forward import Ops, dense_logits

KEPT = {"dnn": 0.5, "embedding": 0.7, "field": 0.5}
NUMPY = Ops(np.concatenate, lambda x, kernel, bias: x @ kernel + bias, lambda x: np.maximum(x, 0))


def parts(name, schema, seed, kept, model):
    settings = config_of(name, **model).model.to_dict()
    params = random_params(name, schema, seed, kept, **model)
    return settings, params, compact(settings, schema, params)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize(("name", "model"), CASES)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_unfolded_model_has_the_trained_models_shapes_and_logits(name, model, schema, share):
    settings, params, structure = parts(name, schema, 3, dict.fromkeys(KEPT, share), model)
    kind = kind_of(settings, schema, structure.dim)
    unfolded, trained = dense_of_artifact(structure, settings), dense_of_params(settings, schema, params)
    ids, values = draw_rows(schema, "cold", 60)
    wanted = oracle(name, schema, params, ids, values)
    for arrays in (unfolded, trained):
        found = dense_logits(kind, arrays, ids, values, NUMPY)
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    shapes = [[kernel.shape for kernel, _ in arrays.layers] for arrays in (unfolded, trained)]
    assert shapes[0] == shapes[1]
    assert (unfolded.cross is None) == (trained.cross is None)
    assert kind.net_input == "none" or unfolded.output.shape == trained.output.shape


RIVAL_CASES = [
    ("lr", {}),
    ("fm", {}),
    ("fwfm", {}),
    ("widedeep", {}),
    ("deepfm", {}),
    ("nfm", {}),
    ("nfm", {"nfm_pooling": "pairwise"}),
    ("deepfwfm", {}),
    ("deepfwfm", {"field_matrix": "full", "linear": "weights"}),
]


@pytest.mark.parametrize(("name", "model"), RIVAL_CASES)
@pytest.mark.parametrize("group", ["onnxruntime", "scipy", "jax"])
def test_every_rival_of_every_model_passes_its_check(name, model, group):
    if group == "onnxruntime":
        pytest.importorskip("onnxruntime")
    engine = build(artifact_of(name, **model))
    made = rivals.make_rivals([group], engine)
    assert not made.left_out
    assert list(made.scorers) == list(rivals.RIVALS[group])


@pytest.mark.parametrize("schema", [CATEGORICAL, NUMERIC], ids=["categorical", "numeric"])
@pytest.mark.parametrize("group", ["onnxruntime", "scipy", "jax"])
def test_fields_may_be_of_one_kind(schema, group):
    if group == "onnxruntime":
        pytest.importorskip("onnxruntime")
    engine = build(artifact_of("deepfwfm", schema))
    assert not rivals.make_rivals([group], engine).left_out


@pytest.mark.parametrize(("name", "model"), RIVAL_CASES)
def test_pytorch_passes_its_check(name, model, monkeypatch):
    pytest.importorskip("torch")
    eager = {n: r for n, r in rivals.RIVALS["torch"].items() if "compiled" not in n}
    monkeypatch.setitem(rivals.RIVALS, "torch", eager)
    made = rivals.make_rivals(["torch"], build(artifact_of(name, **model)))
    assert (list(made.scorers), made.left_out) == (list(eager), {})


@pytest.mark.filterwarnings("default")  # the compiler's own
def test_pytorchs_compiler_passes_its_check_or_says_why():
    pytest.importorskip("torch")
    made = rivals.make_rivals(["torch"], build(artifact_of()))
    assert set(made.scorers) | set(made.left_out) == set(rivals.RIVALS["torch"])
    assert set(made.left_out) <= {"PyTorch, dense, compiled"}


def test_a_net_that_is_all_constant_is_unfolded_to_zeros():
    settings, params, structure = parts("deepfwfm", MIXED, 3, {**KEPT, "dnn": 0.0}, {})
    assert structure.net_input == "none"
    arrays = dense_of_artifact(structure, settings)
    assert [kernel.shape for kernel, _ in arrays.layers] == [(5 * 3, 7), (7, 5)]
    ids, values = draw_rows(MIXED, "cold", 30)
    found = dense_logits(kind_of(settings, MIXED, 3), arrays, ids, values, NUMPY)
    np.testing.assert_allclose(found, oracle("deepfwfm", MIXED, params, ids, values), rtol=2e-5, atol=2e-5)


def test_a_narrow_models_widths_are_its_own():
    model = {"hidden": (40, 30), "narrow": 0.8}
    settings, params, structure = parts("deepfwfm", MIXED, 1, KEPT, model)
    arrays = dense_of_artifact(structure, settings)
    assert arrays.layers[0][0].shape == params["deep"]["hidden_0"]["kernel"].shape
    assert arrays.layers[1][0].shape == params["deep"]["hidden_1"]["kernel"].shape


def test_a_rival_that_is_not_installed_is_named_and_left_out(monkeypatch):
    missing = rivals.RIVALS["torch"]["PyTorch, dense"]._replace(needs=("no_such_library",))
    monkeypatch.setitem(rivals.RIVALS, "torch", {"PyTorch, dense": missing})
    made = rivals.make_rivals(["torch", "scipy"], build(artifact_of()))
    assert made.left_out == {"PyTorch, dense": "no_such_library is not installed; pip install torch"}
    assert list(made.scorers) == ["SciPy, CSR"]


def test_a_rivals_own_failure_is_told(monkeypatch):
    def fails(compact):
        raise RuntimeError("no such\n operator")

    monkeypatch.setattr("deeplight_jax.serving.rivals.scipy_csr.scipy_csr", fails)
    made = rivals.make_rivals(["scipy"], build(artifact_of()))
    assert made.left_out == {"SciPy, CSR": "RuntimeError: no such operator"}


def test_a_rival_that_computes_something_else_is_refused():
    engine = build(artifact_of())

    def otherwise(ids, values):
        return engine.logits(ids, values) * np.where(np.arange(len(ids)) == 7, 1.01, 1)

    rivals.check("honest", engine.logits, engine)
    with pytest.raises(ArtifactError, match="otherwise computes something else"):
        rivals.check("otherwise", otherwise, engine)
    with pytest.raises(ArtifactError, match="nothing computes"):
        rivals.check("nothing", lambda ids, values: np.full(len(ids), np.nan), engine)


def test_an_artifact_that_does_not_name_its_model_has_no_dense_rival():
    found = artifact_of()._replace(about={})
    with pytest.raises(ArtifactError, match="does not say which model"):
        rivals.make_rivals(["jax"], build(found))


def test_a_dense_model_of_another_run_is_refused():
    settings, params, _ = parts("deepfwfm", MIXED, 9, KEPT, {})
    with pytest.raises(ArtifactError, match="of the same run"):
        rivals.make_rivals(["jax"], build(artifact_of()), dense_of_params(settings, MIXED, params))
