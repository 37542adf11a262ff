"""The compact structure: what serving keeps of a pruned model, as plain NumPy arrays.

A row's inputs z are its numeric values, then k values of each categorical field in turn. The logit is

    bias + linear values of the row's table rows + z' Q z [+ FM's pairs] + net(z, pooled pairs or products)

where the net's hidden layers hold non-zero weights and live units only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving import tables
from deeplight_jax.serving.tables import Stored, TableFormat

NetInput: TypeAlias = Literal["none", "inputs", "pooled", "products"]
_CHUNK_ROWS = 1 << 16


class Csr(NamedTuple):
    """A sparse matrix by rows: those of row r are entries indptr[r] to indptr[r + 1].

    Attributes:
      indptr: i32[row + 1].
      indices: i32[entry], column of each, ascending within a row.
      values: f32[entry], none is 0.
      columns: how many there are.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    columns: int

    @property
    def rows(self) -> int:
        return len(self.indptr) - 1

    def dense(self) -> np.ndarray:
        """f32[row, column]."""
        out = np.zeros((self.rows, self.columns), np.float32)
        out[np.repeat(np.arange(self.rows), np.diff(self.indptr)), self.indices] = self.values
        return out


def sparse(dense: np.ndarray) -> Csr:
    """The entries of float[row, column] that are not zero in float32."""
    rows, columns = np.nonzero(dense.astype(np.float32))
    return from_entries(rows, columns, dense[rows, columns], dense.shape)


