"""The images a job learns from: importing them, reading them back, and the order in which training sees them."""

from workers.data.errors import DatasetError
from workers.data.images import ImageSet
from workers.data.importer import Imported, import_dataset, import_images
from workers.data.order import sample_order

__all__ = ["DatasetError", "ImageSet", "Imported", "import_dataset", "import_images", "sample_order"]
