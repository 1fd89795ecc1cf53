"""Modules of the user's: found in the project's folder, imported as they are now, named by a hash of their source."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from reuse_sim.errors import InputError

_project: ContextVar[Path | None] = ContextVar("project", default=None)
_imported: dict[str, tuple[str, str]] = {}  # top-level module of a project -> (its place, hash of its source)


def current_project() -> Path | None:
    """The project's folder, inside `project_path`."""
    return _project.get()


@contextmanager
def project_path(project: Path | None) -> Iterator[None]:
    """Let modules that lie in the folder `project` be imported; with None, nothing changes.

    The folder comes last: a file of the project never stands in for a library's module.
    """
    if project is None:
        yield
        return
    token, place, wrote = _project.set(project), str(project), sys.dont_write_bytecode
    sys.path.append(place)
    # A cached .pyc goes by whole seconds: a file edited within one would run as it was.
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        _project.reset(token)
        sys.dont_write_bytecode = wrote
        if place in sys.path:
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(place)]


def import_user_module(name: str) -> ModuleType:
    """Import a module; one of the current project is imported afresh where its source has changed.

    Raises InputError with the cause where it cannot be imported, or where its name is taken.
    """
    top, project = name.partition(".")[0], _project.get()
    importlib.invalidate_caches()
    spec = PathFinder.find_spec(top, [str(project)]) if project and top not in ("", "reuse_sim") else None
    if spec is not None:
        place = str(spec.origin or list(spec.submodule_search_locations or [])[0])
        mark = (place, _hash_of(place))
        if top in sys.modules and top in _imported and _imported[top] != mark:
            for known in [m for m in sys.modules if m == top or m.startswith(top + ".")]:
                del sys.modules[known]
        if place not in (places := _places_of(top)):
            got = f"the name of a module that Python has from elsewhere ({top} in {', '.join(places)})"
            raise InputError(name, got, "a free name")
        _imported[top] = mark
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as e:
        if isinstance(e, ModuleNotFoundError) and e.name and (name == e.name or name.startswith(e.name + ".")):
            here = f" in {project}" if project else ""
            raise InputError(name, f"no module {e.name}{here}", "a module that Python can import") from e
        raise InputError(name, f"{one_line(e)} while importing {name}", "a module that Python can import") from e


def is_in_project(name: str) -> bool:
    """Whether the current project's folder itself has a module of this name."""
    project = _project.get()
    return bool(project and name.isidentifier() and PathFinder.find_spec(name, [str(project)]))


def module_sha256(module: str) -> str | None:
    """Hash of an imported module's source (of its whole package, if it lies in one), None for a built-in."""
    top = module.partition(".")[0]
    if top == "reuse_sim":
        return None
    if top in _imported:
        return _imported[top][1]
    file = getattr(sys.modules[module], "__file__", None)
    return _hash_of(file) if file else None


def same_source(module: str, sha256: str | None) -> None:
    """Raises InputError where an imported module's source is not the one with this hash."""
    if module_sha256(module) != sha256:
        raise InputError(module, "another source than when the scenario was read", "the same until the run ends",
                         "run again")


def one_line(e: BaseException) -> str:
    """An exception's type and message on one line."""
    return " ".join(f"{type(e).__name__}: {e}".split())


def _places_of(top: str) -> list[str]:
    """Where Python has a module from, or would have it from."""
    module = sys.modules.get(top)
    if module is None:
        spec = importlib.util.find_spec(top)
        return [str(spec.origin), *(spec.submodule_search_locations or [])] if spec else []
    return [str(getattr(module, "__file__", None) or "Python itself"), *getattr(module, "__path__", [])]


def _hash_of(place: str) -> str:
    """SHA-256 of a module's file, or of all files of a package (given its folder or its `__init__.py`)."""
    path = Path(place)
    folder = path if path.is_dir() else path.parent if path.name == "__init__.py" else None
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")) if folder else [path]:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder or path.parent)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
