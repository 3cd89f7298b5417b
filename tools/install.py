"""Bring `.venv` up to a lock, as `make` does each time: `python3 tools/install.py requirements-serve.lock`.

A Python that is too old has to get far enough to say so: write this file for Python 3.6.
"""

import argparse
import fcntl
import filecmp
import importlib.util
import shutil
import subprocess
import sys
import venv
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UNFINISHED = VENV / "unfinished"
"""Is there while packages are put into place: pip would take one that was cut off for a whole one."""
PROBE = "import importlib.util, sys; print(*sys.version_info[:2], importlib.util.find_spec('pip') is not None)"


def main() -> None:
    """Install what the lock names, if that was not done before."""
    parser = argparse.ArgumentParser()
    parser.add_argument("lock", help="a file in the root of the project, with exact versions and hashes")
    parser.add_argument("--this-python", action="store_true", help="make .venv anew if it is of another Python")
    arguments = parser.parse_args()
    with Path(__file__).open("r+") as alone:
        wait_for_others(alone.fileno())
        if not works(arguments.this_python):
            make_venv()
        bring_up_to(ROOT / arguments.lock)


def wait_for_others(file: int) -> None:
    """Go on alone: `make serve` and `make test` may start in two terminals at once."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Waiting for another make to fill .venv", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)


def works(this_python: bool) -> bool:
    """Whether `.venv` is whole, is where it was made, and of a Python that is new enough (or of this very one)."""
    if UNFINISHED.exists():
        return False
    try:
        said = subprocess.check_output([str(PYTHON), "-c", PROBE], stderr=subprocess.DEVNULL).decode()
        configuration = (VENV / "pyvenv.cfg").read_text().splitlines()
    except (OSError, subprocess.CalledProcessError):
        return False
    major, minor, has_pip = said.split()
    version = (int(major), int(minor))
    made_for = [line for line in configuration if line.startswith("command = ")]
    return (
        has_pip == "True"
        and made_for[-1:] != []
        and made_for[-1].endswith(f" {VENV.resolve()}")
        and (version == sys.version_info[:2] if this_python else version >= OLDEST)
    )


def make_venv() -> None:
    """Make `.venv` anew with the Python that runs this."""
    if sys.version_info < OLDEST:
        sys.exit(
            f"Madang needs Python 3.11 or newer, and {sys.executable} is {sys.version.split()[0]}."
            " Name a newer one, as in: make serve PYTHON=python3.12"
        )
    if importlib.util.find_spec("ensurepip") is None:  # Debian has it in a package of its own
        package = "python{}.{}-venv".format(*sys.version_info)
        if subprocess.call(["sh", str(ROOT / "tools" / "apt-install"), package]):
            sys.exit(1)
    remove_venv()
    VENV.mkdir()
    UNFINISHED.touch()
    venv.create(VENV, with_pip=True, symlinks=True)


def remove_venv() -> None:
    """Remove `.venv`; where it is a link, the link alone."""
    if VENV.is_symlink():
        VENV.unlink()
    elif VENV.exists():
        print("Making .venv anew: it is broken, was moved, or is of another Python", flush=True)
        shutil.rmtree(str(VENV))


def bring_up_to(lock: Path) -> None:
    """Install what `lock` names, and keep a copy of it as the sign that this was done."""
    done = VENV / lock.name
    if done.exists() and filecmp.cmp(str(lock), str(done), shallow=False):
        return
    print(f"Installing what {lock.name} names into .venv", flush=True)
    UNFINISHED.touch()
    command = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes"]
    status = subprocess.call([*command, "-r", str(lock)])
    if status >= 0:  # not killed: what could not be installed as a whole was taken back by pip
        UNFINISHED.unlink()
    if status != 0:
        sys.exit("The installation failed; see above. Then run the same command again.")
    shutil.copyfile(str(lock), str(done))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
