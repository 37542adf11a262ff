"""Members in one program: each is the run it would be alone; batches are read once; failures stay alone."""

import json
import shutil
import signal
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import assert_same_run
from jax.sharding import Mesh
from jaxlib.version import __version_info__ as jaxlib_version
from whole_runs import LONG

from deeplight_jax.config import default_config, from_json, override
from deeplight_jax.data.loader import train_batches
from deeplight_jax.sweeping import Sweep, axis, codes, compiled, ledger, product, stacking
from deeplight_jax.sweeping.launch import Options, run_sweep
from deeplight_jax.sweeping.results import rows
from deeplight_jax.sweeping.stacking import AXIS, Place, fastest_layout, make_program, plan_place, stack, take
from deeplight_jax.training import run
from deeplight_jax.training import step as steps
from deeplight_jax.training.inspect import load_run
from deeplight_jax.training.job import make_job
from deeplight_jax.training.loop import train
from deeplight_jax.training.state import TrainState, init_state
from deeplight_jax.training.step import train_step_of
from deeplight_jax.training.stopping import Terminated, terminable

ROUNDING = 0.0 if jaxlib_version < (0, 11) else 1e-6

COMPILED = Options(backend="compiled", measure=False)


@pytest.fixture(scope="module")
def wide(config):
    """Twelve members: rates of three components, one of them dense, two learning rates, two seeds."""
    rates = codes("", "D50-R50-F20", "D90-R80")
    return Sweep(config, product(rates, axis("optim.learning_rate", [3e-3, 1e-2]), axis("seed", [0, 7])))


@pytest.fixture(scope="module")
def counted(wide, world, tmp_path_factory):
    """The twelve members run as one, batches and programs counted."""
    directory = tmp_path_factory.mktemp("compiled") / "s"
    patch = pytest.MonkeyPatch()
    batches, programs = [], []

    def counting(job, step):
        for batch in read(job, step):
            batches.append(step)
            yield batch

    read, make = compiled.batches_behind, compiled.make_program
    patch.setattr(compiled, "batches_behind", counting)
    patch.setattr(compiled, "make_program", lambda *a: programs.append(make(*a)) or programs[-1])
    status = run_sweep(wide, directory, COMPILED, data=world)
    patch.undo()
    return directory, status, batches, programs


def test_twelve_members_are_one_program_and_read_each_batch_once(counted):
    _, status, batches, programs = counted
    assert (len(status.done), status.failed) == (12, {})
    assert len(batches) == 2 * 13  # two epochs behind the warm-up
    assert [program._cache_size() for program in programs] == [1]


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_what_is_left_of_a_group_keeps_its_bits(counted, wide, world, tmp_path):
    """One that prunes less than the others do, alone on a device where two were: the same program, padded."""
    before, status, *_ = counted
    configs = {name: run.load_config_of(ledger.place(before, name)) for name in sorted(status.done)}
    left, config = next((name, c) for name, c in configs.items() if c.sparsity.dnn == 0.9)
    shutil.copytree(before, tmp_path / "s")
    shutil.rmtree(ledger.place(tmp_path / "s", left))
    assert run_sweep(wide, tmp_path / "s", COMPILED, data=world).failed == {}
    assert_same_run(ledger.place(tmp_path / "s", left), ledger.place(before, left), config, world)


