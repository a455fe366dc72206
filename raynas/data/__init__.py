"""This package has the data sets: one file for each, and one entry for each in ``DATASETS``.

Importing this package imports neither scikit-learn nor Pillow nor pyarrow. They are imported when
files are read.
"""

from raynas.core.renamed import renamed_names
from raynas.data.arrays import Arrays
from raynas.data.base import Dataset, DataView, DeclaredImages, Images
from raynas.data.cifar import CIFAR10, CIFAR100
from raynas.data.digits import Digits
from raynas.data.idx import IDX, FashionMNIST
from raynas.data.imagenet16 import ImageNet16
from raynas.data.imageset import ImageSet, Part
from raynas.data.stand_in import StandIn, available, stand_in

DATASETS: dict[str, type[Dataset]] = {
    Digits.name: Digits,
    FashionMNIST.name: FashionMNIST,
    CIFAR10.name: CIFAR10,
    CIFAR100.name: CIFAR100,
    ImageNet16.name: ImageNet16,
    IDX.name: IDX,
    Arrays.name: Arrays,
    StandIn.name: StandIn,
}

__all__ = [
    "Arrays", "CIFAR10", "CIFAR100", "DATASETS", "Dataset", "DeclaredImages", "Digits",
    "FashionMNIST", "IDX", "ImageNet16", "ImageSet", "Images", "Part", "StandIn", "DataView",
    "available", "stand_in",
]  # fmt: skip

__getattr__ = renamed_names(__name__, View="DataView", Declaration="DeclaredImages")
