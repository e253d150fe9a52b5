"""The package itself: its version, the cost of its import, its stubs, and the texts of its errors."""

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import pytest
import tenure
import tenure.filelock
from conftest import HOLDER


def test_the_version() -> None:
    assert tenure.__version__ == version("tenure") and "__version__" in tenure.__all__


def test_an_import_loads_few_modules() -> None:
    """Importing asyncio or typing would cost more than the package."""
    code = "import sys; known = set(sys.modules); import tenure; print(*set(sys.modules) - known)"
    said = subprocess.run([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, check=True).stdout.decode()
    others = {name for name in said.split() if not name.startswith("tenure")}
    assert others <= {"__future__", "_datetime", "_operator", "_strptime", "datetime", "math", "operator", "time"}


def documented(tree: ast.AST, of: Any) -> Iterator[Tuple[str, str, Any]]:
    for node in getattr(tree, "body", ()):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
            thing = getattr(of, node.name)
            yield node.name, ast.get_docstring(node) or "", thing
            if isinstance(node, ast.ClassDef):
                yield from documented(node, thing)


def test_the_stubs_have_the_docstrings() -> None:
    stub = Path(tenure.__file__).with_name("_tenure.pyi")
    found = list(documented(ast.parse(stub.read_text()), tenure._tenure))
    assert len(found) > 40
    for name, said, thing in found:
        assert said and said == inspect.getdoc(thing), name


def test_every_function_accepts_bytes_as_a_path(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff"
    for path in (name, os.fsdecode(name), Path(os.fsdecode(name))):
        with tenure.Lock(path) as held:
            assert os.fsencode(held.target) == name
            assert tenure.status(path).state == "held" and os.path.exists(name + b".lock")
            assert tenure.break_lock(path, force=True)
            assert held.lost
            held_again = held
            with pytest.raises(tenure.Lost):
                held_again.release()
        assert not tenure.break_lock(path)
    for odd in (7, None, object()):
        for call in (tenure.Lock, tenure.status, tenure.break_lock):
            with pytest.raises(TypeError):
                call(odd)


def test_only_force_breaks_a_live_holders_lock(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "x"
    holder = other(HOLDER, path)
    holder.hear()
    with pytest.raises(tenure.Busy, match="force=True") as refused:
        tenure.break_lock(path)
    assert refused.value.holder is not None and refused.value.holder.pid == holder.pid
    assert tenure.break_lock(path, force=True)
    with tenure.Lock(path, timeout=60) as held:
        held.check()
    holder.kill()


#: Terms of Rust and of the command, which a user of this package may not have.
FOREIGN = re.compile(r"\w\((true|false|\.\.|0o\d+)\)|::|`|--\w|\bcrate\b|\bfeature\b")


def test_hints_are_in_terms_of_python(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "x"
    holder = other(HOLDER, path)
    holder.hear()
    (tmp_path / "yarn.lock").write_text("# yarn lockfile v1\n")
    calls: Dict[str, Any] = {
        "tenure.status(": lambda: tenure.Lock(path).acquire(0),
        "tenure.break_lock(": lambda: asyncio.run(tenure.Lock(path).acquire_async(0.01)),
        "create_parents=True": lambda: tenure.Lock(tmp_path / "none" / "x", create_parents=False),
        'style="flock"': lambda: tenure.Lock(path, shared=True).acquire(0),
        'use style="flock"': lambda: tenure.Lock(tmp_path / "yarn").acquire(1),
        "reentrant=True": lambda: [tenure.Lock(f"{path}2").acquire() for _ in range(2)],
        "leave refresh_interval out": lambda: tenure.Lock("etcd://localhost/x", refresh_interval=5),
        "is it running": lambda: tenure.Lock("etcd://127.0.0.1:1/x").acquire(1),
        "force=True": lambda: tenure.break_lock(path),
    }
    kept = []
    for words, call in calls.items():
        with pytest.raises(tenure.Error) as caught:
            kept.append(call())
        error = caught.value
        assert error.hint is not None and words in error.hint and str(error).endswith(error.hint), str(error)
        assert not FOREIGN.search(error.hint.replace("the command `tenure`", "")), error.hint
    # The calls in a hint can be pasted.
    with pytest.raises(tenure.Busy) as busy:
        tenure.Lock(path).acquire(0)
    assert busy.value.hint is not None
    advised = re.findall(r"tenure\.\w+\([^;]*?\)", busy.value.hint)
    assert eval(advised[0]).state == "held" and eval(advised[1]) is True
    with pytest.raises(tenure.filelock.Timeout) as timeout, tenure.filelock.FileLock(f"{path}3"):
        tenure.filelock.FileLock(f"{path}3").acquire(timeout=0)
    assert timeout.value.hint is not None and not FOREIGN.search(timeout.value.hint)
