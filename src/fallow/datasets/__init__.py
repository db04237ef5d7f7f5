"""Readers of image data: a name, a folder of images or an npz file becomes two datasets."""

from .images import ImageData, ImageDataset
from .load import load_images

__all__ = ["ImageData", "ImageDataset", "load_images"]
