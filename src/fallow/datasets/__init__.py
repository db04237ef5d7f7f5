"""Readers of data: a name, a folder of images or an npz file becomes two datasets; texts with classes."""

from .images import ImageData, ImageDataset
from .load import load_images
from .newsgroups import TextData, load_newsgroups, load_reuters

__all__ = ["ImageData", "ImageDataset", "TextData", "load_images", "load_newsgroups", "load_reuters"]
