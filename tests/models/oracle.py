"""Every model's logit in float64, a row, a field and a pair at a time; no code shared with the package."""

from itertools import combinations

import jax
import numpy as np


def oracle(name, schema, params, ids, values):
    """Logits f64[row]; shapes of `params` say how many layers, heads and maps there are."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    return np.asarray([_logit(name, schema, p, ids[b], values[b]) for b in range(len(ids))])


def table_rows(schema, ids):
    """(row of the flat table, is numeric) of each field."""
    rows, start, categorical = [], 0, iter(ids)
    for i, field in enumerate(schema.fields):
        rows.append((i, True) if field.kind == "numeric" else (start + int(next(categorical)), False))
        start += field.size
    return rows


def _logit(name, schema, p, ids, values):
    rows = table_rows(schema, ids)
    x = [float(values[f]) if numeric else 1.0 for f, (_, numeric) in enumerate(rows)]

    def embed(table):
        return [table[row] * x[f] for f, (row, _) in enumerate(rows)]

    z = float(p["bias"]) if "bias" in p else 0.0
    if "weights" in p:
        z += sum(float(w[0]) for w in embed(p["weights"]["table"]))
    if name == "lr":
        return z
    if name == "poly2":
        return z + _poly2(p["pairs"]["table"], rows, x)
    e = embed(p["embedding"]["table"])
    return z + TERMS[name](p, e)


def _poly2(table, rows, x):
    def mix(v):
        v = ((v ^ (v >> 16)) * 0x85EBCA6B) % 2**32
        v = ((v ^ (v >> 13)) * 0xC2B2AE35) % 2**32
        return v ^ (v >> 16)

    total = 0.0
    for i, j in combinations(range(len(rows)), 2):
        h = mix(mix((rows[i][0] * 0x9E3779B1 + 0x85EBCA6B) % 2**32) ^ rows[j][0]) % len(table)
        total += table[h] * x[i] * x[j]
    return total


def _hidden(p, h):
    for layer in sorted(k for k in p if k.startswith("hidden")):
        h = np.maximum(h @ p[layer]["kernel"] + p[layer]["bias"], 0)
    return h


def _mlp(p, h):
    return float(_hidden(p, h) @ p["output"]["kernel"][:, 0])


def _fm(p, e):
    return sum(e[i] @ e[j] for i, j in combinations(range(len(e)), 2))


def _ffm(p, e):
    n, k = len(e), len(e[0]) // len(e)
    shown = [[e[i][j * k : (j + 1) * k] for j in range(n)] for i in range(n)]
    return sum(shown[i][j] @ shown[j][i] for i, j in combinations(range(n), 2))


def _fmfm(p, e):
    pairs = enumerate(combinations(range(len(e)), 2))
    return sum(float(e[i] @ p["m"][at] @ e[j]) for at, (i, j) in pairs)


def _fwfm(p, e):
    terms, n = p["fwfm"], len(e)
    weight = terms.get("field_weight", np.ones(n))
    z = float(terms["bias"])
    if "v" in terms:
        z += sum(weight[f] * (e[f] @ terms["v"][f]) for f in range(n))
    for at, (i, j) in enumerate(combinations(range(n), 2)):
        r = terms["r"][at] if terms["r"].ndim == 1 else (terms["r"][i, j] + terms["r"][j, i]) / 2
        z += r * (e[i] @ e[j])
    return z


def _nfm(p, e):
    pairs = list(combinations(range(len(e)), 2))
    if "output" in p["deep"]:  # pooled
        return _mlp(p["deep"], sum(e[i] * e[j] for i, j in pairs))
    return float(_hidden(p["deep"], np.array([e[i] @ e[j] for i, j in pairs])).sum())


def _pnn(p, e):
    products = [e[i] @ e[j] for i, j in combinations(range(len(e)), 2)]
    return _mlp(p["deep"], np.concatenate([*e, products]))


def _dcn(p, e):
    x0 = x = np.concatenate(e)
    layers = sum(k.startswith("kernel") for k in p["cross"])
    for layer in range(layers):
        w, b = p["cross"][f"kernel_{layer}"], p["cross"][f"bias_{layer}"]
        if w.shape[1] == 1:
            x = np.array([x0[d] * float(x @ w[:, 0]) + b[d] + x[d] for d in range(len(x))])
        else:
            x = np.array([x0[d] * (float(x @ w[:, d]) + b[d]) + x[d] for d in range(len(x))])
    return float(np.concatenate([x, _hidden(p["deep"], x0)]) @ p["output"]["kernel"][:, 0])


def autoint(heads):
    """AutoInt's terms; the number of heads cannot be read from the parameters' shapes."""

    def terms(p, e):
        a, layer = p["attention"], 0
        while f"query_{layer}" in a:
            width = a[f"query_{layer}"].shape[1]
            units, out = width // heads, []
            for i in range(len(e)):
                joined = []
                for h in range(heads):
                    at = slice(h * units, (h + 1) * units)
                    query = e[i] @ a[f"query_{layer}"][:, at]
                    scores = [query @ (f @ a[f"key_{layer}"][:, at]) for f in e]
                    weight = np.exp(np.array(scores) - max(scores))
                    weight /= weight.sum()
                    joined.append(
                        sum(w * (f @ a[f"value_{layer}"][:, at]) for w, f in zip(weight, e, strict=True))
                    )
                out.append(np.maximum(np.concatenate(joined) + e[i] @ a[f"residual_{layer}"], 0))
            e, layer = out, layer + 1
        return float(np.concatenate(e) @ p["output"]["kernel"][:, 0])

    return terms


def xdeepfm(split_half):
    """xDeepFM's terms behind the first-order ones."""

    def terms(p, e):
        maps, pooled, layer = e, [], 0
        while f"kernel_{layer}" in p["cin"]:
            kernel = p["cin"][f"kernel_{layer}"]
            out = []
            for h in range(kernel.shape[1]):
                parts = [
                    kernel[i * len(e) + j, h] * maps[i] * e[j]
                    for i in range(len(maps))
                    for j in range(len(e))
                ]
                out.append(sum(parts))
            layer += 1
            last = f"kernel_{layer}" not in p["cin"]
            half = len(out) // 2 if split_half and not last else 0
            pooled += [float(m.sum()) for m in out[half:]]
            maps = out[:half] if half else out
        return float(np.array(pooled) @ p["output"]["kernel"][:, 0]) + _mlp(p["deep"], np.concatenate(e))

    return terms


TERMS = {
    "fm": _fm,
    "ffm": _ffm,
    "fmfm": _fmfm,
    "fwfm": _fwfm,
    "widedeep": lambda p, e: _mlp(p["deep"], np.concatenate(e)),
    "deepfm": lambda p, e: _fm(p, e) + _mlp(p["deep"], np.concatenate(e)),
    "nfm": _nfm,
    "pnn": _pnn,
    "dcn": _dcn,
    "dcnv2": _dcn,
    "autoint": autoint(heads=2),
    "xdeepfm": xdeepfm(split_half=True),
    "xdeepfm, all maps on": xdeepfm(split_half=False),
    "deepfwfm": lambda p, e: _fwfm(p, e) + _mlp(p["deep"], np.concatenate(e)),
}
