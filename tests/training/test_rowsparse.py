"""Row-sparse updates: against float64 loops, exact Adam, and what must not move."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from whole_runs import LONG, assert_equal_trees, final_state, run_until

from deeplight_jax.config import config_hash, default_config, from_json, override, to_json
from deeplight_jax.data.schema import Batch, Field, Schema
from deeplight_jax.errors import ConfigError, RunError
from deeplight_jax.models import MODELS, abstract_params, build_model, row_tables
from deeplight_jax.training.loop import train
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import make_plan
from deeplight_jax.training.rowsparse import Rows, _found_by_sort, distinct
from deeplight_jax.training.state import abstract_state, init_state
from deeplight_jax.training.step import loss_of, make_train_step

KINDS = ("lazy_adam", "rowwise_adagrad")
NUMERIC, SIZES, ROWS = 2, (9, 40), 8
SCHEMA = Schema(
    (
        *(Field(f"x{i}", "numeric", 1) for i in range(NUMERIC)),
        *(Field(f"c{i}", "categorical", n) for i, n in enumerate(SIZES)),
    )
)
SMALL = {
    "model.embedding_dim": 3,
    "model.hidden": (8, 6),
    "model.cin": (4, 4),
    "model.attention_units": 4,
    "model.hash_buckets": 5_000,
    "data.batch_size": ROWS,
}
PRUNED = {"sparsity.embedding": 0.5, "sparsity.warmup_epochs": 0.0, "sparsity.interval_steps": 3,
          "sparsity.damping_steps": 1e-3}  # fmt: skip


def config_of(kind, name="deepfwfm", **changes):
    settings = {**SMALL, "model.name": name, "optim.embedding": kind}
    return override(default_config(), settings | {k.replace("__", "."): v for k, v in changes.items()})


def started(config, schema=SCHEMA, start=None):
    """A run's jitted step and its state, or with `start=abstract_state` that state's shapes."""
    model = build_model(config, schema)
    _, labels = abstract_params(model, schema)
    plan = make_plan(config, 1_000 * config.data.batch_size)
    optimizer = build_optimizer(config, labels, plan, row_tables(model, schema))
    state = start(model, schema, optimizer) if start else init_state(model, schema, optimizer, 0)
    return make_train_step(model, optimizer, config), state


def batch(seed, rows=ROWS, highest=SIZES):
    """Random rows whose ids repeat; some numeric values are missing (0)."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, n, rows) for n in highest], axis=1).astype(np.int32)
    values = rng.normal(size=(rows, NUMERIC)).astype(np.float32) * (rng.random((rows, NUMERIC)) < 0.7)
    label = rng.integers(0, 2, rows).astype(np.float32)
    return Batch(ids, values, label, np.ones(rows, np.float32))


def offset_ids(b):
    return b.ids + np.cumsum([NUMERIC, *SIZES[:-1]])


def copied(tree):
    return jax.tree.map(np.array, tree)


@pytest.mark.parametrize("find", [distinct, lambda reads: Rows(*_found_by_sort(*reads))])
def test_slots_of_rows(find):
    reads = (np.array([0, 1]), np.array([[7, 3], [7, 1], [9, 7]]))
    rows = find([jnp.asarray(r) for r in reads])
    number, first = np.asarray(rows.number), np.asarray(rows.first)
    assert list(number) == [0, 1, 1, 3, 7, 7, 7, 9]
    assert list(number[first]) == [0, 1, 3, 7, 9]
    for read, slots in zip(reads, rows.reads, strict=True):
        np.testing.assert_array_equal(number[slots], read)
        assert first[slots].all()


