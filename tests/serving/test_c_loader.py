"""dl_open reads what Python wrote, scores it bit for bit alike, and refuses what was changed or cut."""

import hashlib
import json
import struct

import numpy as np
import pytest
from c_library import DL_DAMAGED, DL_FILE, DL_ID, DL_LEVEL, DL_VALUE, Refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from levels import NATIVE_LEVELS
from random_models import CASES, SCHEMAS, random_rows, schema_of
from small_artifacts import small

from deeplight_jax import serving
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.serving import native
from deeplight_jax.serving.artifact import save

needs_native = pytest.mark.skipif(not native.available(), reason="the native engine was not built")


@pytest.fixture
def file(tmp_path):
    save(tmp_path / "model.safetensors", small())
    return tmp_path / "model.safetensors"


def refusal(library, path) -> Refused:
    with pytest.raises(Refused) as caught:
        library.open(path)
    return caught.value


@needs_native
@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_it_scores_as_python_does_bit_for_bit(library, tmp_path, name, options, schema):
    path = tmp_path / "model.safetensors"
    save(path, small(name, SCHEMAS[schema], **options))
    batches = [random_rows(SCHEMAS[schema], rows, rows) for rows in (1, 3, 33, 200)]
    for level in NATIVE_LEVELS:
        ours, theirs = serving.load(path, level), library.open(path, level)
        assert theirs.level == level
        for batch in batches:
            np.testing.assert_array_equal(theirs.logits(*batch), ours.logits(*batch))
            np.testing.assert_array_equal(theirs.score(*batch), ours.score(*batch))
    np.testing.assert_array_equal(
        library.open_memory(path.read_bytes()).logits(*batches[-1]), serving.load(path).logits(*batches[-1])
    )


@needs_native
def test_a_table_of_large_pages_scores_as_python_does(library, tmp_path):
    schema, path = schema_of(1, (70_000, 3)), tmp_path / "model.safetensors"  # 4.5 MB of rows
    save(path, small("deepfm", schema))
    rows = random_rows(schema, 200, 1)
    ours, theirs = serving.load(path), library.open(path)
    np.testing.assert_array_equal(theirs.logits(*rows), ours.logits(*rows))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_fields_are_the_schema_s(library, tmp_path, schema):
    path = tmp_path / "model.safetensors"
    save(path, small("fwfm", SCHEMAS[schema]))
    engine = library.open(path)
    assert engine.fields() == [(f.name, f.kind, f.size) for f in SCHEMAS[schema].fields]
    count = len(engine.fields())
    for outside in (-1, count, 2**31 - 1):
        assert library.functions.dl_field_name(engine.engine, outside) is None
        assert library.functions.dl_field_size(engine.engine, outside) == 0


def test_an_engine_needs_neither_its_file_nor_its_bytes_any_more(library, file):
    data = bytearray(file.read_bytes())
    engines = [library.open(file), library.open_memory(bytes(data))]
    file.write_bytes(b"\0" * len(data))
    rows = random_rows(small().compact.schema, 50, 1)
    np.testing.assert_array_equal(engines[0].logits(*rows), engines[1].logits(*rows))


def test_names_and_descriptions_in_any_script_are_read(library, tmp_path):
    fields = Schema((Field('Preis "€"\\', "numeric", 1), Field("広告 😀\n", "categorical", 3)))
    path = tmp_path / "模型.safetensors"
    save(path, small("deepfm", fields))
    assert library.open(path).fields() == [(f.name, f.kind, f.size) for f in fields.fields]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(about=st.dictionaries(st.text(), JSON, max_size=4))
def test_whatever_python_says_of_a_model_is_read_over(library, file, about):
    try:
        save(file, small("lr", about=about))
    except UnicodeEncodeError:
        return  # half of a surrogate pair, which no UTF-8 holds
    assert len(library.open(file).fields()) == 5


def test_every_truncation_is_refused_by_file_and_reason(library, file):
    whole = file.read_bytes()
    for kept in {*range(24), *np.linspace(24, len(whole) - 1, 250, dtype=int).tolist()}:
        file.write_bytes(whole[:kept])
        found = refusal(library, file)
        assert found.code == DL_DAMAGED, kept
        assert str(found).startswith(f"{file}: it"), kept
        assert str(found).endswith("; export the model again"), kept


