"""Pages made from the sources: `deeplight`'s commands from their parsers, config keys from `keys.py`.

As a Sphinx extension it adds the directives `deeplight-commands` and `deeplight-keys`; the Markdown that they
stand for is made by `commands_markdown` and `keys_markdown`, which need no Sphinx. It also reads docstrings
as the plain text that they are: `names` in single backquotes, and no other markup.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deeplight_jax import cli, keys
from deeplight_jax.config import flatten

_COLUMNS = 100  # of a usage message


def commands() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """(name, parser, what it is for) of every command that can be run, as "masks diff"."""
    yield from _below("", cli._parser())


def _below(
    prefix: str, parser: argparse.ArgumentParser
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            about = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, child in action.choices.items():
                inner = [*_below(f"{prefix}{name} ", child)]
                yield from inner or [(prefix + name, child, about.get(name, ""))]


def commands_markdown() -> str:
    """A section for each command: what it is for, how it is called, and a row for each argument."""
    return "\n\n".join(_command(*found) for found in commands()) + "\n"


def _command(name: str, parser: argparse.ArgumentParser, about: str) -> str:
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=_COLUMNS)
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    rows = [_argument(a, parser) for a in parser._actions if not isinstance(a, argparse._HelpAction)]
    parts = [
        f"## deeplight {name}",
        f"{about[:1].upper()}{about[1:]}.",
        f"```text\n{usage}\n```",
        table(("argument", "", "default"), rows),
    ]
    return "\n\n".join([*parts, *([f"{parser.epilog}"] if parser.epilog else [])])


def _argument(action: argparse.Action, parser: argparse.ArgumentParser) -> tuple[str, str, str]:
    """An argument's name as it is typed, its help, and its default where there is one to name."""
    shown = action.metavar or (f"{{{','.join(action.choices)}}}" if action.choices else action.dest)
    value = "" if action.nargs == 0 else str(shown)
    name = f"{action.option_strings[-1]} {value}".rstrip() if action.option_strings else value
    notes = [
        parser._get_formatter()._expand_help(action),
        "required" if action.required and action.option_strings else "",
    ]
    default = "" if action.default in (None, False, [], argparse.SUPPRESS) else f"`{action.default}`"
    return f"`{name}`", "; ".join(filter(None, notes)), default


def keys_markdown() -> str:
    """A table of keys for each part of a config: default, values allowed, and the comment beside the key."""
    comments = key_comments()
    parts = [_keys("", {"seed": keys.DEFAULTS["seed"]}, comments)]
    for part, inner in keys.DEFAULTS.items():
        if isinstance(inner, dict):
            parts.append(f"## {part}\n\n{_keys(f'{part}.', inner, comments)}")
    return "\n\n".join(parts) + "\n"


def _keys(prefix: str, inner: dict[str, Any], comments: dict[str, str]) -> str:
    rows = []
    for name, default in inner.items():
        key = prefix + name
        allowed = ", ".join(f"`{c}`" for c in keys.CHOICES.get(key, ())) or keys.RANGES.get(key, ("",))[0]
        rows.append((f"`{key}`", f"`{default!r}`", allowed, comments.get(key, "")))
    return table(("key", "default", "values", "meaning"), rows)


def key_comments() -> dict[str, str]:
    """What `keys.py` says behind each key of DEFAULTS, by key."""
    source = Path(keys.__file__).read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    by_line = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    [defaults] = [n.value for n in ast.walk(ast.parse(source))
                  if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "DEFAULTS"]  # fmt: skip
    return {key: by_line[line] for key, line in _lines("", defaults) if line in by_line}


def _lines(prefix: str, node: Any) -> Iterator[tuple[str, int]]:
    """(key, line) of the leaves of a dict that is written out."""
    for name, value in zip(node.keys, node.values, strict=True):
        if isinstance(value, ast.Dict):
            yield from _lines(f"{prefix}{name.value}.", value)
        else:
            yield prefix + name.value, name.lineno


def every_key() -> list[str]:
    """All config keys, as "sparsity.dnn"."""
    return [*flatten(keys.DEFAULTS)]


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", c) for c in row) + " |" for row in lines)


def as_markup(docstring: str, verbatim: bool) -> str:
    """A docstring as reStructuredText: what is in backquotes as code, every other sign as itself.

    Args:
      docstring: plain text.
      verbatim: whether paragraphs that are indented are set as they stand (a module's: formulas, file lists).
    """
    marked = re.sub(r"`([^`]+)`(\w?)|([*|\\]|_\b)", _marked, docstring)
    if not verbatim:
        return marked
    paragraphs = zip(docstring.split("\n\n"), marked.split("\n\n"), strict=True)
    return "\n\n".join("::\n\n" + plain if plain[:1] == " " else text for plain, text in paragraphs)


def _marked(found: re.Match[str]) -> str:
    code, letter, sign = found.groups()
    return f"``{code}``" + (f"\\ {letter}" if letter else "") if code else f"\\{sign}"


def rewrite_docstring(_: Any, what: str, __: str, ___: Any, ____: Any, lines: list[str]) -> None:
    """Called by Sphinx for each docstring, before napoleon reads its sections."""
    lines[:] = as_markup("\n".join(lines), verbatim=what == "module").split("\n")


def point_to_pages(_: Any, __: str, text: list[str]) -> None:
    """Called by Sphinx for each page: links to benchmarks/*.md go to the pages that include them."""
    text[0] = re.sub(r"\]\((?:\.\./)+benchmarks/(RESULTS|RELIABILITY)\.md", _page_of, text[0])


def _page_of(found: re.Match[str]) -> str:
    return f"](/{found[1].lower()}.md"


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("autodoc-process-docstring", rewrite_docstring, priority=400)
    app.connect("source-read", point_to_pages)
    app.add_directive("deeplight-commands", _directive(commands_markdown))
    app.add_directive("deeplight-keys", _directive(keys_markdown))
    return {"parallel_read_safe": True}


def _directive(make: Callable[[], str]) -> Any:
    from sphinx.util.docutils import SphinxDirective

    class FromSources(SphinxDirective):
        def run(self) -> list[Any]:
            return self.parse_text_to_nodes(make(), allow_section_headings=True)

    return FromSources
