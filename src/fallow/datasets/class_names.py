"""Class ids: whole numbers of any size, or words; they are numbered from 0 in their order.

Notes before training report names that are blank, or that look the same to a person.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import FallowError, invalid
from ..spelling import one_line

LONGEST = 256
"""Maximum number of characters of a class name."""
WIDEST = 1 << 20
"""Maximum number of columns of one-hot rows."""
_SHOWN, _CUT_AT = 3, 60
_EXACT = 2**53
"""Whole numbers up to this are exact as floats."""
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,19}")


def as_ids(name: str, array: NDArray[np.generic], start: int = 0) -> NDArray[np.generic]:
    """Return labels as class ids ``(N,)``: integers, or words.

    Labels are whole numbers of any type, booleans as 0 and 1, words, a column ``(N, 1)`` of these, or one-hot
    rows ``(N, C)``, whose ids are the positions of their 1.

    Args:
        name: of the array, for errors.
        array: the labels, all or a block of them.
        start: the position of the first one, for errors.

    Raises:
        InvalidValue: if the shape, the type or a value is not allowed.

    >>> as_ids("y", np.array([[3.0], [-1.0]])).tolist()
    [3, -1]
    >>> as_ids("y", np.array([[0, 0, 1], [1, 0, 0]])).tolist()
    [2, 0]
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind in "US":
        return _words(name, array, start)
    if array.dtype.kind not in "iubf":
        rule = f"`{name}` must hold whole numbers or words."
        raise invalid(rule, array.dtype, "A class id is a name: save numbers or text.")
    if array.ndim == 2:
        ones = array == 1
        if not ((ones | (array == 0)).all() and (ones.sum(1) == 1).all()):
            raise _wrong_shape(name, (start + len(array), *array.shape[1:]))
        ids: NDArray[np.int64] = ones.argmax(1).astype(np.int64)
        return ids
    if array.ndim != 1:
        raise _wrong_shape(name, array.shape)
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (np.trunc(array) == array) & (np.abs(array) <= _EXACT)
        for row in np.flatnonzero(~whole)[:1]:
            step = "Fallow trains classifiers: cut measurements into a few groups."
            raise invalid(f"`{name}` must hold whole numbers.", f"{array[row]} at sample {start + row}", step)
    # Ids of 64 bits without a sign may not fit int64.
    return array if array.dtype.kind == "u" and array.dtype.itemsize == 8 else array.astype(np.int64)


def number_classes(*parts: NDArray[np.generic]) -> tuple[list[NDArray[np.int64]], list[str]]:
    """Return the class number of each id for each part, int64 ``(N,)``, and the names of the classes.

    An id is the same class whether it is a number or a word. Numbers come first, in their order, then words.

    >>> (train, test), names = number_classes(np.array([10, -2, 9]), np.array(["9", "eel"]))
    >>> train.tolist(), test.tolist(), names
    ([2, 0, 1], [1, 3], ['-2', '9', '10', 'eel'])
    """
    unique = [np.unique(part, return_inverse=True) for part in parts]
    texts = [[str(value) for value in ids.tolist()] for ids, _ in unique]
    names = sorted(set().union(*texts), key=_order)
    number = {name: position for position, name in enumerate(names)}
    numbers = [np.array([number[text] for text in part], np.int64) for part in texts]
    return [part[inverse] for part, (_, inverse) in zip(numbers, unique, strict=True)], names


def name_notes(names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each group of classes with names that look the same, and for a blank name.

    >>> list(name_notes(["cat", "Cat ", "dog"]))
    ['`cat`, `Cat ` are 2 classes of nearly the same name: if they are one, spell them alike.']
    """
    by_look: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_look[_look(name)].append(name)
    blank = by_look.get("", [])
    if len(blank) == 1:
        yield f"{quoted(blank[0])} is a class whose name is blank: if it stands for no label, leave it out."
    groups = [group for group in by_look.values() if len(group) > 1]
    for group in groups[:_SHOWN]:
        examples = ", ".join(map(quoted, _distinct(group[:_SHOWN])))
        count = len(group)
        yield f"{examples} are {count} classes of nearly the same name: if they are one, spell them alike."
    if len(groups) > _SHOWN:
        yield f"So are {len(groups) - _SHOWN:,} other groups of classes."


def quoted(name: str) -> str:
    """Return a name as it is quoted in a sentence: on one line, cut if it is long."""
    return f"`{one_line(name if len(name) <= _CUT_AT else name[: _CUT_AT - 1] + '…')}`"


def _look(name: str) -> str:
    """Return a name without case, blanks, unseen characters, Unicode forms, sign and leading zeros."""
    # Folding the case can give characters that are not normalised, so they are normalised twice.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    visible = "".join(letter for letter in folded if not letter.isspace() and one_line(letter) == letter)
    return re.sub(r"^\+?0*(?=[0-9]+$)", "", visible)


def _distinct(names: Sequence[str]) -> list[str]:
    r"""Return names; if only Unicode forms tell them apart, combining marks are escaped: ``cafe\u0301``."""
    if len({unicodedata.normalize("NFC", name) for name in names}) == len(names):
        return list(names)
    return [
        "".join(f"\\u{ord(letter):04x}" if unicodedata.combining(letter) else letter for letter in name)
        for name in names
    ]


def _order(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if _NUMBER.fullmatch(name) else (1, 0, name)


def _words(name: str, array: NDArray[np.generic], start: int) -> NDArray[np.generic]:
    if array.ndim != 1:
        raise _wrong_shape(name, array.shape)
    # Fixed-width text takes the length of the longest name for every sample.
    if array.dtype.itemsize > LONGEST * (4 if array.dtype.kind == "U" else 1):
        raise invalid(f"A class name in `{name}` has at most {LONGEST} characters.", array.dtype)
    rule = f"`{name}` must hold words as text."
    step = "Save them as numpy text."
    if array.dtype.kind == "S":
        try:
            words: NDArray[np.generic] = np.char.decode(array.astype(np.bytes_), "utf-8")
            return words
        except ValueError as error:
            raise invalid(rule, f"{error} from sample {start} on", step) from None
    # A file may hold any 32 bits as a character; numpy raises only when one is read.
    codes = np.ascontiguousarray(array).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    for position in np.flatnonzero((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000)))[:1]:
        row = start + position // (array.dtype.itemsize // 4)
        raise invalid(rule, f"the character {codes[position]:#x} at sample {row}", step)
    return array


def _wrong_shape(name: str, shape: tuple[int, ...]) -> FallowError:
    step = "Class ids are one number or word a sample; take `.argmax(1)` of probabilities."
    return invalid(f"`{name}` must have the shape (N,).", shape, step)
