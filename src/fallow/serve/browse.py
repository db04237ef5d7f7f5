"""Samples by what became of them, the life of one, and pictures that the run keeps."""

from __future__ import annotations

import re
from collections import Counter
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedData
from ..policies.base import Reason
from ..report.source import Source
from ..report.text import passage
from ..runs.sample_history import history_of
from ..runs.suspects import suspected
from . import answers
from .bounded import Bounded
from .call import Call
from .errors import nothing, unknown, wrong
from .overview import number, source_of
from .places import named
from .served_run import ServedRun, stamp_of

_TEXT, _TAKEN = 500, 3
_CURSOR = re.compile(r"([0-9a-f]{16})\.([0-9]{1,16})")
_REASONS = {reason.name.lower(): reason for reason in Reason}
_MASKS: Bounded[NDArray[np.bool_]] = Bounded(1 << 26, lambda mask: mask.nbytes + 1024)
"""Sets of samples that take long to find: used never, and used again."""


def samples(call: Call) -> answers.Samples:
    """Return a page of samples."""
    run, ask = call.run(), call.ask
    source = source_of(run)
    epoch = run.epochs[-1] if ask.epoch is None else ask.epoch
    if epoch not in run.epochs:
        raise unknown("The epoch", str(epoch))
    file = source.last if epoch == run.epochs[-1] else run.epoch(epoch)
    n = file.record.remaining
    mask = np.ones(n, np.bool_)
    if ask.reason is not None:
        mask &= file.reason == _REASONS[ask.reason]
    if ask.label is not None:
        mask &= _equal(source.labels, ask.label, n)
    if ask.predicted is not None:
        mask &= _equal(source.predicted, ask.predicted, n)
    if ask.wrong == "1":
        mask &= _wrong(source, n)
    if ask.never == "1":
        mask &= _kept(run, "never")[:n]
    if ask.returned == "1":
        mask &= _kept(run, "returned")[:n]
    if ask.suspects == "1":
        mask &= _kept(run, "suspects")[:n]
    for bound, above in ((ask.score_from, True), (ask.score_to, False)):
        if bound is not None:
            mask &= file.scores >= bound if above else file.scores <= bound
    index = np.flatnonzero(mask)
    page, more = _page(index, _keys(source, file.scores, ask.order)[index], ask.after, ask.limit)
    rows = [
        sample_row(run, int(sample), file.scores, file.reason, file.record.used_bits) for sample, _ in page
    ]
    following = f"{_hexed(page[-1][1])}.{page[-1][0]}" if page and more else None
    return answers.Samples(total=index.size, next=following, epoch=epoch, samples=rows)


def _keys(source: Source, scores: NDArray[np.float32], order: str) -> NDArray[np.float64]:
    """Return what samples are sorted by, the smallest first; those without a score come last."""
    sign = -1.0 if order.startswith("-") else 1.0
    match order.removeprefix("-"):
        case "score":
            return np.where(np.isfinite(scores), sign * scores.astype(np.float64), np.inf)
        case "times":
            return sign * source.times[: scores.size].astype(np.float64)
        case _:
            return sign * np.arange(scores.size, dtype=np.float64)


def _page(
    index: NDArray[np.int64], keys: NDArray[np.float64], after: str | None, limit: int
) -> tuple[list[tuple[int, float]], bool]:
    """Return a page of samples with their keys, by key and then index, and whether more follow.

    A page begins behind the key and the sample that ended the one before, so that new epochs shift nothing.
    """
    if after is not None:
        match = _CURSOR.fullmatch(after)
        if match is None:
            raise wrong("`after` must be `next` of the page before.")
        key, sample = float(np.frombuffer(bytes.fromhex(match[1]), ">f8")[0]), int(match[2])
        if key != key:
            raise wrong("`after` must be `next` of the page before.")
        later = np.flatnonzero((keys > key) | ((keys == key) & (index > sample)))
        index, keys = index[later], keys[later]
    more = index.size > limit
    if more:  # linear, where a sort of millions would take a second
        last = np.partition(keys, limit - 1)[limit - 1]
        below, equal = np.flatnonzero(keys < last), np.flatnonzero(keys == last)
        chosen = np.sort(np.concatenate([below, equal[: limit - below.size]]))
        index, keys = index[chosen], keys[chosen]
    order = np.argsort(keys, kind="stable")
    return list(zip(index[order].tolist(), keys[order].tolist(), strict=True)), more


def _hexed(key: float) -> str:
    return np.array(key, ">f8").tobytes().hex()


def _equal(rows: NDArray[np.int32] | None, value: int, n: int) -> NDArray[np.bool_]:
    if rows is None:
        raise nothing("The run knows no classes of its samples.")
    found: NDArray[np.bool_] = rows[:n] == value
    return found


def _wrong(source: Source, n: int) -> NDArray[np.bool_]:
    labels, predicted = source.labels, source.predicted
    if labels is None or predicted is None:
        raise nothing("The run knows no predictions of its samples.")
    found: NDArray[np.bool_] = (labels[:n] >= 0) & (predicted[:n] >= 0) & (labels[:n] != predicted[:n])
    return found


