"""The images a job learns from: importing them, reading them back, and the order in which training sees them."""

from workers.data.errors import DatasetError
from workers.data.images import ImageSet
from workers.data.importer import import_dataset
from workers.data.order import sample_order

__all__ = ["DatasetError", "ImageSet", "import_dataset", "sample_order"]
