"""Read the texts that the options name."""

from __future__ import annotations

from pathlib import Path

from ..datasets import Corpus, Document, TextData, load_documents, load_text_table
from ..datasets.names import KNOWN
from ..datasets.texts import not_utf8
from ..errors import damaged, invalid
from ..files.regular_file import kind_at, read_regular
from ..options.resolve import ResolvedOptions, is_table
from ..runs.data_file import DataFile
from .console import Console
from .corrected_labels import with_labels
from .parts import beginning, chosen_documents, chosen_parts, cut_at_line


def read_texts(
    options: ResolvedOptions, before: DataFile | None = None, console: Console | None = None
) -> TextData | Corpus:
    """Read the texts that the options name; documents for a language model.

    Args:
        options: of the training.
        before: the samples of the resumed run, or None. They stay on their side; several documents are only
            split later, as they are recognised by their tokens.
        console: prints what a list of labels has changed; None prints nothing.
    """
    name, share = options.data, options.test_share
    if name in KNOWN or Path(name).suffix.lower() == ".npz":
        step = "Name texts, or another --task."
        raise invalid(f"--task {options.task} needs texts.", f"--data {name}", step)
    if not is_table(name) and (options.text is not None or options.label is not None):
        raise invalid("--text and --label name columns of a table.", name, "Leave them out.")
    if options.task == "text":
        data = _classified(options)
        chosen = chosen_parts(data, options.samples, options.validation, before)
        return with_labels(chosen, data, options.labels, name, console or Console.nowhere())
    if name.lower().endswith(".txt"):
        cut = None if before is None or options.validation is not None else before.cut
        train, test = cut_at_line(_text_file(Path(name)), share, cut)
        corpus = Corpus(Path(name).name, (train,), (test,), cut=beginning(test))
    else:
        assert options.text is not None
        corpus = load_documents(name, options.text, test_share=share)
    for part, held in ((corpus.train, "train on"), (corpus.test, "hold out")):
        if not part:
            raise invalid(f"{name} must hold texts to {held}.", "none that is not empty", "Add some.")
    return corpus if before is not None else chosen_documents(corpus, options.validation)


def _classified(options: ResolvedOptions) -> TextData:
    if options.data.lower().endswith(".txt"):
        step = "Name a table, or --task language-model."
        raise invalid("--task text needs texts with a class each.", options.data, step)
    assert options.text is not None
    assert options.label is not None
    labels = [name.strip() for name in options.label.split(",") if name.strip()]
    data = load_text_table(options.data, options.text, labels, test_share=options.test_share)
    if not len(data.test):
        rule = f"{options.data} must hold a class with two rows: one to train, one to hold out."
        raise invalid(rule, f"{len(data.train):,} rows, each of a class of its own", "Check --label.")
    return data


def _text_file(path: Path) -> Document:
    try:
        # Some editors begin a file with a byte order mark.
        return Document(path.name, read_regular(path).decode("utf-8-sig"))
    except FileNotFoundError:
        found = kind_at(path) or "no such file"
        raise invalid(f"The data {path} must exist.", found, "Check the path.") from None
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, "Check its rights.") from None
