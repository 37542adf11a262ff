"""libdeeplight through ctypes, as a program without this package's Python would call it."""

import ctypes
import fcntl
import os
import subprocess
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np

DL_LEVEL, DL_ID, DL_VALUE, DL_FILE, DL_DAMAGED, DL_FORMAT = 2, 4, 5, 7, 8, 9  # of deeplight.h
ROOT = Path(__file__).parents[2]
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=undefined"


def build(out: Path, *settings: str) -> Path:
    """The library's directory, made once and kept; settings are of its Makefile."""
    out.mkdir(parents=True, exist_ok=True)
    command = ["make", "-s", "-C", str(ROOT / "deeplight_jax/serving/native"), f"OUT={out}", *settings]
    with (out / "lock").open("w") as lock:  # the processes of pytest-xdist share it
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(command, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return out


def built(library: tuple[Path, list[str]], source: Path, *flags: str) -> Path:
    """A program of one source file and a library of some flags, in the library's directory."""
    out, sanitize = library
    program = out / f"{source.stem}-{os.getpid()}"
    compiler = "cc" if source.suffix == ".c" else "c++"
    link = [str(out / "libdeeplight.a"), "-lstdc++", "-lm", "-pthread"]
    flags = ("-O1", "-Wall", "-Wextra", "-Werror", *flags, *sanitize, "-I", str(out))
    command = [compiler, *flags, str(source), *link, "-o", str(program)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return program


class Error(ctypes.Structure):
    """dl_error of deeplight.h."""

    _fields_ = (("code", c_int), ("row", c_int64), ("field", c_int32), ("text", ctypes.c_char * 512))


class Refused(Exception):
    """What the library said, and its code."""

    def __init__(self, error: Error):
        super().__init__(error.text.decode())
        self.code, self.row, self.field = error.code, error.row, error.field


class Library:
    """The library's functions with their types."""

    def __init__(self, path: Path):
        self.functions = ctypes.CDLL(str(path))
        rows = [c_void_p, c_void_p, c_void_p, c_int64, c_void_p, POINTER(Error)]
        for name, result, arguments in (
            ("dl_open", c_void_p, [c_char_p, c_char_p, POINTER(Error)]),
            ("dl_open_memory", c_void_p, [c_char_p, c_size_t, c_char_p, POINTER(Error)]),
            ("dl_score", c_int, rows),
            ("dl_logits", c_int, rows),
            ("dl_level", c_char_p, [c_void_p]),
            ("dl_free", None, [c_void_p]),
            ("dl_numeric", c_int32, [c_void_p]),
            ("dl_categorical", c_int32, [c_void_p]),
            ("dl_field_count", c_int32, [c_void_p]),
            ("dl_field_name", c_char_p, [c_void_p, c_int32]),
            ("dl_field_size", c_int32, [c_void_p, c_int32]),
        ):
            function = getattr(self.functions, name)
            function.restype, function.argtypes = result, arguments

    def open(self, path: Path, level: str | None = None) -> "Opened":
        return self._opened("dl_open", str(path).encode(), level and level.encode())

    def open_memory(self, data: bytes) -> "Opened":
        return self._opened("dl_open_memory", data, len(data), None)

    def _opened(self, name, *arguments):
        error = Error()
        engine = getattr(self.functions, name)(*arguments, byref(error))
        if not engine:
            raise Refused(error)
        assert error.code == 0
        return Opened(self.functions, engine)


class Opened:
    """An engine of the library, freed with its last reference."""

    def __init__(self, functions: ctypes.CDLL, engine: int):
        self.functions, self.engine = functions, engine

    def __del__(self):
        self.functions.dl_free(self.engine)

    @property
    def level(self) -> str:
        return self.functions.dl_level(self.engine).decode()

    def fields(self) -> list[tuple[str, str, int]]:
        """Name, kind and size of each, as a schema has them."""
        functions, numeric = self.functions, self.functions.dl_numeric(self.engine)
        count = functions.dl_field_count(self.engine)
        assert count == numeric + functions.dl_categorical(self.engine)
        return [
            (
                functions.dl_field_name(self.engine, i).decode(),
                "numeric" if i < numeric else "categorical",
                functions.dl_field_size(self.engine, i),
            )
            for i in range(count)
        ]

    def logits(self, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        return self._run("dl_logits", ids, values)

    def score(self, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        return self._run("dl_score", ids, values)

    def _run(self, name, ids, values):
        out, error = np.empty(len(ids), c_float), Error()
        places = [a.ctypes.data for a in (ids, values)]
        if getattr(self.functions, name)(self.engine, *places, len(ids), out.ctypes.data, byref(error)):
            raise Refused(error)
        return out