@pytest.mark.parametrize("index", [0, 11])
def test_a_member_is_the_run_it_would_be_alone(index, counted, world, tmp_path):
    """Bit for bit: `lax.map` computes a member as its own program does, where XLA fuses nothing (as
    these tests tell jaxlib before 0.11). With fusion, and computed at once, members differ by rounding."""
    directory, status, _, _ = counted
    member = ledger.place(directory, status.done[index])
    config = from_json((member / "config.json").read_text())
    alone = train(config, tmp_path / "alone", data=world, split="valid")
    together = json.loads((member / "result.json").read_text())
    for result in (alone, together):
        assert result.pop("wall_s") > 0
    a, b = load_run(member), load_run(tmp_path / "alone")
    assert jax.tree.structure((a.params, a.masks)) == jax.tree.structure((b.params, b.masks))
    jax.tree.map(np.testing.assert_array_equal, a.masks, b.masks)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=ROUNDING, atol=ROUNDING), a.params, b.params
    )
    lines = [(p / "metrics.jsonl").read_text() for p in (member, tmp_path / "alone")]
    assert [line.keys() for line in rows_of(lines[0])] == [line.keys() for line in rows_of(lines[1])]
    assert together["components"] == alone["components"]
    assert together["log_loss"] == pytest.approx(alone["log_loss"], rel=ROUNDING, abs=0)
    if not ROUNDING:
        assert together == alone
        assert lines[0] == lines[1]


def test_programs_apart_train_members_as_one_with_a_branch(config, world, tmp_path, monkeypatch):
    """As on a GPU: one program for pruning events, one for other steps, batches drawn by a thread."""
    sweep = Sweep(config, codes("", "D90-R80"))
    programs, make = [], compiled.make_program
    monkeypatch.setattr(compiled, "make_program", lambda *a: programs.append(make(*a)) or programs[-1])
    found = []
    for apart in (False, True):
        for reader in (compiled, steps):  # of batches; of programs
            monkeypatch.setattr(reader, "device_is_apart", lambda apart=apart: apart)
        programs.clear()
        status = run_sweep(sweep, tmp_path / str(apart), COMPILED, data=world)
        assert (len(status.done), status.failed) == (2, {})
        assert [program._cache_size() for program in programs] == [1] * len(programs)
        assert len(programs) == 1 + apart
        found.append([load_run(ledger.place(tmp_path / str(apart), name)) for name in status.done])
    for a, b in zip(*found, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a.masks, b.masks)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a.params, b.params)


def test_members_that_begin_at_other_steps_are_the_runs_they_would_be_alone(config, world, tmp_path):
    train(override(config, {"train.epochs": 2}), tmp_path / "first", data=world)
    starts = axis("train.init_from", [f"{tmp_path / 'first'}@{step}" for step in (13, 26)])
    told = set()
    status = run_sweep(
        Sweep(config, starts), tmp_path / "s", COMPILED, data=world, progress=lambda *what: told.add(what[0])
    )
    assert status.failed == {}
    assert {"training", "evaluating"} <= told
    for name, evaluated in zip(status.done, ([26, 39], [39]), strict=True):
        member = ledger.place(tmp_path / "s", name)
        lines = rows_of((member / "metrics.jsonl").read_text())
        assert [line["step"] for line in lines if "split" in line] == evaluated
        alone = train(
            from_json((member / "config.json").read_text()), tmp_path / name, data=world, split="valid"
        )
        together = json.loads((member / "result.json").read_text())
        assert together["log_loss"] == pytest.approx(alone["log_loss"], rel=1e-6)


@LONG
def test_row_sparse_members_are_the_runs_they_would_be_alone(config, world, tmp_path):
    """Up to rounding: XLA orders some of a mapped step's sums in another way."""
    rates = axis("optim.embedding_learning_rate", [0.0, 0.02])
    sparse = override(config, {"optim.embedding": "rowwise_adagrad", "sparsity.embedding": 0.4})
    status = run_sweep(Sweep(sparse, rates), tmp_path / "s", COMPILED, data=world)
    assert (len(status.done), status.failed) == (2, {})
    for name in status.done:
        member = ledger.place(tmp_path / "s", name)
        train(from_json((member / "config.json").read_text()), tmp_path / name, data=world, split="valid")
        a, b = load_run(member), load_run(tmp_path / name)
        for x, y in zip(jax.tree.leaves(a.masks), jax.tree.leaves(b.masks), strict=True):
            np.testing.assert_array_equal(x, y)
        for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)


