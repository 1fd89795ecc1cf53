"""Stage results by content: what was computed once, from the same inputs and code, is read back.

A stage's result lies under the SHA-256 of everything it depends on, so a rerun computes only what
is missing and resuming after a kill is no special case. Files are trusted only as far as their own
SHA-256: a damaged one is refused, computed anew, and the user is told.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel
from torch import Tensor

from reuse_sim.modules import module_sha256

FORMAT = 1
LIBRARIES = ("numpy", "scipy", "pyro-ppl", "numba")
_log = logging.getLogger(__name__)

Notice = Callable[[str], None]
StageFunction = Callable[..., tuple[Mapping[str, Tensor], Mapping[str, Any]]]


@dataclass(frozen=True)
class Stored:
    """A stage's result: its key, tensors by name, JSON values, and whether it was read back."""

    key: str
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]
    reused: bool

    @property
    def sha256(self) -> str:
        """SHA-256 over the tensors in name order (name, dtype, shape, bytes)."""
        return tensors_sha256(self.tensors)


class Store:
    """Stage results under `root`; safe for several processes at once.

    `notice` receives one sentence per thing the user should know. `computed` and `reused` count
    this object's stages.
    """

    def __init__(self, root: Path, notice: Notice = _log.warning) -> None:
        self.root, self.notice = root, notice
        self.computed = self.reused = 0

    def stage(self, name: str, function: StageFunction, *inputs: Stored, config: Any, seed: int) -> Stored:
        """The result of `function(*inputs, config, seed) -> (tensors, values)`, computed at most once.

        Args:
            name: names the stage among those with the same inputs.
            function: a module-level pure function; all it depends on is in the other arguments.
            inputs: results of earlier stages.
            config: a pydantic model, a mapping or sequence of them, or plain JSON values.
            seed: the cell's seed, from which the function derives its named streams.

        Tensors come back contiguous, detached and freshly allocated whether computed or read, so
        that what follows sees the same memory layout and gives the same bits. Values come back as
        JSON reads them (tuples as lists).

        Raises OSError where the disk fails (nothing half-written is left under a final name), and
        TypeError where function, config or values cannot be stored.
        """
        body = {"format": FORMAT, "stage": name, "function": _identity(function), "config": _plain(config),
                "inputs": [i.key for i in inputs], "seed": seed, "environment": environment()}
        key = hashlib.sha256(canonical(body).encode()).hexdigest()
        folder = self.root / key[:2]
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{key}.lock"):
            found = self._read(folder, key, name)
            if found:
                self.reused += 1
                return found
            tensors, values = function(*inputs, config, seed)
            result = Stored(key, _fresh(tensors), json.loads(json.dumps(dict(values))), False)
            self.computed += 1
            data = safetensors.torch.save(dict(result.tensors))
            write_atomic(folder / f"{key}.safetensors", data)
            body |= {"key": key, "values": result.values, "tensors_sha256": hashlib.sha256(data).hexdigest()}
            line = canonical(body)
            # The manifest goes last: a result exists once its manifest does.
            sealed = json.dumps({"manifest_sha256": hashlib.sha256(line.encode()).hexdigest(), "manifest": body})
            write_atomic(folder / f"{key}.json", sealed.encode())
            return result

    def _read(self, folder: Path, key: str, name: str) -> Stored | None:
        """What is stored under `key`, or None where nothing is or what is there is damaged."""
        path = folder / f"{key}.json"
        if not path.exists():
            return None
        try:
            sealed = json.loads(path.read_bytes())
            body = sealed["manifest"]
            if hashlib.sha256(canonical(body).encode()).hexdigest() != sealed["manifest_sha256"]:
                raise ValueError("the manifest's SHA-256 does not match")
            if body["key"] != key:
                raise ValueError("the manifest belongs to another result")
            data = (folder / f"{key}.safetensors").read_bytes()
            if hashlib.sha256(data).hexdigest() != body["tensors_sha256"]:
                raise ValueError("the tensors' SHA-256 does not match")
            return Stored(key, _fresh(safetensors.torch.load(data)), body["values"], True)
        except (ValueError, KeyError, TypeError, FileNotFoundError, safetensors.SafetensorError) as error:
            self.notice(f"stored result of '{name}' ({key[:12]}) is damaged and computed again: {_short(error)}")
            return None


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over tensors in name order: name, dtype, shape, bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{t.dtype}\0{tuple(t.shape)}\0".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """All beside config and seed that can change a bit of a result; part of every key and manifest."""
    return {**_fixed_environment(), "threads": torch.get_num_threads()}


@functools.cache
def _fixed_environment() -> dict[str, Any]:
    return {"python": platform.python_version(),
            # torch by its own word, for the build (cpu, cu130) is no part of the package's version.
            "torch": str(torch.__version__), **{name: _version(name) for name in LIBRARIES},
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "platform": f"{platform.system()}-{platform.machine()}", "source_sha256": source_sha256()}


def _version(name: str) -> str | None:
    """An installed package's version; None for an extra that is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@functools.cache
def source_sha256() -> str:
    """SHA-256 over the package's own source files, so that a mended defect never returns an old result."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def write_atomic(path: Path, data: bytes) -> None:
    """Write `path` whole or not at all: temporary file, fsync, rename, fsync of the folder.

    One writer per path at a time. Raises OSError (a full disk, say) and leaves no temporary file.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise named(error, path) from None
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def named(error: BaseException, path: Path) -> BaseException:
    """The error of a file operation, with the path where it names none."""
    if isinstance(error, OSError) and error.filename is None and error.errno is not None:
        return OSError(error.errno, error.strerror, str(path))
    return error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that dies with its process; the file goes with its last holder."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # The holder before may have removed the file that was waited for: then nobody else sees this lock.
            if not _same_file(handle, path):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(handle)


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _fresh(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Allocated by torch each time: kernels may sum in another order where memory is aligned otherwise.
    return {k: t.detach().cpu().clone(memory_format=torch.contiguous_format) for k, t in sorted(tensors.items())}


def _identity(function: StageFunction) -> dict[str, str]:
    """Name of the stage's code, with its module's hash where that is not this package's."""
    name = f"{function.__module__}:{function.__qualname__}"
    if "<" in name:
        raise TypeError(f"a stage needs a module-level function, not {name}")
    sha256 = module_sha256(function.__module__)
    return {"name": name, **({"sha256": sha256} if sha256 else {})}


def _plain(value: Any) -> Any:
    """`value` as plain JSON values; NaN and infinity are refused, for they equal nothing."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {_key(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not (value - value == 0.0):
        raise TypeError(f"a stage's config must be finite, not {value}")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a stage's config must be pydantic models or plain JSON values, not {type(value).__name__}")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a stage's config must have text keys, not {key!r}")
    return key


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
