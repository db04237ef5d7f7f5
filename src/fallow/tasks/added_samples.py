"""``--add``: training sets that grow by collected samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..arrays.checksums import row_checksums
from ..datasets import ImageData
from ..datasets.file_images import FileImages
from ..datasets.names import KNOWN
from ..datasets.pool_part import UNKNOWN, PoolPart
from ..datasets.pools import fetched_from, open_pool
from ..errors import FallowError, invalid
from ..files.regular_file import kind_at
from ..options.train_options import lists
from ..runs.directory import run_of_list
from ..runs.picks_file import LEFT_OUT, Pick, read_rows
from .class_names import class_id, ids_by_name
from .console import Console

_STEP = "Complete the column label; junk, ? or nothing leaves a pick out."


def read_picks(path: Path) -> list[tuple[str, Pick]]:
    """Read a list of picks, which may lie in a run; see :func:`read_rows` for errors."""
    return read_rows(path, run_of_list(path))


def with_added(data: ImageData, add: str, console: Console, *, labelled: bool = True) -> ImageData:
    """Return the data with the picks of the lists at the end of the training part, no sample twice.

    Args:
        data: as it was read.
        add: the paths of the lists, separated by commas.
        console: prints how many picks were left out.
        labelled: whether every sample needs a label; if not, only picks marked as junk are left out.

    Raises:
        InvalidValue: if a label is not a class of the data, or a sample has changed, is missing from its
            pool, or is held out by the data.
    """
    names = lists(add)
    if not names:
        return data
    ids = ids_by_name(data.classes)
    if isinstance(data.train, FileImages):
        # Their pixels are not known, and a pick may lie in another format there.
        console.line(
            f"Added samples are not compared with the {len(data.train) + len(data.test):,} images of "
            f"{data.name}, which are decoded while they train: a copy of one would train twice."
        )
    held_out, known = data.test.contents(), data.train.contents()
    for name in names:
        path = Path(name)
        picks = read_picks(path)
        kept = [(row, pick) for row, pick in picks if _is_wanted(pick, ids, labelled)]
        rows, wanted = [row for row, _ in kept], [pick for _, pick in kept]
        if not wanted:
            found = f"none in {len(picks):,} pick{'s'[: len(picks) != 1]}"
            raise invalid(f"{path} must have labels.", found, _STEP)
        if len(wanted) < len(picks):
            left = len(picks) - len(wanted)
            verbs = "has no label and is left out" if left == 1 else "have no label and are left out"
            console.line(f"{path}: {left:,} of {len(picks):,} picks {verbs}.")
        labels = [_label(pick, data, ids, f"{row} of {path}", labelled) for row, pick in kept]
        images, sums = _samples(data, path, kept, console)
        _check_held_out(sums, held_out, rows, path)
        # np.unique sorts by checksum; the sorted first places keep the order of the list.
        _, first = np.unique(sums, return_index=True)
        new = np.sort(first[~np.isin(sums[first], known)])
        known = np.concatenate([known, sums[new]])
        data = _grown(data, [wanted[row] for row in new], images[new], np.array(labels, np.int64)[new])
        if again := len(wanted) - new.size:
            are = "is" if again == 1 else "are"
            noun = f"pick{'s'[: len(wanted) != 1]}"
            reason = f"{are} in the training set, or twice in the list, and {are} left out."
            console.line(f"{path}: {again:,} of {len(wanted):,} {noun} {reason}")
    return data


def _is_wanted(pick: Pick, ids: dict[str, int], labelled: bool) -> bool:
    """Return whether to train on a pick; a class may be called junk too."""
    if class_id(pick.label, ids) is not None:
        return True
    label = pick.label.strip().lower()
    return label not in LEFT_OUT[1:] and (bool(label) or not labelled)


def _check_held_out(
    sums: NDArray[np.uint64], held_out: NDArray[np.uint64], rows: list[str], path: Path
) -> None:
    index = np.flatnonzero(np.isin(sums, held_out))
    if index.size:
        step = "Remove them from the list: accuracy would be measured on training samples."
        named = ", ".join(rows[i] for i in index[:20]) + ", ..." * (index.size > 20)
        raise invalid("No held-out sample may be added.", f"{index.size:,} of them in {path}: {named}", step)


def _grown(data: ImageData, picks: list[Pick], images: torch.Tensor, labels: NDArray[np.int64]) -> ImageData:
    """Return the data with the picks at the end of the training part."""
    train = data.train.with_more(images, torch.from_numpy(labels))
    files = None if data.files is None else data.files + tuple(p.file or f"{p.pool}#{p.index}" for p in picks)
    identity = data.identity
    if identity is not None:
        identity = (np.concatenate([identity[0], row_checksums(images.numpy())]), identity[1])
    return replace(data, train=train, files=files, added=data.added + len(picks), identity=identity)


def _samples(
    data: ImageData, path: Path, kept: list[tuple[str, Pick]], console: Console
) -> tuple[torch.Tensor, NDArray[np.uint64]]:
    """Return the images of the picks, in order, and their checksums, compared with those in the list."""
    picks = [pick for _, pick in kept]
    images = torch.zeros(len(picks), *data.train.shape, dtype=data.train.dtype)
    was_read = np.zeros(len(picks), bool)
    by_pool: dict[str, list[int]] = defaultdict(list)
    unread: dict[str, str] = {}
    for place, pick in enumerate(picks):
        by_pool[pick.pool].append(place)
    for name, places in by_pool.items():
        at = np.array(places)
        index = np.array([picks[place].index for place in places], np.int64)
        for part in _parts(name, data, path, np.unique(index), console):
            unread |= part.unreadable
            in_part = np.isin(index, part.index)
            images[at[in_part]] = part.images[np.searchsorted(part.index, index[in_part])]
            was_read[at[in_part]] = True
    sums = row_checksums(images.numpy())
    for (row, pick), exists, now in zip(kept, was_read, sums.tolist(), strict=True):
        if not exists or f"{now:016x}" != pick.checksum:
            rule = f"Sample {pick.index} of {pick.pool} must be the one in {row} of {path}."
            reason = "".join(f" ({name}: {reason})" for name, reason in [*unread.items()][:1])
            found = "another one" if exists else f"none that can be read{reason}"
            raise invalid(rule, found, "Restore the pool, or collect again.")
    return images, sums


def _parts(
    name: str, data: ImageData, path: Path, index: NDArray[np.int64], console: Console
) -> Iterator[PoolPart]:
    """Yield samples of the pool that a list names; print a line before anything is fetched."""
    fetched = fetched_from(name)
    if fetched:
        console.line(f"{path} names the pool {name}, which is fetched {fetched}.")
    elif name not in KNOWN and kind_at(name.removeprefix("hf:")) is None:
        step = "Restore it: it holds the samples of the list."
        raise invalid(f"The pool of {path} must exist.", f"no {name}", step)
    try:
        yield from open_pool(name, data.train, data.classes).parts(index)
    except FallowError as error:
        verb = "read" if fetched is None else "fetched"
        # Of the same type, on which the exit code depends.
        raise type(error)(f"{path} names a pool that cannot be {verb}. {error}") from None


def _label(pick: Pick, data: ImageData, ids: dict[str, int], place: str, labelled: bool) -> int:
    if (id_ := class_id(pick.label, ids)) is not None:
        return id_
    if not labelled:
        return UNKNOWN
    shown = ", ".join(data.classes[:12]) + (", ..." if len(data.classes) > 12 else "")
    raise invalid(f"The label in {place} must be a class of the run: {shown}.", repr(pick.label), _STEP)