def outermost_loops(jaxpr):
    """While loops that are in no other, through calls."""
    found = []
    for e in jaxpr.eqns:
        inner = [p for p in e.params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
        if e.primitive.name == "while":
            found.append(e)
        else:
            found += [x for p in inner for x in outermost_loops(getattr(p, "jaxpr", p))]
    return found


def test_layouts_agree_and_pruning_stays_a_branch(config, world, tmp_path):
    """Three members one by one and all at once: within 1e-6 after ten steps and three events."""
    one = override(config, {"sparsity.dnn": 0.9, "sparsity.field": 0.5, "sparsity.warmup_epochs": 0.0})
    job = make_job(one, tmp_path / "run", world, lambda *_: None)
    step = train_step_of(job.model, job.optimizer, one)
    place = Place(Mesh(np.array(jax.local_devices()[:1]), (AXIS,)), 3)
    found = []
    for at_once in (1, 3):
        states = [init_state(job.model, world.schema, job.optimizer, seed) for seed in range(3)]
        program, state = make_program(step, place, at_once), stack(states, place)
        batches = train_batches(world.split("train"), 128, 0)
        if at_once == 3:
            (event,) = outermost_loops(jax.make_jaxpr(program)(state, next(batches)).jaxpr)
            (condition,) = [v for v in event.invars if v.aval.dtype == bool and v.aval.shape in ((), (3,))]
            assert condition.aval.shape == ()  # batched, it would run for every member in every step
            batches = train_batches(world.split("train"), 128, 0)
        for _ in range(10):
            state, losses = program(state, next(batches))
        assert losses.shape == (3,)
        found.append(jax.tree.leaves([take(state, i, place).params for i in range(3)]))
    for x, y in zip(*found, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_the_fastest_layout_is_measured_and_a_stack_has_its_members():
    """A step of one multiplication, over two devices: timed on copies; padding repeats the last."""

    def step(state, batch):
        params = {"w": state.params["w"] * batch}
        return state.replace(step=state.step + 1, params=params), jnp.sum(params["w"])

    states = [TrainState(jnp.int32(3), jnp.uint32(i), {"w": jnp.full(4, i + 1.0)}, ()) for i in range(7)]
    place = Place(Mesh(np.array(jax.local_devices()[:2]), (AXIS,)), 4)
    stacked = stack(states, place)
    assert fastest_layout(step, place, stacked, jnp.float32(2), steps=2) in (1, 4)  # a quarter of four is one
    after, losses = make_program(step, place, 2)(stacked, jnp.float32(2))
    np.testing.assert_array_equal(losses, [8.0 * (i + 1) for i in (*range(7), 6)])
    for i in range(7):
        one = take(after, i, place)
        assert (int(one.step), int(one.seed)) == (4, i)
        np.testing.assert_array_equal(one.params["w"], np.full(4, 2.0 * (i + 1)))


def test_members_are_spread_over_devices_in_equal_waves(monkeypatch):
    assert (plan_place(12, 100).mesh.size, plan_place(12, 100).per_device) == (8, 2)
    assert plan_place(3, 100).size == 3  # no device stands idle with padding
    assert plan_place(20, 100, per_device=1).size == 8  # three waves of 8, 8, 4
    assert plan_place(1, 100, whole=30)[1:] == (2,)  # beside padding, as it was beside another
    assert (plan_place(3, 100, whole=30).mesh.size, plan_place(3, 100, whole=30).per_device) == (2, 2)
    assert plan_place(1, 100, whole=8).per_device == plan_place(1, 100, 1, whole=30).per_device == 1
    monkeypatch.setattr(stacking, "_free_bytes", lambda devices: 1000)
    assert plan_place(20, 100).per_device == 2  # 1000 * 0.8 / (3 * 100)
    assert plan_place(20, 10_000).per_device == 1  # at least one, whatever it takes


def test_a_failing_member_leaves_the_others(config, world, tmp_path):
    grid = axis("optim.learning_rate", [1e-3, 1e30])
    wild = Sweep(override(config, {"model.dropout": 0.0, "train.epochs": 2}), grid)
    status = run_sweep(wild, tmp_path / "s", COMPILED, data=world)
    assert (len(status.done), len(status.failed)) == (1, 1)
    assert "loss is not finite at step" in next(iter(status.failed.values()))


def sent_at(step):
    """`make_program` whose program is sent SIGTERM when it begins that step."""
    make = compiled.make_program

    def make_watched(*arguments):
        program = make(*arguments)

        def watched(state, batch):
            if int(state.step) + 1 == step:
                signal.raise_signal(signal.SIGTERM)
            return program(state, batch)

        return watched

    return make_watched


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ([{28, 35}, {28, 35}, {28, 35}], [(35, "abc")]),
        ([{28}, {28, 35}, {28}], [(28, "abc")]),  # killed while they saved 35
        ([{28, 35}, {28}, set()], [(28, "ab"), (0, "c")]),  # and one fails before its first
        ([{28, 35}, {35, 42}, {14}, {35, 42}], [(35, "abd"), (14, "c")]),  # one failed long ago
        ([{7, 14}, {21, 28}, set()], [(14, "a"), (28, "b"), (0, "c")]),
        ([set(), set()], [(0, "ab")]),
    ],
)
def test_members_go_on_together_from_what_most_have_saved(saved, expected, tmp_path):
    lanes = []
    for name, found in zip("abcd", saved, strict=False):
        directory = tmp_path / name / "checkpoints"
        directory.mkdir(parents=True)
        for step in found:
            (directory / f"{step}.sha256.json").write_text("{}")
        job = SimpleNamespace(workdir=tmp_path / name, config=default_config())
        lanes.append(compiled.Lane(SimpleNamespace(name=name), job, tmp_path))  # pyright: ignore
    parts = compiled._by_resume_step(lanes)
    found = [(step, "".join(lane.member.name for lane in part)) for step, part in parts]
    assert sorted(found) == sorted(expected)