class Oracle:
    """FM trained in float64 loops: exact Adam of the bias, a rule of tables for the rows that are read."""

    def __init__(self, params, optim):
        self.optim, self.step = optim, 0
        self.bias = np.zeros(3)  # weight, m, v
        self.tables = {name: np.float64(params[name]["table"]) for name in ("weights", "embedding")}
        self.m = {name: np.zeros_like(t) for name, t in self.tables.items()}
        self.v = {name: np.zeros_like(t) for name, t in self.tables.items()}
        self.sums = {name: np.zeros(len(t)) for name, t in self.tables.items()}

    def gradients(self, b):
        """dloss/dbias, and {table: {row: gradient}} of the rows read, whose duplicates are summed."""
        w, e = self.tables["weights"], self.tables["embedding"]
        found = {"weights": {}, "embedding": {}}
        of_bias, ids = 0.0, offset_ids(b)
        for i in range(len(b.label)):
            rows = [*range(NUMERIC), *ids[i]]
            x = [*np.float64(b.values[i]), *np.ones(len(SIZES))]
            shown = [x[f] * e[r] for f, r in enumerate(rows)]
            z = self.bias[0] + sum(x[f] * w[r, 0] for f, r in enumerate(rows))
            z += sum(shown[f] @ shown[g] for f in range(len(rows)) for g in range(f))
            error = (1 / (1 + np.exp(-z)) - b.label[i]) / len(b.label)
            of_bias += error
            for f, r in enumerate(rows):
                others = sum(shown[g] for g in range(len(rows)) if g != f)
                for name, g in (("weights", [error * x[f]]), ("embedding", error * x[f] * others)):
                    found[name][r] = found[name].get(r, 0.0) + np.asarray(g)
        return of_bias, found

    def adam(self, w, m, v, g, rate):
        o, t = self.optim, self.step
        m, v = o.b1 * m + (1 - o.b1) * g, o.b2 * v + (1 - o.b2) * g * g
        return w - rate * (m / (1 - o.b1**t)) / (np.sqrt(v / (1 - o.b2**t)) + o.eps), m, v

    def advance(self, b):
        o = self.optim
        self.step += 1
        of_bias, found = self.gradients(b)
        w, m, v = self.bias
        self.bias[:] = self.adam(w, m, v, of_bias + o.l2 * w, o.learning_rate)
        for name, rows in found.items():
            table, m, v = self.tables[name], self.m[name], self.v[name]
            for r, g in rows.items():
                g = g + (o.l2 + (o.embedding_l2 if name == "embedding" else 0.0)) * table[r]
                if o.embedding == "lazy_adam":
                    table[r], m[r], v[r] = self.adam(table[r], m[r], v[r], g, o.embedding_learning_rate)
                else:
                    self.sums[name][r] += np.mean(g * g)
                    step = g / (np.sqrt(self.sums[name][r]) + o.eps)
                    table[r] -= o.embedding_learning_rate * step


@pytest.mark.parametrize("kind", KINDS)
def test_against_float64_loops(kind):
    config = config_of(
        kind, "fm", optim__learning_rate=0.02, optim__embedding_learning_rate=0.05, optim__l2=0.01,
        optim__embedding_l2=0.03, optim__b2=0.9, optim__eps=1e-3, model__embedding_std=0.5,
    )  # fmt: skip
    step, state = started(config)
    oracle = Oracle(copied(state.params), config.optim)
    for i in range(7):
        b = batch(i, highest=(4, 12))
        assert len(np.unique(offset_ids(b))) < b.ids.size  # rows repeat within a batch
        oracle.advance(b)
        state, _ = step(state, b)
    np.testing.assert_allclose(state.params["bias"], oracle.bias[0], rtol=1e-4)
    for name, table in oracle.tables.items():
        np.testing.assert_allclose(state.params[name]["table"], table, rtol=1e-4, atol=1e-6)


