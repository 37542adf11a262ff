"""export --table: the file's format, its certificate, and when it is refused."""

import json

import numpy as np
import pytest

from deeplight_jax import serving
from deeplight_jax.cli import main
from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving import certificate


@pytest.mark.parametrize(
    ("form", "limit", "largest"), [("packed", 1e-5, 1e-5), ("bf16", 5e-2, 2e-2), ("int8", 5e-2, 4e-2)]
)
def test_a_format_is_certified_by_what_it_promises(run, exported, tmp_path, capsys, form, limit, largest):
    path = tmp_path / f"{form}.safetensors"
    assert main(["export", "--run", str(run), "--out", str(path), "--table", form]) == 0
    assert form in capsys.readouterr().out
    engine = serving.load(path)
    found = engine.about["certificate"]
    assert (found["table"], found["limit"]) == (form, limit)
    assert 0 < found["mean_error"] <= found["max_error"] < largest
    assert (found["max_error"] > 1e-5) == (form != "packed")
    assert found["roc_auc"]["jax"] == pytest.approx(found["roc_auc"]["engine"], abs=1e-3)
    assert found["log_loss"]["jax"] == pytest.approx(found["log_loss"]["engine"], abs=1e-3)
    whole = serving.load(exported)
    assert engine.compact.table.nbytes < whole.compact.table.nbytes
    command = ["export", "--run", str(run), "--verify", str(path), "--json"]
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)["certificate"]
    assert again == found


def test_a_ranking_that_the_format_changes_is_refused():
    certificate._check_areas({"jax": 0.8, "engine": 0.7995})
    certificate._check_areas({"jax": None, "engine": None})
    with pytest.raises(ArtifactError, match=r"ROC AUC is 0\.800000 by JAX and 0\.798000 .*--table packed"):
        certificate._check_areas({"jax": 0.8, "engine": 0.798})


def test_a_logit_past_the_wider_limit_is_refused():
    wanted = np.array([0.0, 2.0], np.float32)
    certificate._errors(wanted + np.float32(0.04), wanted, np.arange(2), certificate.LOSSY_LIMIT)
    with pytest.raises(ArtifactError, match=r"row 1 has logit 2 .* which may differ by 0\.05"):
        certificate._errors(np.float32([0, 2.2]), wanted, np.arange(2), certificate.LOSSY_LIMIT)
