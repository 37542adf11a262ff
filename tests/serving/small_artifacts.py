"""Small artifacts of every model that has a compact form, as files."""

from pathlib import Path

from random_models import CASES, MIXED, config_of, random_params

from deeplight_jax.serving.artifact import Artifact, save
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.structure import with_table
from deeplight_jax.serving.tables import FORMATS, TableFormat

KEPT = {"dnn": 0.5, "embedding": 0.7, "field": 0.5}
VOCABULARIES = {"c0": b"a\t3\nb\t2\n\xc3\xbc\t1\n", "c1": b""}


def small(name="deepfwfm", schema=MIXED, seed=0, about=None, **options) -> Artifact:
    made = compact(
        config_of(name, **options).model, schema, random_params(name, schema, seed, KEPT, **options)
    )
    return Artifact(made, about or {"model": {"name": name}, "note": "ü"}, VOCABULARIES)


def stored(found: Artifact, form: TableFormat) -> Artifact:
    """The same with its table in another format."""
    return found._replace(model=with_table(found.compact, form))


def write_seeds(directory: Path) -> list[Path]:
    """One file of each case of `random_models`, and of each format of a table."""
    directory.mkdir(parents=True, exist_ok=True)
    made = {f"{i:02d}-{name}": small(name, seed=i, **options) for i, (name, options) in enumerate(CASES)}
    made |= {f"table-{form}": stored(small(), form) for form in FORMATS}
    for name, found in made.items():
        save(directory / f"{name}.safetensors", found)
    return [directory / f"{name}.safetensors" for name in made]
