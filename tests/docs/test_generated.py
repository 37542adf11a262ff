"""The reference made from the sources is whole: each command, argument, key and public name is explained."""

import argparse
import runpy
from pathlib import Path

import pytest

import deeplight_jax as dl
from deeplight_jax import keys

DOCS = Path(__file__).parents[2] / "docs"
MADE = runpy.run_path(str(DOCS / "generated.py"))


def test_every_command_and_argument_is_there_and_says_what_it_is_for():
    found = {name: (parser, about) for name, parser, about in MADE["commands"]()}
    assert {"prepare", "train", "export", "masks diff", "masks churn", "report"} <= set(found)
    text = MADE["commands_markdown"]()
    for name, (parser, about) in found.items():
        assert about, f"deeplight {name} has no help"
        assert f"## deeplight {name}\n" in text
        for action in parser._actions:
            shown = action.option_strings[-1] if action.option_strings else action.metavar
            assert action.help, f"deeplight {name}: {shown or action.dest} has no help"
            first = (shown or "{").partition("|")[0]  # in a table's cell | is escaped
            assert isinstance(action, argparse._HelpAction) or f"| `{first}" in text


def test_every_key_has_a_row_with_its_default_and_a_meaning():
    text, comments = MADE["keys_markdown"](), MADE["key_comments"]()
    assert set(comments) == set(MADE["every_key"]())
    assert "| `sparsity.damping` | `0.99` | in (0, 1) | D of s = S(1 - D^(k/U)) |" in text
    assert "| `train.on_nonfinite` | `'stop'` | `stop`, `skip` |" in text
    for part, inner in keys.DEFAULTS.items():
        for name in inner if isinstance(inner, dict) else ():
            assert f"| `{part}.{name}` | `{inner[name]!r}` |" in text


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    for name in dl.__all__:
        assert f"deeplight_jax.{name}\n" in text or f"`dl.{name}`" in text, f"reference/api.md lacks {name}"


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8").splitlines()
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix("").as_posix()
        assert name == "index" or name in index, f"docs/index.md lacks {name}"


@pytest.mark.parametrize(
    ("docstring", "markup"),
    [
        ("ranked by |a + b| of `x`", r"ranked by \|a + b\| of ``x``"),
        ("`a|b` and a * b_", r"``a|b`` and a \* b\_"),
        ("two `Mask`s.", r"two ``Mask``\ s."),
    ],
)
def test_docstrings_are_read_as_plain_text(docstring, markup):
    assert MADE["as_markup"](docstring, verbatim=False) == markup


def test_an_indented_paragraph_of_a_module_stands_as_it_is():
    made = MADE["as_markup"]("A formula:\n\n    b + |x| * `y`\n\nwith x.", verbatim=True)
    assert made == "A formula:\n\n::\n\n    b + |x| * `y`\n\nwith x."
