"""What a measurement was made on: the processor, its caches, the system and the versions that matter."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from deeplight_jax import __version__

_PACKAGES = ("numpy", "onnx", "onnxruntime", "torch", "jax", "jaxlib", "scipy")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNKNOWN_CACHE_BYTES = 128 << 20  # more than most have


def machine_facts() -> dict[str, Any]:
    """Processor, system and versions, for JSON.

    `cores` are those this process may use; `last_cache_bytes` is None where the system does not tell;
    `versions` has Python and what is installed of the packages measured.
    """
    versions = {"python": platform.python_version(), "deeplight-jax": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "last_cache_bytes": last_cache_bytes(),
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
    }


def last_cache_bytes() -> int | None:
    """Size of the last cache of the first core; None where the system does not tell."""
    try:
        sizes = [path.read_text(encoding="ascii").strip() for path in _CACHES.glob("index*/size")]
    except OSError:
        return None
    return max((_bytes(size) for size in sizes), default=None)


def flush_bytes() -> int:
    """A buffer twice the last cache: writing over it leaves nothing else there."""
    return 2 * (last_cache_bytes() or _UNKNOWN_CACHE_BYTES)


def _bytes(size: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(size[:-1]) * units[size[-1]] if size[-1:] in units else int(size)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
