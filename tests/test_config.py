"""Configuration: typos, types and ranges are refused, and what is saved comes back."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplight_jax.config import (
    config_hash,
    default_config,
    flatten,
    from_json,
    load_config,
    override,
    parse_code,
    set_code,
    to_json,
    validate,
)
from deeplight_jax.errors import ConfigError
from deeplight_jax.sweeping import load_sweep

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def test_overrides_are_typed_as_the_defaults():
    changed = override(
        default_config(),
        [
            "sparsity.dnn=0.99",
            "model.hidden=(8,4)",
            "train.epochs=3",
            "sparsity.regrow=false",
            "data.dir=/x=y",
        ],
    )
    assert changed.sparsity.dnn == 0.99
    assert changed.model.hidden == (8, 4)
    assert changed.train.epochs == 3
    assert changed.sparsity.regrow is False
    assert changed.data.dir == "/x=y"
    assert override(default_config(), {"optim.l2": 0}).optim.l2 == 0.0


def test_overriding_leaves_the_original_alone():
    config = default_config()
    override(config, ["train.epochs=3"])
    assert config.train.epochs == default_config().train.epochs


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("sparsity.dn=0.9", "unknown config key 'sparsity.dn'; did you mean 'sparsity.dnn'"),
        ("sparsty.dnn=0.9", "did you mean 'sparsity.dnn'"),
        ("train.seed=1", "did you mean 'seed'"),
        ("optim.epochs=3", "did you mean 'train.epochs'"),
        ("train.batch_size=100", "did you mean 'data.batch_size' or 'eval.batch_size'"),
        ("sparsity.dnn", "has no value"),
        ("sparsity.dnn=1.0", r"sparsity.dnn=1.0 must be a rate in \[0, 1\)"),
        ("sparsity.dnn=-0.1", "must be a rate"),
        ("sparsity.dnn=7", "must be a rate"),
        ("optim.learning_rate=nan", "not finite"),
        ("optim.learning_rate=0", "above 0"),
        ("train.epochs=2.5", "invalid literal"),
        ("train.epochs=many", "invalid literal"),
        ("data.batch_size=0", "1 or more"),
        ("model.hidden=(8,-4)", "layer sizes"),
        ("model.hidden=(8,4.5)", "layer sizes"),
        ("sparsity.short_schedule=maybe", "must be one of error, rescale, accept"),
        ("sparsity=D90", "unknown config key 'sparsity'"),
    ],
)
def test_mistakes_are_named(item, message):
    with pytest.raises(ConfigError, match=message):
        override(default_config(), [item])


def test_a_config_file_cannot_bring_wrong_types(tmp_path):
    file = tmp_path / "x.py"
    file.write_text(
        "from deeplight_jax import default_config\n"
        "def get_config(arg='a'):\n"
        "    c = default_config().copy_and_resolve_references()\n"
        "    c.model.name = arg\n"
        "    return c\n"
    )
    assert load_config(file).model.name == "a"
    assert load_config(f"{file}:fm", {"seed": 3}).model.name == "fm"
    file.write_text(
        "from dataclasses import dataclass\nfrom deeplight_jax import default_config\n"
        "@dataclass\nclass Wide:\n    units: int = 8\n"
        "def get_config():\n"
        "    c = default_config().copy_and_resolve_references()\n"
        "    c.model.hidden = (Wide().units,)\n"
        "    return c\n"
    )
    assert load_config(file).model.hidden == (8,)
    with pytest.raises(ConfigError, match="the shipped ones are in"):
        load_config(tmp_path / "y.py")
    file.write_text("x = 1\n")
    with pytest.raises(ConfigError, match="defines no get_config"):
        load_config(file)
    file.write_text("def get_config(): return {}\n")
    with pytest.raises(ConfigError, match="returned dict"):
        load_config(file)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def get_config(:\n", r"x\.py line 1: SyntaxError"),
        ("def get_config():\n    return nothing\n", r"x\.py line 2: NameError: name 'nothing'"),
        (
            "from deeplight_jax import default_config\n\ndef get_config():\n    c = default_config()"
            ".copy_and_resolve_references()\n    c.model.hiden = (8,)\n",
            r'x\.py line 5: AttributeError: .*hiden.*Did you mean "hidden"',
        ),
        ("raise ValueError('two\\nlines')\n", r"x\.py line 1: ValueError: two lines$"),
    ],
)
def test_a_mistake_in_a_config_file_is_named_with_its_line(tmp_path, code, said):
    (tmp_path / "x.py").write_text(code)
    with pytest.raises(ConfigError, match=said):
        load_config(tmp_path / "x.py")


def test_experiments_and_sweeps_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("experiments/criteo_deepfwfm.py:paper,D90").sparsity.dnn == 0.9
    assert len(load_sweep("sweeps/table5.py").grid) == 4
    with monkeypatch.context() as there:
        there.chdir(EXPERIMENTS.parent / "sweeps")
        assert len(load_sweep("table5.py").grid) == 4
    with pytest.raises(ConfigError, match=r"no config file experiments/criteo_deepfwm\.py; did you mean"):
        load_config("experiments/criteo_deepfwm.py")
    with pytest.raises(ConfigError, match=r"'sweeps/table5\.py'"):
        load_sweep("sweeps/tabel5.py")
    (tmp_path / "experiments").mkdir()  # a folder's own file comes first
    (tmp_path / "experiments/criteo_deepfwfm.py").write_text(
        "from deeplight_jax import default_config as get_config"
    )
    assert load_config("experiments/criteo_deepfwfm.py").sparsity.dnn == 0.0


def test_a_foreign_key_or_type_fails_validation():
    config = default_config().copy_and_resolve_references().unlock()
    config.extra = 1
    with pytest.raises(ConfigError, match="unknown config key 'extra'"):
        validate(config)
    del config.extra
    del config.seed
    with pytest.raises(ConfigError, match="config lacks seed"):
        validate(config)


def test_saved_config_comes_back_whole():
    config = override(default_config(), ["model.hidden=(3,2)", "optim.l2=1e-7"])
    back = from_json(to_json(config))
    assert flatten(back) == flatten(config)
    assert config_hash(back) == config_hash(config)
    older = json.loads(to_json(config))
    del older["sparsity"]["init_masks"]  # a run from before the key
    assert flatten(from_json(json.dumps(older))) == flatten(config)
    for text in ("{", "{}", "[]", to_json(config).replace("hidden", "hiden")):
        with pytest.raises(ConfigError):
            from_json(text)


def test_hash_follows_settings_but_not_places():
    base = config_hash(default_config())
    assert config_hash(override(default_config(), ["data.dir=/elsewhere"])) == base
    assert config_hash(override(default_config(), ["seed=1"])) != base


def test_codes():
    assert parse_code("D90-R90-F40") == {"dnn": 0.9, "field": 0.9, "embedding": 0.4}
    assert parse_code("C39.5") == {"cin": 0.395}
    for bad in ("", "D90-", "Z90", "D100", "D90-D80", "d90", "D-90"):
        with pytest.raises(ConfigError, match="sparsity code"):
            parse_code(bad)


@given(st.dictionaries(st.sampled_from("DRFCXA"), st.integers(0, 99), min_size=1))
def test_codes_round_trip(rates):
    config = default_config().copy_and_resolve_references()
    config.sparsity.dnn = 0.5
    set_code(config, "-".join(f"{letter}{rate}" for letter, rate in rates.items()))
    names = {"D": "dnn", "R": "field", "F": "embedding", "C": "cin", "X": "cross", "A": "attention"}
    assert {n: config.sparsity[n] for n in names.values()} == {
        n: rates.get(letter, 0) / 100 for letter, n in names.items()
    }


@pytest.mark.parametrize(
    "name",
    [
        f"{f.name}:{arg}"
        for f in sorted(EXPERIMENTS.glob("*_deepfwfm.py"))
        for arg in ("paper", "released", "smoke")
    ],
)
def test_shipped_experiments_load(name):
    validate(load_config(EXPERIMENTS / name))
    with pytest.raises(ConfigError):
        load_config(EXPERIMENTS / (name.split(":")[0] + ":nonsense"))


def test_a_single_word_is_no_list_of_overrides():
    with pytest.raises(ConfigError, match="as a list, not as the single word 'seed=1'"):
        override(default_config(), "seed=1")