def test_a_kill_between_two_members_checkpoints_and_signals(counted, wide, world, tmp_path, monkeypatch):
    """In the second of two waves, when one of its members has saved and the other has not; then SIGTERM
    within an epoch, which saves there, and at its end, which leaves the evaluation to the next program."""
    directory = tmp_path / "s"
    shutil.copytree(counted[0] / "warmup", directory / "warmup")
    few = wide._replace(config=override(wide.config, {"train.keep": 1}), grid=wide.grid[:4])
    first = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: first)
    saved = []

    def save_or_die(*arguments):
        if len(saved) == 2 * 2 + 2 + 1:
            raise KeyboardInterrupt
        saved.append(save(*arguments))

    save = compiled.save
    monkeypatch.setattr(compiled, "save", save_or_die)
    two = COMPILED._replace(per_device=2)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(few, directory, two, data=world)
    assert [len(ledger.status(directory).done), len(saved)] == [2, 7]
    monkeypatch.setattr(compiled, "save", save)
    steps = []

    def go_on():
        return run_sweep(
            few, directory, two, data=world, progress=lambda w, n, _: w == "training" and steps.append(n)
        )

    for step in (30, 39):
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "make_program", sent_at(step))
            with pytest.raises(Terminated), terminable():
                go_on()
        assert steps[-1:] == [step - 1]
    status = go_on()
    assert len(status.done) == 4
    assert steps == [*range(26, 30), *range(30, 39), 39]  # from the epoch that both had saved, then at once
    for name, row, calm in zip(status.done, rows(directory), rows(counted[0]), strict=False):
        assert row["valid_log_loss"] == pytest.approx(calm["valid_log_loss"], abs=1e-7)  # another layout
        written = [ledger.place(d, name) / "metrics.jsonl" for d in (directory, counted[0])]
        lines = [[json.loads(line) for line in file.read_text().splitlines()] for file in written]
        assert len(lines[0]) == len(lines[1])
        for found, wanted in zip(*lines, strict=True):
            assert found == pytest.approx(wanted, abs=1e-6)
