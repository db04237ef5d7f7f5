"""``--add``: training sets that grow by what was collected."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .._checks import invalid
from ..data_file import row_checksums
from ..datasets import ImageData, ImageDataset
from ..datasets.pools import open_pool
from ..picks import LEFT_OUT, Pick, read_picks
from .console import Console

_STEP = "Complete the column label; junk, ? or nothing leaves a pick out."


def lists(add: str) -> list[str]:
    """Return the files that ``--add`` names, each once."""
    return list(dict.fromkeys(name.strip() for name in add.split(",") if name.strip()))


def with_added(data: ImageData, add: str, console: Console, *, labelled: bool = True) -> ImageData:
    """Return the data with the picks of some lists at the end of the training part.

    Args:
        data: as it was read.
        add: the lists, with commas between.
        console: where to say how many were left out.
        labelled: whether every sample needs a label; without, those that are marked as junk are left out.

    Raises:
        InvalidValue: for a label that is no class of the data, a sample that is not in its pool any more or
            is another one, or one that the data hold out.
    """
    for name in lists(add):
        path = Path(name)
        picks = read_picks(path)
        wanted = [pick for pick in picks if _is_wanted(pick, labelled)]
        if not wanted:
            raise invalid(f"{path} must have labels.", f"none in {len(picks):,} picks", _STEP)
        if len(wanted) < len(picks):
            left = f"{len(picks) - len(wanted):,} of {len(picks):,} picks"
            console.line(f"{path}: {left} have no label and are left out.")
        data = _grown(data, path, wanted, labelled=labelled)
    return data


def _is_wanted(pick: Pick, labelled: bool) -> bool:
    marked = pick.label.lower() in LEFT_OUT[1:]
    return not marked and (bool(pick.label) or not labelled)


def _grown(data: ImageData, path: Path, picks: list[Pick], *, labelled: bool) -> ImageData:
    labels = np.array([_label(pick, data.classes, path, labelled) for pick in picks], np.int64)
    images = torch.empty(len(picks), *data.train.images.shape[1:], dtype=data.train.images.dtype)
    by_pool: dict[str, list[int]] = defaultdict(list)
    for place, pick in enumerate(picks):
        by_pool[pick.pool].append(place)
    for name, places in by_pool.items():
        index = np.array([picks[place].index for place in places], np.int64)
        for part in open_pool(name, data.train, data.classes).parts(np.unique(index)):
            found = dict(zip(part.index.tolist(), range(len(part)), strict=True))
            for place in places:
                if (row := found.get(picks[place].index)) is not None:
                    images[place] = part.images[row]
    sums = row_checksums(images.numpy())
    for pick, now in zip(picks, sums.tolist(), strict=True):
        if f"{now:016x}" != pick.checksum:
            rule = f"Sample {pick.index} of {pick.pool} must be the one that {path} lists."
            raise invalid(rule, "another one, or none", "Put the pool back as it was, or collect anew.")
    if held := int(np.isin(sums, row_checksums(data.test.images.numpy())).sum()):
        step = "Take them off the list: accuracy would be measured on what was trained on."
        raise invalid("No held-out sample may be added.", f"{held:,} of them in {path}", step)
    train = ImageDataset(
        torch.cat([data.train.images, images]), torch.cat([data.train.labels, torch.from_numpy(labels)])
    )
    files = None if data.files is None else data.files + tuple(p.file or f"{p.pool}#{p.index}" for p in picks)
    return replace(data, train=train, files=files)


def _label(pick: Pick, classes: tuple[str, ...], path: Path, labelled: bool) -> int:
    if pick.label in classes:
        return classes.index(pick.label)
    if not labelled:
        return 0
    shown = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
    rule = f"A label in {path} must be a class of the run: {shown}."
    raise invalid(rule, f"{pick.label!r} for sample {pick.index}", _STEP)