def from_entries(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> Csr:
    """A matrix of distinct entries in any order; those that are zero in float32 are left out."""
    kept = np.flatnonzero(values.astype(np.float32))
    kept = kept[np.lexsort((columns[kept], rows[kept]))]
    counts = np.bincount(rows[kept], minlength=shape[0])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return Csr(indptr, columns[kept].astype(np.int32), values[kept].astype(np.float32), shape[1])


class Layer(NamedTuple):
    """A hidden layer, relu(weights x + bias): weights [unit, input], bias f32[unit]."""

    weights: Csr
    bias: np.ndarray


@dataclass(frozen=True)
class Compact:
    """A model as it is served.

    Attributes:
      schema: fields; its rows and offsets are the table's.
      dim: k, values an embedding (0: none).
      table: f32[row, width]: k values, the row's linear value, zeros up to a multiple of 16.
      bias: f32[1].
      quadratic: Q [input, input], one entry above the diagonal for each product that counts.
      all_pairs: whether FM's sum of <e_i, e_j> over all pairs is added.
      net_input: what the net reads: nothing (no net), z, NFM's pooled pairs f32[dim] or the `products`.
      products: i32[product, 2], field pairs whose <e_i, e_j> the net reads.
      layers: hidden layers, first to last.
      output: f32[unit], weights of the last layer's units in the logit.
      table_format: how `table` and `table_index` are to be read, see `tables`; `rows` reads them.
      table_index: u32[row + 1] of a packed table, else empty.
    """

    schema: Schema
    dim: int
    table: np.ndarray
    bias: np.ndarray
    quadratic: Csr
    all_pairs: bool
    net_input: NetInput
    products: np.ndarray
    layers: tuple[Layer, ...]
    output: np.ndarray
    table_format: TableFormat = "f32"
    table_index: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint32))

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Table rows int[...] as f32[..., dim + 1]: their values, then the linear value."""
        return tables.decode(Stored(self.table, self.table_index), self.dim, self.table_format, rows)

    def chunks(self) -> Iterator[np.ndarray]:
        """All table rows in order, f32[row, dim + 1], so many at a time that it takes little memory."""
        for start in range(0, self.schema.num_rows, _CHUNK_ROWS):
            yield self.rows(np.arange(start, min(start + _CHUNK_ROWS, self.schema.num_rows)))

    @property
    def inputs(self) -> int:
        """Length of z."""
        return len(self.schema.numeric) + len(self.schema.categorical) * self.dim

    @property
    def net_inputs(self) -> int:
        """Length of what the net reads."""
        sizes = {"none": 0, "inputs": self.inputs, "pooled": self.dim, "products": len(self.products)}
        return sizes[self.net_input]

    def counts(self) -> dict[str, Any]:
        """Numbers that are not zero, by part, and live units by layer."""
        columns = sum((np.count_nonzero(c, axis=0) for c in self.chunks()), np.zeros(self.dim + 1, int))
        return {
            "embedding": int(columns[:-1].sum()),
            "linear": int(columns[-1]),
            "quadratic": len(self.quadratic.values),
            "products": len(self.products),
            "weights": [len(layer.weights.values) for layer in self.layers],
            "units": [len(layer.bias) for layer in self.layers],
            "output": int(np.count_nonzero(self.output)),
        }


def with_table(compact: Compact, form: TableFormat) -> Compact:
    """A structure with its table in another format; bf16 and int8 round its values."""
    if form == compact.table_format:
        return compact
    rows = compact.table if compact.table_format == "f32" else np.concatenate([*compact.chunks()])
    stored = tables.encode(rows, compact.dim, form)
    return replace(compact, table=stored.table, table_index=stored.starts, table_format=form)


def to_arrays(compact: Compact) -> dict[str, np.ndarray]:
    """Every array by name; `from_arrays` reads them back."""
    arrays = {"table": compact.table, "bias": compact.bias, "products": compact.products}
    arrays |= {"output": compact.output, **_csr_arrays("quadratic", compact.quadratic)}
    if compact.table_index.size:
        arrays["table_index"] = compact.table_index
    for i, layer in enumerate(compact.layers):
        arrays |= {f"layer_{i}.bias": layer.bias, **_csr_arrays(f"layer_{i}", layer.weights)}
    return arrays


def settings(compact: Compact) -> dict[str, Any]:
    """What `from_arrays` needs beside the arrays, for JSON."""
    return {
        "schema": compact.schema.to_json(),
        "dim": compact.dim,
        "all_pairs": compact.all_pairs,
        "net_input": compact.net_input,
        "layers": len(compact.layers),
        **({} if compact.table_format == "f32" else {"table": compact.table_format}),
    }


def from_arrays(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Compact:
    """The structure of its settings and arrays, checked: nothing in it points outside.

    Raises:
      ArtifactError: a setting or an array is missing or does not fit; it is named.
    """
    try:
        schema = Schema.from_json(about["schema"])
        dim, count, net_input = int(about["dim"]), int(about["layers"]), about["net_input"]
        if dim < 0 or count < 0 or net_input not in get_args(NetInput):
            raise ArtifactError("its dim, layers or net_input is out of range")
        form = about.get("table", "f32")
        if form not in tables.FORMATS:
            raise ArtifactError(f"its table is of format {form}; known: {', '.join(tables.FORMATS)}")
        products = arrays["products"]
        inputs = len(schema.numeric) + len(schema.categorical) * dim
        net_inputs = {"none": 0, "inputs": inputs, "pooled": dim, "products": len(products)}[net_input]
        layers = []
        for i in range(count):
            columns = layers[-1].weights.rows if layers else net_inputs
            layers.append(Layer(_csr(f"layer_{i}", arrays, columns), arrays[f"layer_{i}.bias"]))
        quadratic = _csr("quadratic", arrays, inputs)
        found = Compact(schema, dim, arrays["table"], arrays["bias"], quadratic, bool(about["all_pairs"]),
                        net_input, products, tuple(layers), arrays["output"], form,
                        arrays["table_index"] if form == "packed" else np.zeros(0, np.uint32))  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ArtifactError):
            raise
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ArtifactError(f"its description is not whole ({what})") from error
    _check(found)
    return found


def _check(compact: Compact) -> None:
    last = compact.layers[-1].weights.rows if compact.layers else compact.net_inputs
    stored = Stored(compact.table, compact.table_index)
    tables.check(stored, compact.schema.num_rows, compact.dim, compact.table_format)
    _expect("bias", compact.bias, np.float32, (1,))
    _expect("output", compact.output, np.float32, (last,))
    _expect("products", compact.products, np.int32, (len(compact.products), 2))
    if compact.products.size and not (
        compact.products.min() >= 0 and compact.products.max() < compact.schema.num_fields
    ):
        raise ArtifactError("its products name fields that are not there")
    _check_csr("quadratic", compact.quadratic, compact.inputs)
    for i, layer in enumerate(compact.layers):
        _expect(f"layer_{i}.bias", layer.bias, np.float32, (layer.weights.rows,))
        _check_csr(f"layer_{i}", layer.weights, layer.weights.rows)


def _check_csr(name: str, matrix: Csr, rows: int) -> None:
    entries = len(matrix.values)
    _expect(f"{name}.indptr", matrix.indptr, np.int32, (rows + 1,))
    _expect(f"{name}.indices", matrix.indices, np.int32, (entries,))
    _expect(f"{name}.values", matrix.values, np.float32, (entries,))
    rising = matrix.indptr[0] == 0 and matrix.indptr[-1] == entries and (np.diff(matrix.indptr) >= 0).all()
    inside = not entries or (matrix.indices.min() >= 0 and matrix.indices.max() < matrix.columns)
    if not rising or not inside:
        raise ArtifactError(f"its sparse matrix {name} points outside itself")


def _expect(name: str, array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        wanted = f"{np.dtype(dtype)}{list(shape)}"
        raise ArtifactError(f"its array {name} is {array.dtype}{list(array.shape)}, not {wanted}")
    if array.dtype == np.float32 and not np.isfinite(array).all():
        raise ArtifactError(f"its array {name} holds a value that is not finite")


def _csr_arrays(name: str, matrix: Csr) -> dict[str, np.ndarray]:
    return {f"{name}.{part}": getattr(matrix, part) for part in ("indptr", "indices", "values")}


def _csr(name: str, arrays: Mapping[str, np.ndarray], columns: int) -> Csr:
    indptr = arrays[f"{name}.indptr"]
    if indptr.ndim != 1 or not indptr.size:
        raise ArtifactError(f"its array {name}.indptr is empty or not one row of numbers")
    return Csr(indptr, arrays[f"{name}.indices"], arrays[f"{name}.values"], columns)
