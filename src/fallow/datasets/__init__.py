"""Readers of data: images, texts with classes, and documents, each as a train and a test part."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .images import ImageData as ImageData
    from .images import ImageDataset as ImageDataset
    from .load import load_images as load_images
    from .text_tables import load_documents as load_documents
    from .text_tables import load_text_table as load_text_table
    from .texts import Corpus as Corpus
    from .texts import Document as Document
    from .texts import TextData as TextData
    from .texts import Texts as Texts
    from .texts import soft_labels as soft_labels

_MODULES = {
    "images": ["ImageData", "ImageDataset"],
    "load": ["load_images"],
    "text_tables": ["load_documents", "load_text_table"],
    "texts": ["Corpus", "Document", "TextData", "Texts", "soft_labels"],
}
# Loaded on first use: `fallow --help` needs `datasets.names`, and must not load torch for it.
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
_REMOVED = (
    "load_newsgroups",
    "load_reuters",
    "load_shakespeare",
    "load_vader",
    "load_fashion_mnist",
    "load_cifar10",
)

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    if name in _REMOVED:
        raise AttributeError(
            f"fallow.datasets.{name} has left the package: `python -m benchmarks.data NAME --out FOLDER` in "
            "a checkout of fallow writes the data set as a file, which load_images, load_text_table and "
            "load_documents read."
        )
    raise AttributeError(f"module 'fallow.datasets' has no attribute {name!r}")
