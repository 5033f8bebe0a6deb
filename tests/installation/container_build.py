"""Builds an image's file tree from a Dockerfile, without a container engine: its steps run in a root
folder of their own, by ``chroot``.

The base image is this machine: its programs and libraries, read only, and one interpreter of the
version that the Dockerfile asks for. Nothing else of it is there, and nothing outside of the root
folder is written. It takes root, and nothing stays but the folder.

What cannot be done so is listed in ``Build.not_run``.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from tests.installation.environments import find_python

STEP_TIMEOUT_S = 550

ENTER = """\
root=$1 user=$2 folder=$3 command=$4
shift 4
for each; do
  mount --bind "$each" "$root$each" || exit 1
  case $each in /dev|/proc) ;; *) mount -o remount,bind,ro "$root$each" || exit 1 ;; esac
done
exec chroot --userspec="$user" "$root" /bin/sh -c 'cd "$1" && exec /bin/sh -c "$2"' sh "$folder" "$command"
"""
"""In a mount namespace of its own, with which the mounts end."""

SYSTEM = ("/usr", "/dev", "/proc")
COPIED = ("/etc/passwd", "/etc/group", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
COPIED += ("/etc/login.defs", "/etc/ld.so.cache", "/etc/ssl", "/etc/ca-certificates")
OWN = ("tmp", "root", "home", "opt", "app", "wheel", "var/tmp")


def possible() -> str:
    """Why nothing can be built here; empty when it can."""
    if not hasattr(os, "geteuid") or os.geteuid():
        return "it takes root to enter a root folder"
    if missing := [name for name in ("unshare", "chroot", "useradd") if not shutil.which(name)]:
        return f"{', '.join(missing)} is not installed"
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


@dataclass(frozen=True, slots=True)
class Instruction:
    """A line of a Dockerfile, continued ones joined: ``RUN``, and the rest of it."""

    name: str
    rest: str


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


@dataclass
class Stage:
    """A file tree that is being built.

    Attributes:
        root: its folder.
        interpreter: the base image's.
        index: a folder of wheels, beside the package index.
        variables: of ``ENV`` and ``ARG``.
        folder: of ``WORKDIR``.
        user: of ``USER``.
        command, health: of ``CMD`` and ``HEALTHCHECK``, for a shell.
    """

    root: Path
    interpreter: Path
    index: Path
    variables: dict[str, str]
    folder: str = "/"
    user: str = "root"
    command: str = ""
    health: str = ""

    @property
    def mounted(self) -> list[str]:
        """Folders of this machine that are seen in it."""
        prefix = self.interpreter.parent.parent
        return [*SYSTEM, str(self.index), *([] if prefix == Path("/usr") else [str(prefix)])]

    def ids(self, name: str) -> tuple[int, int]:
        """Of a user, by the tree's own list."""
        for line in (self.root / "etc/passwd").read_text().splitlines():
            entry = line.split(":")
            if entry[0] == name:
                return int(entry[2]), int(entry[3])
        raise LookupError(f"there is no user {name}")

    def entering(self, command: str) -> list[str]:
        """The command line that runs a shell's command in the tree, as its user."""
        user = "{}:{}".format(*self.ids(self.user))
        place = (str(self.root), user, self.folder, command)
        return ["unshare", "-m", "sh", "-c", ENTER, "sh", *place, *self.mounted]

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes: what the Dockerfile sets, and how pip reaches its index."""
        passed = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("PIP_", "SSL_")) or name.lower().endswith("_proxy")
        }
        passed["PIP_FIND_LINKS"] = str(self.index)
        home = {"HOME": "/root" if self.user == "root" else f"/home/{self.user}"}
        return {**passed, **home, **self.variables}


@dataclass
class Build:
    """A Dockerfile's image.

    Args:
        context: the folder whose files it may copy.
        folder: for the trees.
        arguments: of the build.
        index: a folder of wheels that its steps find beside those of the package index.

    Attributes:
        not_run: the instructions that only a container engine does.
    """

    context: Path
    folder: Path
    index: Path
    arguments: Mapping[str, str] = field(default_factory=dict)
    not_run: list[str] = field(default_factory=list)
    stages: dict[str, Stage] = field(default_factory=dict)

    def run(self, dockerfile: Path) -> Stage:
        """Runs every instruction; returns the last stage."""
        ignored = dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text().splitlines()
        self._ignored = [line for line in ignored if line and not line.startswith("#")]
        everywhere: dict[str, str] = {}
        stage: Stage | None = None
        for instruction in parse(dockerfile.read_text()):
            if instruction.name == "FROM":
                stage = self._begin(instruction.rest, everywhere)
            elif stage is None:
                everywhere |= self._argument(instruction.rest)
            else:
                getattr(self, f"_{instruction.name.lower()}")(stage, instruction.rest)
        assert stage is not None
        return stage

    def _argument(self, rest: str) -> dict[str, str]:
        name, _, default = rest.partition("=")
        return {name: self.arguments.get(name, default)}

    def _begin(self, rest: str, everywhere: Mapping[str, str]) -> Stage:
        base, _, name = Template(rest).substitute(everywhere).partition(" AS ")
        root = self.folder / (name or "final")
        if base in self.stages:
            before = self.stages[base]
            shutil.copytree(before.root, root, symlinks=True)
            stage = Stage(
                root, before.interpreter, self.index, dict(before.variables), before.folder
            )
        else:
            self.not_run.append(f"FROM {base}")
            version = re.fullmatch(r"python:(3\.\d+)-slim", base)
            assert version, base
            python = find_python(version[1])
            assert python is not None, f"there is no Python {version[1]}"
            stage = Stage(root, python, self.index, {})
            self._furnish(stage)
        self.stages[name] = stage
        return stage

    def _furnish(self, stage: Stage) -> None:
        for name in OWN:
            (stage.root / name).mkdir(parents=True)
        (stage.root / "tmp").chmod(0o1777)
        for name in ("bin", "sbin", "lib", "lib64"):
            (stage.root / name).symlink_to(f"usr/{name}")
        for mounted in stage.mounted:
            (stage.root / mounted[1:]).mkdir(parents=True, exist_ok=True)
        (stage.root / "etc").mkdir()
        for copied in filter(os.path.exists, COPIED):
            copy = shutil.copytree if Path(copied).is_dir() else shutil.copy
            copy(copied, stage.root / copied[1:])
        search = f"{stage.interpreter.parent}:/usr/bin:/bin:/usr/sbin:/sbin"
        stage.variables["PATH"] = search
        if not (stage.interpreter.parent / "python").exists():
            (stage.root / "opt/python").symlink_to(stage.interpreter)
            stage.variables["PATH"] = f"/opt:{search}"

    def _arg(self, stage: Stage, rest: str) -> None:
        stage.variables |= self._argument(rest)

    def _env(self, stage: Stage, rest: str) -> None:
        for word in shlex.split(rest):
            name, _, value = word.partition("=")
            stage.variables[name] = Template(value).substitute(stage.variables)

    def _workdir(self, stage: Stage, rest: str) -> None:
        stage.folder = rest
        (stage.root / rest[1:]).mkdir(parents=True, exist_ok=True)

    def _user(self, stage: Stage, rest: str) -> None:
        stage.user = rest

    def _expose(self, stage: Stage, rest: str) -> None:
        self.not_run.append(f"EXPOSE {rest}")

    def _healthcheck(self, stage: Stage, rest: str) -> None:
        options, _, stage.health = rest.partition("CMD ")
        self.not_run.append(f"HEALTHCHECK {options.strip()}")

    def _cmd(self, stage: Stage, rest: str) -> None:
        stage.command = shlex.join(json.loads(rest))

    def _run(self, stage: Stage, rest: str) -> None:
        done = subprocess.run(
            stage.entering(rest),
            env=stage.environment,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"RUN {rest}\n{done.stdout}\n{done.stderr}"

    def _copy(self, stage: Stage, rest: str) -> None:
        words = shlex.split(rest)
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        to = stage.root / str(Path(stage.folder) / target)[1:]
        if origin := options.get("from"):
            (source,) = sources
            shutil.copytree(
                self.stages[origin].root / source[1:], to, symlinks=True, dirs_exist_ok=True
            )
        else:
            self._copy_from_context(sources, to)
        if owner := options.get("chown"):
            ids = stage.ids(owner.partition(":")[0])
            for path in (to, *to.rglob("*")):
                os.chown(path, *ids, follow_symlinks=False)

    def _copy_from_context(self, sources: Sequence[str], to: Path) -> None:
        found = [
            path
            for each in sources
            for path in ([self.context] if each == "." else self.context.glob(each))
        ]
        assert found, sources
        for path in found:
            if path.is_dir():
                shutil.copytree(path, to, dirs_exist_ok=True, ignore=self._ignore)
            else:
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, to)

    def _ignore(self, folder: str, names: list[str]) -> set[str]:
        """What the ``.dockerignore`` keeps out."""
        within = Path(folder).relative_to(self.context)
        return {
            name
            for name in names
            for pattern in self._ignored
            if fnmatch.fnmatch(str(within / name), pattern)
            or (pattern.startswith("**/") and fnmatch.fnmatch(name, pattern[3:]))
        }
