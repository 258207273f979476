# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ``ansible-test sanity`` on the build copy, without a container and without its download server.

``ansible-test`` makes an environment per test and per Python version, and fills it with a script it downloads. A script
that takes pip from the package index instead is put where the download would be cached. All of it stays in
``.build/home``. Arguments are passed on: ``python -m tests.tools.sanity --test validate-modules``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ansible_test

from tests.tools.sync import BUILD, sync

HOME = BUILD / "home"
# Besides the Python that runs this, the oldest one that managed hosts may have is tested if the machine has it.
OLDEST_PYTHON = "3.9"

# Stands in for get-pip.py, called with options of `pip install`, pip==VERSION, --no-setuptools and --no-wheel.
# The environment it runs in has no pip yet: the wheel of pip can be run as it is.
GET_PIP = """\
import os, subprocess, sys, tempfile

arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
pip = next(argument for argument in arguments if argument.startswith("pip=="))
download = [{python!r}, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", pip]
with tempfile.TemporaryDirectory() as folder:
    subprocess.check_call([*download, "--dest", folder])
    wheel = os.path.join(folder, os.listdir(folder)[0], "pip")
    subprocess.check_call([sys.executable, wheel, "install", "--quiet", *arguments])
"""


def write_get_pip() -> None:
    """Write the script under each name this release of ``ansible-test`` may ask for."""
    internals = Path(ansible_test.__path__[0]) / "_internal"
    source = (internals / "python_requirements.py").read_text(encoding="utf-8")
    versions = set(re.findall(r"\bpip='([0-9.]+)'", source))
    if not versions:
        sys.exit("sanity: no version of pip in ansible_test/_internal/python_requirements.py; adapt write_get_pip().")
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in versions:
        name = f"get_pip_{version.replace('.', '_')}.py"
        (cache / name).write_text(GET_PIP.format(python=sys.executable), encoding="utf-8")


def keep_pip_settings() -> None:
    """Let pip see the settings of the user, which ``ansible-test`` passes on by the home folder only."""
    for name in (".config/pip", ".pip", ".netrc"):
        link, target = HOME / name, Path.home() / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            link.unlink()
        if target.exists():
            link.symlink_to(target)


def search_path() -> str:
    """Return a PATH with real interpreters only: pyenv's stand-in for a missing Python stops ansible-test."""
    folders = [Path(entry) for entry in os.environ["PATH"].split(os.pathsep) if Path(entry).name != "shims"]
    own = Path(sys.executable).parent, Path(os.path.realpath(sys.executable)).parent
    path = os.pathsep.join(str(folder) for folder in [*own, *folders])
    if not shutil.which(f"python{OLDEST_PYTHON}", path=path):
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        found = sorted(pyenv.glob(f"versions/{OLDEST_PYTHON}.*/bin/python{OLDEST_PYTHON}"))
        path = os.pathsep.join([path, *(str(python.parent) for python in found[-1:])])
    return path


def main(arguments: list[str]) -> int:
    collection = sync()
    write_get_pip()
    keep_pip_settings()
    environment = {**os.environ, "HOME": str(HOME), "PATH": search_path()}
    command = ["ansible-test", "sanity", "--color", "yes" if sys.stdout.isatty() else "no", *arguments]
    return subprocess.run(command, cwd=collection, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
