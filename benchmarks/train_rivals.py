"""Other programs that train the same DeepFwFM, for `train_step.py`: each makes a step of a schema.

A step takes a batch of NumPy arrays and trains on it; `wait` returns when the weights are updated. PyTorch
runs on a GPU if it finds one. Dropout is 0.5 throughout, losses are mean log losses, L2 is coupled Adam's
weight decay unless said otherwise.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from deeplight_jax.config import Config
from deeplight_jax.data.schema import Batch, Schema, field_pairs


class Program(NamedTuple):
    """A training step, and what waits for all steps so far."""

    step: Callable[[Batch], None]
    wait: Callable[[], Any]


def authors(config: Config, schema: Schema) -> Program:
    """The authors' PyTorch program: a table a field, n x n outer products, R symmetrised, all decayed."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    k, n, numeric = config.model.embedding_dim, schema.num_fields, len(schema.numeric)

    class DeepFwFM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList(nn.Embedding(f.size, k) for f in schema.fields)
            for table in self.tables:
                nn.init.normal_(table.weight, std=config.model.embedding_std)
            self.linear = nn.ModuleList(nn.Linear(k, 1, bias=False) for _ in schema.fields)
            self.field_weight = nn.Linear(n, 1, bias=False)
            self.field_matrix = nn.Linear(n, n, bias=False)
            self.deep, self.bias = _net(n * k, config), nn.Parameter(torch.zeros(()))

        def forward(self, ids: Any, values: Any) -> Any:
            rows = [self.tables[f](torch.zeros_like(ids[:, 0])) * values[:, f, None] for f in range(numeric)]
            rows += [self.tables[f](ids[:, f - numeric]) for f in range(numeric, n)]
            e = torch.stack(rows)  # [field, batch, dim]
            linear = torch.cat([layer(row) for layer, row in zip(self.linear, rows, strict=True)], 1)
            outer = torch.einsum("kij,lij->klij", e, e)
            symmetric = 0.5 * (self.field_matrix.weight + self.field_matrix.weight.t())
            weighted = torch.einsum("klij,kl->klij", outer, symmetric)
            diagonal = torch.einsum("kkij->kij", weighted)
            second = 0.5 * (weighted.sum(dim=(0, 1)) - diagonal.sum(dim=0)).sum(1)
            deep = self.deep(torch.cat(rows, 1)).squeeze(1)
            return self.field_weight(linear).squeeze(1) + second + deep + self.bias

    model = DeepFwFM().to(_device())
    optim = config.optim
    adam = torch.optim.Adam(model.parameters(), lr=optim.learning_rate, weight_decay=optim.l2)
    return _torch_step(model, [adam])


def torch_dense(config: Config, schema: Schema) -> Program:
    """PyTorch written well: one table, pairs by one product with R, one fused Adam."""
    import torch  # pyright: ignore[reportMissingImports]

    model = _fused_model(config, schema, sparse=False)
    optim = config.optim
    adam = torch.optim.Adam(model.parameters(), lr=optim.learning_rate, weight_decay=optim.l2, fused=True)
    return _torch_step(model, [adam])


def torch_sparse(config: Config, schema: Schema) -> Program:
    """The same with SparseAdam on the table, which knows no L2."""
    import torch  # pyright: ignore[reportMissingImports]

    model = _fused_model(config, schema, sparse=True)
    optim, table = config.optim, model.table.weight
    rest = [p for p in model.parameters() if p is not table]
    return _torch_step(
        model,
        [
            torch.optim.SparseAdam([table], lr=optim.learning_rate),
            torch.optim.Adam(rest, lr=optim.learning_rate, weight_decay=optim.l2, fused=True),
        ],
    )


