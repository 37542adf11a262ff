"""A batch split over threads scores as one thread does, bit for bit, and blames the same row."""

import numpy as np
import pytest
from levels import NATIVE_LEVELS
from random_models import MIXED, config_of, random_params, random_rows

from deeplight_jax.errors import ArtifactError, DataError
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import build

ROWS = 9 * 1024 + 1  # one row behind the last whole block


def engine_of(threads, level=None, name="deepfwfm"):
    params = random_params(name, MIXED, 0, {"dnn": 0.5, "embedding": 0.7, "field": 0.5})
    return build(Artifact(compact(config_of(name).model, MIXED, params), {}, {}), level, threads)


@pytest.mark.parametrize("level", NATIVE_LEVELS)
@pytest.mark.parametrize("threads", [2, 3, 8, 1000])
def test_any_number_of_threads_scores_as_one(level, threads):
    ids, values = random_rows(MIXED, ROWS, 1)
    one, many = engine_of(1, level), engine_of(threads, level)
    for rows in (ROWS, 2048, 2049, 2047, 31, 1, 0):
        for kind in ("score", "logits"):
            found, wanted = (getattr(e, kind)(ids[:rows], values[:rows]) for e in (many, one))
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("level", NATIVE_LEVELS)
@pytest.mark.parametrize("bad", [(0,), (5000,), (ROWS - 1,), (8000, 3000, 6000)])
def test_the_first_bad_row_is_named(level, bad):
    ids, values = random_rows(MIXED, ROWS, 1)
    for row in bad:
        ids[row, 1] = 99
    with pytest.raises(DataError, match=rf"row {min(bad)}, field c1: id 99"):
        engine_of(4, level).score(ids, values)


@pytest.mark.parametrize("level", NATIVE_LEVELS)
def test_a_logit_that_is_not_a_number_is_named_wherever_it_is(level):
    ids, values = random_rows(MIXED, ROWS, 1)
    engine = engine_of(4, level, "fm")
    values[7777] = np.float32(3e38)  # its square less its square
    with pytest.raises(DataError, match=r"row 7777: its logit is not a number"):
        engine.score(ids, values)


@pytest.mark.parametrize("threads", [0, -1, 1 << 20])
def test_a_number_of_threads_that_cannot_be_is_refused(threads):
    with pytest.raises(ArtifactError, match=f"threads is {threads}"):
        engine_of(threads)
