"""Disks that remember what was asked of them, lose what they may lose in a power cut, or refuse."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from fallow.files.disk import Disk

MODELS = ("kept", "emptied", "torn", "names lost")
"""What a power cut leaves of files that were not synced: all; their names without content; a part of their
content; and of names that were not synced: those before. Each is what some file system does."""


@dataclass
class File:
    """The content of a file as programs see it, and as it is safe."""

    live: bytes = b""
    safe: bytes | None = None


class RecordingDisk(Disk):
    """Writes for real, and keeps a log of every operation."""

    def __init__(self):
        self.log = []

    def _do(self, name, *arguments):
        self.log.append((name, *arguments))
        getattr(Disk, name)(self, *arguments)

    def write(self, path, data):
        self._do("write", path, bytes(data))

    def sync(self, path):
        self._do("sync", path)

    def rename(self, old, new):
        self._do("rename", old, new)

    def sync_folder(self, path):
        self._do("sync_folder", path)

    def remove(self, path):
        self._do("remove", path)


class RefusingDisk(Disk):
    """Fails at its n-th operation with an error of the system, and ever after where it is broken for good."""

    def __init__(self, at, errno, for_good=True):
        self.at, self.errno, self.for_good, self.count = at, errno, for_good, 0

    def _do(self, name, *arguments):
        self.count += 1
        if self.count == self.at or (self.for_good and self.count > self.at):
            raise OSError(self.errno, os.strerror(self.errno))
        getattr(Disk, name)(self, *arguments)

    write = lambda self, path, data: self._do("write", path, data)  # noqa: E731
    sync = lambda self, path: self._do("sync", path)  # noqa: E731
    rename = lambda self, old, new: self._do("rename", old, new)  # noqa: E731
    sync_folder = lambda self, path: self._do("sync_folder", path)  # noqa: E731
    remove = lambda self, path: self._do("remove", path)  # noqa: E731


@dataclass
class Surface:
    """A disk after some operations: names and files as programs see them, and as they are safe."""

    names: dict = field(default_factory=dict)
    safe_names: dict = field(default_factory=dict)

    def play(self, operation):
        name, path, *more = operation
        if name == "write":
            self.names.setdefault(path, File()).live = more[0]
        elif name == "sync":
            self.names[path].safe = self.names[path].live
        elif name == "rename":
            self.names[more[0]] = self.names.pop(path)
        elif name == "remove":
            self.names.pop(path, None)
        elif name == "sync_folder":
            inside = {p: f for p, f in self.names.items() if p.parent == path}
            outside = {p: f for p, f in self.safe_names.items() if p.parent != path}
            self.safe_names = outside | inside

    def left(self, model):
        """What a power cut leaves: content by path."""
        names = self.safe_names if model == "names lost" else self.names
        return {path: self._content(file, model) for path, file in names.items()}

    @staticmethod
    def _content(file, model):
        if model == "kept" or file.live == file.safe:
            return file.live
        if model == "torn":
            return file.live[: len(file.live) // 3]
        return file.safe if file.safe is not None else b""


def after_power_cuts(log, root):
    """Yield `(operations done, model, content by path within root)` for a cut after every operation."""
    surface = Surface()
    for done in range(len(log) + 1):
        for model in MODELS:
            yield done, model, {p.relative_to(root): c for p, c in surface.left(model).items()}
        if done < len(log):
            surface.play(log[done])


def lay_out(contents, folder: Path):
    """Write files as they were left."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