def test_every_flipped_bit_is_refused_by_file_and_reason(library, file):
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole), 500, replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        found = refusal(library, file)
        assert found.code == DL_DAMAGED, place
        assert str(file) in str(found), place


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), framed=st.booleans())
def test_bytes_of_any_kind_are_refused(library, data, framed):
    with pytest.raises(Refused, match="artifact in memory: "):
        library.open_memory(struct.pack("<Q", len(data)) + data if framed else data)


HEADERS = {
    "nothing": b"",
    "a number": b"7",
    "a comma too many": b'{"a":{},}',
    "a key twice": b'{"__metadata__":{"a":"1","a":"2"}}',
    "NaN": b'{"a":NaN}',
    "a comment": b"{/* */}",
    "single quotes": b"{'a':1}",
    "an open object": b'{"a":{"b":1}',
    "an open text": b'{"a',
    "a leading zero": b'{"a":01}',
    "a bare minus": b'{"a":-}',
    "a bare point": b'{"a":1.}',
    "an empty exponent": b'{"a":1e+}',
    "a control character": b'{"a\x01":1}',
    "half a surrogate pair": rb'{"a\ud800x":1}',
    "the other half": rb'{"a\udc00":1}',
    "an unknown escape": rb'{"a\x41":1}',
    "short hexadecimals": rb'{"a\u12":1}',
    "Latin-1": b'{"\xfc":1}',
    "an overlong form": b'{"\xc0\xaf":1}',
    "an encoded surrogate": b'{"\xed\xa0\x80":1}',
    "two values": b"{}{}",
    "a deep nest": b'{"a":' + b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_is_no_json_is_refused(library, header):
    text = HEADERS[header]
    with pytest.raises(Refused, match=r"artifact in memory: (no JSON at byte \d+: |its header|the shape)"):
        library.open_memory(struct.pack("<Q", len(text)) + text)


@pytest.mark.parametrize("size", [1 << 20, 1 << 31, (1 << 64) - 1])
def test_a_header_longer_than_its_file_is_refused(library, file, size):
    file.write_bytes(struct.pack("<Q", size) + file.read_bytes()[8:])
    assert f"its header would have {size} bytes of " in str(refusal(library, file))


def test_a_deep_but_empty_description_is_read_over(library, file):
    whole = file.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    text = header["__metadata__"]["deeplight"][:-1] + ', "more": ' + "[" * 20 + "]" * 20 + "}"
    header["__metadata__"] |= {
        "deeplight": text,
        "deeplight.sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    new = (" \n" + json.dumps(header, indent=1)).encode()
    file.write_bytes(struct.pack("<Q", len(new)) + new + whole[8 + size :])
    assert len(library.open(file).fields()) == 5


def test_what_is_no_file_is_named(library, tmp_path):
    missing = tmp_path / "missing.safetensors"
    found = refusal(library, missing)
    assert (found.code, str(found)) == (
        DL_FILE,
        f"{missing}: no such file; `deeplight export` writes one",
    )
    assert (refusal(library, tmp_path).code, str(refusal(library, tmp_path))) == (
        DL_FILE,
        f"{tmp_path}: it is no file",
    )
    assert refusal(library, "").code == DL_FILE
    text = str(refusal(library, tmp_path / ("a/" * 600) / "end.safetensors"))
    assert text.startswith("...")
    assert "end.safetensors: no such file" in text


def test_a_level_that_is_not_there_is_named(library, file):
    with pytest.raises(Refused, match="vector level avx1024 is not there") as caught:
        library.open(file, "avx1024")
    assert (caught.value.code, str(file) in str(caught.value)) == (DL_LEVEL, True)


def test_rows_that_cannot_be_scored_are_named(library, file):
    engine = library.open(file)
    ids, values = random_rows(small().compact.schema, 40, 0)
    ids[33, 1] = 3
    with pytest.raises(Refused, match="row 33: id 3 of categorical field 1") as caught:
        engine.score(ids, values)
    assert (caught.value.code, caught.value.row, caught.value.field) == (DL_ID, 33, 1)
    ids[33, 1], values[7, 1] = 0, np.nan
    with pytest.raises(Refused, match="row 7: the value of numeric field 1") as caught:
        engine.score(ids, values)
    assert (caught.value.code, caught.value.row, caught.value.field) == (DL_VALUE, 7, 1)
