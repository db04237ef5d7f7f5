"""Readers of data: images, texts with classes, and documents, each as a train and a test part."""

from .images import ImageData, ImageDataset
from .load import load_images
from .newsgroups import load_newsgroups, load_reuters
from .shakespeare import load_shakespeare
from .text_tables import load_documents, load_text_table
from .texts import Corpus, Document, TextData, Texts, soft_labels
from .vader import load_vader

__all__ = [
    "Corpus",
    "Document",
    "ImageData",
    "ImageDataset",
    "TextData",
    "Texts",
    "load_documents",
    "load_images",
    "load_newsgroups",
    "load_reuters",
    "load_shakespeare",
    "load_text_table",
    "load_vader",
    "soft_labels",
]