def _kept(run: ServedRun, name: str) -> NDArray[np.bool_]:
    """Return a set of samples as a mask ``(N,)``, from memory if the run has not changed."""
    key = (run.directory.path, run.stamp, name)
    mask = _MASKS.get(key)
    if mask is None:
        n, mask = run.source.n, np.zeros(run.source.n, np.bool_)
        if name == "never":
            mask = run.times_used == 0
        elif name == "returned":
            used, left, mask = np.zeros((3, n), np.bool_)
            for record in run.history:
                size = min(n, record.remaining)
                now = record.used_mask[:size]
                mask[:size] |= left[:size] & now
                left[:size] |= used[:size] & ~now
                used[:size] |= now
        else:
            mask[suspected(run)] = True
        _MASKS.put(key, mask)
    return mask


def sample_row(
    run: ServedRun,
    sample: int,
    scores: NDArray[np.float32],
    reason: NDArray[np.uint8],
    used: NDArray[np.uint8],
) -> answers.SampleRow:
    """Return a sample at the end of an epoch.

    Args:
        run: the run.
        sample: its index.
        scores: of all samples in that epoch.
        reason: why each was left out.
        used: the bits of those used.
    """
    source = run.source
    label, guess = _class(source.labels, sample), _class(source.predicted, sample)
    excerpt = run.text(sample)
    return answers.SampleRow(
        index=sample,
        file=named(run.file_of(sample), source.folder),
        label=label,
        label_name=None if label is None else source.class_name(label),
        predicted=guess,
        predicted_name=None if guess is None else source.class_name(guess),
        score=number(float(scores[sample])),
        reason=Reason(int(reason[sample])).name.lower(),
        used=bool(used[sample >> 3] >> (sample & 7) & 1),
        times_used=int(source.times[sample]),
        picture=run.has_picture(sample),
        text=None if excerpt is None else passage(excerpt, _TEXT),
    )


def _class(rows: NDArray[np.int32] | None, sample: int) -> int | None:
    value = -1 if rows is None else int(rows[sample])
    return None if value < 0 else value


def life(call: Call) -> answers.Life:
    """Return the life of one sample."""
    run, sample = call.run(), call.ask.sample
    source = source_of(run)
    if sample >= source.n:
        raise unknown("The sample", f"{sample:,} of {source.n:,}")
    last = source.last
    history = history_of(run, sample)
    return answers.Life(
        sample=sample_row(run, sample, last.scores, last.reason, source.history[-1].used_bits),
        taken_for=_taken_for(run, sample, [one.epoch for one in history.epochs]),
        epochs=[
            answers.LifeEpoch(
                epoch=one.epoch, used=one.used, score=one.score, reason=one.reason.replace(" ", "_")
            )
            for one in history.epochs
        ],
        n=source.n,
    )


def _taken_for(run: ServedRun, sample: int, epochs: list[int]) -> list[answers.TakenFor]:
    """Return the classes that a sample was most often taken for in place of its own, at most three."""
    others = Counter(other for epoch in epochs if (other := run.other(epoch, sample)) is not None)
    # Of equal ones the smaller number comes first.
    common = sorted(others.items(), key=lambda pair: (-pair[1], pair[0]))[:_TAKEN]
    return [answers.TakenFor(label=k, name=run.source.class_name(k), epochs=size) for k, size in common]


def picture(call: Call) -> bytes:
    """Return the picture of a sample that the run keeps, or a small one of its file, as PNG."""
    run, sample = call.run(), call.ask.sample
    if not run.keeps_picture(sample):
        path = run.image(sample)
        if run.images is None or path is None:
            raise nothing("The run keeps no picture of this sample.")
        found = run.images.thumbnail(path)
        if found is None:
            rule = "The file of a sample must be a PNG, JPEG, GIF or WEBP of at most 20 MB and 64 megapixels"
            raise nothing(f"{rule} to be shown. This one is of another kind, or gone.")
        return found
    assert run.shown is not None
    assert run.shown.pictures is not None
    return png(run.shown.pictures[run.shown_rows[sample]])


def image_stamp(call: Call) -> str:
    """Return what changes when the image file of a sample does; empty if the run keeps its picture."""
    if call.catalog.images is None:
        return ""
    run, sample = call.run(), call.ask.sample
    path = None if run.keeps_picture(sample) else run.image(sample)
    return "" if path is None else stamp_of(path)


def gap_picture(call: Call) -> bytes:
    """Return a picture of the list of gaps, as PNG."""
    run, place = call.run(), call.ask.picture
    pictures = None if run.gaps is None else run.gaps.pictures
    if pictures is None or place >= len(pictures):
        raise nothing("The list of gaps has no such picture.")
    if not all(1 <= side <= 1024 for side in pictures.shape[1:3]):
        raise DamagedData(
            "The pictures of gaps.safetensors must have sides of 1 to 1024. Run fallow gaps again."
        )
    return png(pictures[place])


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a picture, ``(H, W, 1)`` or ``(H, W, 3)``, as PNG."""
    from PIL import Image

    drawn = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(drawn, "png")
    return drawn.getvalue()