def test_lazy_adam_is_adam_where_each_step_reads_every_row():
    found = []
    for kind in ("adam", "lazy_adam"):
        step, state = started(config_of(kind, optim__l2=0.0, optim__learning_rate=0.01, data__batch_size=60))
        for i in range(5):
            b = batch(i, rows=60)
            ids = np.stack([np.arange(60) % n for n in SIZES], axis=1).astype(np.int32)
            state, loss = step(state, b._replace(ids=ids))
        found.append((loss, state.params, state.opt_state[0].inner_state))
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])
    for a, b in zip(jax.tree.leaves(found[0]), jax.tree.leaves(found[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_exact_adam_moves_the_rows_that_lazy_adam_leaves():
    moved = {}
    for kind in ("adam", "lazy_adam"):
        step, state = started(config_of(kind, optim__l2=1e-3))
        before = copied(state.params["embedding"]["table"])
        for i in range(3):
            state, _ = step(state, batch(i, highest=(2, 2)))
        moved[kind] = (np.asarray(state.params["embedding"]["table"]) != before).any(axis=1).sum()
    assert moved == {"adam": SCHEMA.num_rows, "lazy_adam": NUMERIC + 4}


FEW = ("lr", "poly2", "ffm", "deepfwfm")  # one for each kind of table; the others read theirs alike


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((n, KINDS[0]) for n in FEW),
        ("poly2", KINDS[1]),
        ("deepfwfm", KINDS[1]),
        *(pytest.param(n, KINDS[0], marks=LONG) for n in MODELS if n not in FEW),
    ],
)
def test_every_model_moves_the_rows_read_and_no_others(name, kind):
    """Bit for bit, moments too; the first step's loss is that of exact training."""
    config, b = config_of(kind, name, model__linear="weights"), batch(0, highest=(3, 3))
    step, state = started(config)
    exact = jax.jit(loss_of(build_model(config, SCHEMA), config))(state.params, state, b)
    before = copied((state.params, state.opt_state))
    state, loss = step(state, b)
    np.testing.assert_allclose(loss, exact, rtol=1e-6)
    read = np.unique([*range(NUMERIC), *offset_ids(b).ravel()])
    tables = row_tables(build_model(config, SCHEMA), SCHEMA)
    after, start = flatten_dict(copied(state.params)), flatten_dict(before[0])
    assert tables
    assert {path: p.shape for path, p in after.items()} == {path: p.shape for path, p in start.items()}
    for path in tables:
        moved = moved_rows(after[path], start[path])
        if path == ("pairs", "table"):
            assert 0 < len(moved) <= ROWS * 6
        else:
            assert len(moved) > NUMERIC
            assert set(moved) <= set(read)
    moments = [jax.tree.leaves(s[0].inner_state) for s in (copied(state.opt_state), before[1])]
    for leaf, old in zip(*moments, strict=True):
        if leaf.ndim and len(leaf) == SCHEMA.num_rows:
            moved = moved_rows(leaf, old)
            assert len(moved) > NUMERIC
            assert set(moved) <= set(read)


def moved_rows(after, before):
    return np.flatnonzero((after != before).reshape(len(after), -1).any(axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_pruned_rows_return_when_they_are_read_and_not_before(kind):
    step, state = started(config_of(kind, optim__learning_rate=0.05, **PRUNED))
    for i in range(3):
        state, _ = step(state, batch(i))
    table, keep = (np.array(t["embedding"]["table"]) for t in (state.params, state.masks))
    assert (~keep).sum() == round(0.5 * keep.size)
    assert not table[~keep].any()
    b = batch(9, highest=(2, 2))
    state, _ = step(state, b)
    after, read = np.asarray(state.params["embedding"]["table"]), np.zeros(len(table), bool)
    read[[*range(NUMERIC), *offset_ids(b).ravel()]] = True
    assert after[read[:, None] & ~keep].any()
    np.testing.assert_array_equal(after[~read], table[~read])


@pytest.mark.parametrize(
    ("kind", "held"), [(KINDS[0], {"sparsity__regrow": False}), (KINDS[1], {"sparsity__growth": "random"})]
)
def test_held_weights_stay_at_zero(kind, held):
    config = config_of(kind, optim__learning_rate=0.05, **PRUNED, **held, sparsity__dnn=0.5)
    step, state = started(config)
    for i in range(8):
        state, _ = step(state, batch(i))
        masks, params = (flatten_dict(copied(tree)) for tree in (state.masks, state.params))
        for path in (("embedding", "table"), ("deep", "hidden_0", "kernel")):
            assert not params[path][~masks[path]].any()
            assert masks[path].all() == (i < 2)


def test_a_step_that_is_not_finite_is_left_out():
    step, state = started(config_of("lazy_adam", train__on_nonfinite="skip", **PRUNED))
    for i in range(4):
        state, _ = step(state, batch(i))
    before = copied(state)
    state, loss = step(state, batch(4)._replace(values=np.full((ROWS, NUMERIC), np.inf, np.float32)))
    assert np.isnan(loss)
    assert int(state.step) == int(before.step) + 1
    assert_equal_trees(state.replace(step=before.step), before)
    state, loss = step(state, batch(5))
    assert np.isfinite(loss)
    assert (np.asarray(state.params["embedding"]["table"]) != before.params["embedding"]["table"]).any()


@pytest.mark.parametrize(
    "changes", [{}, {"train__on_nonfinite": "skip"}, {"model__linear": "weights"}, PRUNED]
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_compiled_step_does_nothing_to_a_whole_table(kind, changes):
    """Behind an event, which is a loop of its own, whole tables are passed on and written to, no more."""
    size = 100_003  # table rows: a number that stands for nothing else
    schema = Schema((Field("x0", "numeric", 1), Field("x1", "numeric", 1), Field("c0", "categorical", 9),
                     Field("c1", "categorical", size - 11)))  # fmt: skip
    step, state = started(config_of(kind, **changes), schema, abstract_state)
    text = step.lower(state, batch(0)).compile().as_text()
    entry = text[text.index("\nENTRY") :]
    made = re.findall(rf"= \(?\w+\[{size}[,\]][^=]*? ([a-z-]+)\(", entry if changes is PRUNED else text)
    assert "parameter" in made
    written = {"scatter", "dynamic-update-slice"}
    assert set(made) <= written | {"parameter", "get-tuple-element", "while", "tuple", "fusion", "call"}
    assert "copy" not in made


@pytest.mark.parametrize("kind", [KINDS[0], pytest.param(KINDS[1], marks=LONG)])
def test_an_interrupted_run_goes_on_bit_for_bit(kind, config, world, tmp_path):
    config = override(config, {"optim.embedding": kind, "train.checkpoint_steps": 11})
    result = train(config, tmp_path / "calm")

    run_until(config, tmp_path / "stopped", 40)
    assert train(config, tmp_path / "stopped")["log_loss"] == result["log_loss"] < 0.8
    found = [final_state(config, tmp_path / name, world) for name in ("calm", "stopped")]
    assert_equal_trees(*found)


def test_a_run_goes_on_from_one_with_the_same_moments(config, tmp_path):
    dense = {"sparsity.dnn": 0.0, "sparsity.field": 0.0, "sparsity.embedding": 0.0, "train.epochs": 1}
    train(override(config, dense), tmp_path / "adam")
    onward = override(config, {"train.init_from": tmp_path / "adam", "optim.embedding": "lazy_adam"})
    assert train(onward, tmp_path / "lazy")["roc_auc"] > 0.5
    with pytest.raises(RunError, match=r"moments of another optimizer than optim.embedding=rowwise_adagrad"):
        train(override(onward, {"optim.embedding": "rowwise_adagrad"}), tmp_path / "rowwise")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"sparsity__criterion": "movement"},
            "sparsity.criterion=movement reads the gradient of whole tables",
        ),
        ({"sparsity__criterion": "saliency"}, "sparsity.criterion=saliency reads"),
        ({"sparsity__growth": "gradient"}, "sparsity.growth=gradient reads"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_needs_whole_gradients_is_refused(kind, changes, told):
    with pytest.raises(ConfigError, match=told):
        started(config_of(kind, **PRUNED, **changes))
    started(config_of("adam", **PRUNED, **changes), start=abstract_state)


def test_other_refusals():
    with pytest.raises(ConfigError, match=r"optim.embedding_learning_rate is for"):
        started(config_of("adam", optim__embedding_learning_rate=0.1))
    with pytest.raises(ConfigError, match="did you mean"):
        config_of("lazy_adm")
    model = build_model(config := config_of("lazy_adam"), SCHEMA)
    with pytest.raises(ValueError, match="needs tables"):
        build_optimizer(config, abstract_params(model, SCHEMA)[1], make_plan(config, 1_000))


def test_configs_from_before_the_keys_keep_their_hashes():
    base = default_config()
    assert config_hash(base) == "6ec85f93e88d207ad1b1d25c3c8cf9d71e749b8830ae6ebf3a51583aa527bacf"
    older = json.loads(to_json(base))
    del older["optim"]["embedding"], older["optim"]["embedding_learning_rate"]
    assert config_hash(from_json(json.dumps(older))) == config_hash(base)
    assert config_hash(config_of("lazy_adam")) != config_hash(config_of("adam"))
