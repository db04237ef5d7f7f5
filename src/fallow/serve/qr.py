"""A link as a QR code on a terminal: bytes at the lowest level of correction, up to 230 characters.

References:
    ISO/IEC 18004:2015
"""

from __future__ import annotations

from ..errors import invalid

_BLOCKS = {1: (1, 19, 7), 2: (1, 34, 10), 3: (1, 55, 15), 4: (1, 80, 20), 5: (1, 108, 26), 6: (2, 68, 18),
           7: (2, 78, 20), 8: (2, 97, 24), 9: (2, 116, 30)}  # fmt: skip
"""By version: the number of blocks, and the bytes of data and of correction in each."""
_ALIGNED = {1: (), 2: (6, 18), 3: (6, 22), 4: (6, 26), 5: (6, 30), 6: (6, 34), 7: (6, 22, 38), 8: (6, 24, 42),
            9: (6, 26, 46)}  # fmt: skip
_QUIET = 4
"""The white border that readers need."""
_MASK = 0
"""The pattern that is laid over the data: every second field, as on a board of chess."""

Fields = dict[tuple[int, int], bool]


def draw(text: str) -> list[str]:
    """Return the lines of a code, two rows of fields a line, dark on light on a dark terminal.

    Raises:
        InvalidValue: if the text is too long.
    """
    size, fields = matrix(text.encode())
    rows = range(-_QUIET, size + _QUIET, 2)
    # A light field is drawn as a block, since most terminals are dark.
    marks = {(True, True): " ", (True, False): "▄", (False, True): "▀", (False, False): "█"}
    return [
        "".join(
            marks[fields.get((row, column), False), fields.get((row + 1, column), False)]
            for column in range(-_QUIET, size + _QUIET)
        )
        for row in rows
    ]


def matrix(data: bytes) -> tuple[int, Fields]:
    """Return the side of a code, and whether each field (row, column) is dark."""
    version = next((v for v, (n, k, _) in _BLOCKS.items() if len(data) + 2 <= n * k), None)
    if version is None:
        raise invalid("A link in a code must have at most 230 bytes.", len(data), "Shorten --root_path.")
    size = 17 + 4 * version
    fixed = _patterns(version, size)
    fields, bits = dict(fixed), _bits(version, data)
    place, upwards = 0, True
    for right in (*range(size - 1, 6, -2), 5, 3, 1):
        for row in range(size - 1, -1, -1) if upwards else range(size):
            for column in (right, right - 1):
                if (row, column) not in fixed:
                    bit = place < len(bits) and bits[place]
                    fields[row, column] = bit != ((row + column) % 2 == 0)
                    place += 1
        upwards = not upwards
    return size, fields


def _patterns(version: int, size: int) -> Fields:
    """Return the fields that are the same for every text of a version."""
    fields: Fields = {}
    for i in range(size):  # timing
        fields[6, i] = fields[i, 6] = i % 2 == 0
    for top, left in ((0, 0), (0, size - 7), (size - 7, 0)):  # finders, with their border
        for row in range(-1, 8):
            for column in range(-1, 8):
                if 0 <= top + row < size and 0 <= left + column < size:
                    ring = max(abs(row - 3), abs(column - 3))
                    fields[top + row, left + column] = ring in (0, 1, 3)
    for row in _ALIGNED[version]:
        for column in _ALIGNED[version]:
            if (row, column) in ((6, 6), (6, size - 7), (size - 7, 6)):
                continue
            for i in range(-2, 3):
                for j in range(-2, 3):
                    fields[row + i, column + j] = max(abs(i), abs(j)) != 1
    _put_format(fields, size)
    if version >= 7:
        word = version << 12 | _remainder(version << 12, 0x1F25, 12)
        for i in range(18):
            bit = bool(word >> i & 1)
            fields[i // 3, size - 11 + i % 3] = fields[size - 11 + i % 3, i // 3] = bit
    return fields


def _put_format(fields: Fields, size: int) -> None:
    data = 0b01 << 3 | _MASK  # the lowest level of correction
    word = (data << 10 | _remainder(data << 10, 0x537, 10)) ^ 0x5412
    one = [(i, 8) for i in (0, 1, 2, 3, 4, 5, 7, 8)] + [(8, i) for i in (7, 5, 4, 3, 2, 1, 0)]
    other = [(8, size - 1 - i) for i in range(8)] + [(size - 7 + i, 8) for i in range(7)]
    for i in range(15):
        fields[one[i]] = fields[other[i]] = bool(word >> i & 1)
    fields[size - 8, 8] = True


def _remainder(value: int, divisor: int, bits: int) -> int:
    for i in range(value.bit_length() - 1, bits - 1, -1):
        if value >> i & 1:
            value ^= divisor << (i - bits)
    return value


def _bits(version: int, data: bytes) -> list[bool]:
    """Return data and correction as bits, in the order in which they are laid out."""
    blocks, length, correction = _BLOCKS[version]
    room = blocks * length
    number = 0b0100 << 8 | len(data)  # bytes, and how many
    for byte in data:
        number = number << 8 | byte
    whole = (number << 4).to_bytes(len(data) + 2, "big")  # four zeros end it
    padded = whole + bytes((0xEC, 0x11)[i % 2] for i in range(room - len(whole)))
    parts = [padded[i * length : (i + 1) * length] for i in range(blocks)]
    more = [_correction(part, correction) for part in parts]
    mixed = [part[i] for i in range(length) for part in parts]
    mixed += [part[i] for i in range(correction) for part in more]
    return [bool(byte >> i & 1) for byte in mixed for i in range(7, -1, -1)]


def _correction(data: bytes, count: int) -> bytes:
    """Return the Reed-Solomon correction of a block."""
    powers = [1]
    for _ in range(254):
        powers.append(powers[-1] << 1 ^ (0x11D if powers[-1] & 0x80 else 0))
    logs = {value: place for place, value in enumerate(powers)}

    def times(a: int, b: int) -> int:
        return powers[(logs[a] + logs[b]) % 255] if a and b else 0

    divisor = [1]
    for i in range(count):
        shifted = [*divisor, 0]
        divisor = [a ^ times(b, powers[i]) for a, b in zip(shifted, [0, *divisor], strict=True)]
    rest = [*data, *[0] * count]
    for i in range(len(data)):
        factor = rest[i]
        for j, part in enumerate(divisor):
            rest[i + j] ^= times(part, factor)
    return bytes(rest[len(data) :])