def deepctr(config: Config, schema: Schema) -> Program:
    """DeepCTR-Torch's DeepFM (it has no FwFM), stepped as its `fit` does; without embeddings of numbers."""
    import torch  # pyright: ignore[reportMissingImports]
    from deepctr_torch.inputs import DenseFeat, SparseFeat  # pyright: ignore[reportMissingImports]
    from deepctr_torch.models import DeepFM  # pyright: ignore[reportMissingImports]

    k = config.model.embedding_dim
    columns = [SparseFeat(f.name, f.size, embedding_dim=k) for f in schema.categorical]
    columns += [DenseFeat(f.name, 1) for f in schema.numeric]
    hidden, device = tuple(config.model.hidden), _device()
    model = DeepFM(columns, columns, dnn_hidden_units=hidden, dnn_dropout=0.5, device=device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optim.learning_rate)
    model.train()

    def step(batch: Batch) -> None:
        x = torch.from_numpy(np.concatenate([batch.ids, batch.values], axis=1, dtype=np.float32)).to(device)
        label = torch.from_numpy(batch.label).to(device)
        found = model(x).squeeze(-1)
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy(found, label, reduction="sum")
        (loss + model.get_regularization_loss() + model.aux_loss).backward()
        optimizer.step()

    return Program(step, _wait)


RIVALS: dict[str, Callable[[Config, Schema], Program]] = {
    "the authors' program": authors,
    "PyTorch, one table, fused Adam": torch_dense,
    "PyTorch, one table, SparseAdam, no L2 on it": torch_sparse,
    "DeepCTR-Torch, DeepFM": deepctr,
}


def make_rival(name: str, config: Config, schema: Schema, threads: int) -> Program:
    """The rival on so many threads, its products of matrices as exact as JAX makes them by default.

    Raises:
      ImportError: its library is not installed.
    """
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(threads)
    if _device() == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RIVALS[name](config, schema)


def _device() -> str:
    import torch  # pyright: ignore[reportMissingImports]

    return "cuda" if torch.cuda.is_available() else "cpu"


def _wait() -> None:
    import torch  # pyright: ignore[reportMissingImports]

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _net(inputs: int, config: Config) -> Any:
    from torch import nn  # pyright: ignore[reportMissingImports]

    layers: list[Any] = [nn.Dropout(config.model.dropout)]
    for a, b in pairwise((inputs, *config.model.hidden)):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(config.model.dropout)]
    return nn.Sequential(*layers, nn.Linear(config.model.hidden[-1], 1, bias=False))


def _fused_model(config: Config, schema: Schema, sparse: bool) -> Any:
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    k, n, numeric = config.model.embedding_dim, schema.num_fields, len(schema.numeric)
    first, second = (torch.from_numpy(i) for i in field_pairs(n))

    class DeepFwFM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(schema.num_rows, k, sparse=sparse)
            nn.init.normal_(self.table.weight, std=config.model.embedding_std)
            self.v, self.field_weight = nn.Parameter(torch.randn(n, k) / k**0.5), nn.Parameter(torch.ones(n))
            self.r, self.bias = nn.Parameter(torch.randn(len(first)) / n**0.5), nn.Parameter(torch.zeros(()))
            self.deep = _net(n * k, config)
            self.register_buffer("offsets", torch.from_numpy(schema.offsets))
            self.register_buffer("own", torch.arange(numeric, dtype=torch.int32))
            self.register_buffer("pairs", torch.stack([first, second]))

        def forward(self, ids: Any, values: Any) -> Any:
            rows = torch.cat([self.own.expand(len(ids), -1), ids + self.offsets], 1)
            scale = torch.cat([values, torch.ones_like(ids, dtype=values.dtype)], 1)
            e = self.table(rows) * scale[..., None]  # [batch, field, dim]
            upper = self.r.new_zeros(n, n).index_put(tuple(self.pairs), self.r)
            second_order = (torch.einsum("bik,ij->bjk", e, upper) * e).sum((1, 2))
            linear = (e * (self.v * self.field_weight[:, None])).sum((1, 2))
            return linear + second_order + self.deep(e.reshape(len(ids), -1)).squeeze(1) + self.bias

    return DeepFwFM().to(_device())


def _torch_step(model: Any, optimizers: list[Any]) -> Program:
    import torch  # pyright: ignore[reportMissingImports]

    loss_of, device = torch.nn.functional.binary_cross_entropy_with_logits, _device()
    model.train()

    def step(batch: Batch) -> None:
        ids, values, label, _ = (torch.from_numpy(x).to(device) for x in batch)
        logits = model(ids, values)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss_of(logits, label).backward()
        for optimizer in optimizers:
            optimizer.step()

    return Program(step, _wait)
