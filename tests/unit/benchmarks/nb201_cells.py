"""Tables and authors' files of NAS-Bench-201 with made-up numbers."""

from __future__ import annotations

import bz2
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raynas.spaces import NASBench201

SPACE = NASBench201()
DATASETS = ("cifar10", "cifar100", "imagenet16")
SPLITS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test"),
    "ImageNet16-120": ("x-valid", "x-test"),
}


def texts() -> list[str]:
    return [arch.text for arch in SPACE.enumerate()]


def columns(count: int = 15_625) -> dict[str, list[Any]]:
    """Cell ``i`` has validation accuracy 20 + i / 1000 (200 epochs), 10 + i / 1000 (12 epochs)."""
    base = [i / 1000 for i in range(count)]
    found: dict[str, list[Any]] = {"arch": texts()[:count]}
    for dataset in DATASETS:
        found |= {
            f"{dataset}_valid": [20 + v for v in base],
            f"{dataset}_test": [30 + v for v in base],
            f"{dataset}_valid_12ep": [10 + v for v in base],
            f"{dataset}_test_12ep": [15 + v for v in base],
            f"{dataset}_train_time_200ep_s": [200.0 + i for i in range(count)],
            f"hw_{dataset}_edgetpu_latency": [None if i % 2 else 1 + v for i, v in enumerate(base)],
        }
    return found


def write(path: Path, found: Mapping[str, list[Any]]) -> Path:
    pq.write_table(pa.table(dict(found)), path)
    return path


def training(dataset: str, length: int, seed: int, index: int) -> dict[str, Any]:
    """What the authors keep of one training; validation accuracy at epoch ``e``: see ``value``."""
    every = length == 12 or dataset == "cifar10-valid"
    accuracies = {
        f"{split}@{epoch}": np.float64(value(dataset, length, seed, index, epoch, split))
        for split in SPLITS[dataset]
        for epoch in range(length)
        if epoch == length - 1 or (every and split == "x-valid")
    }
    return {
        "name": "infer.tiny",
        "seed": seed,
        "epochs": length,
        "params": 0.1 + index,
        "flop": 15.0 + index,
        "latency": [0.01, 0.03] if index % 2 else [-1],
        "train_times": dict.fromkeys(range(length), 2.0),
        "train_acc1es": dict.fromkeys(range(length), 50.0),
        "eval_acc1es": accuracies,
        "eval_names": ["x-valid", "ori-test"],
    }


def value(dataset: str, length: int, seed: int, index: int, epoch: int, split: str) -> float:
    own = len(dataset) + (5.0 if split.endswith("test") else 0.0)
    return own + 20 * (epoch + 1) / length + (seed - 777) / 222 + index / 1000


def cell(index: int, seeds: tuple[int, ...] = (777, 888)) -> OrderedDict[str, Any]:
    """One file's content in the authors' layout."""
    return OrderedDict(
        (
            str(length),
            {
                "arch_index": index,
                "arch_str": SPACE.from_index(index).text,
                "all_results": OrderedDict(
                    ((dataset, seed), training(dataset, length, seed, index))
                    for dataset in SPLITS
                    for seed in seeds
                ),
                "dataset_seed": {dataset: list(seeds) for dataset in SPLITS},
                "clear_net_done": True,
            },
        )
        for length in (12, 200)
    )


def pack(path: Path, content: Any) -> Path:
    path.write_bytes(bz2.compress(pickle.dumps(content, protocol=4), 1))
    return path


def folder_of(folder: Path, count: int) -> Path:
    """An archive of the first ``count`` cells; its meta file names all."""
    folder.mkdir(exist_ok=True)
    archs = [SPACE.from_index(i).text for i in range(15_625)]
    meta = {"meta_archs": archs, "total_archs": 15_625, "evaluated_indexes": set(range(count))}
    pack(folder / "meta.pickle.pbz2", meta)
    for index in range(count):
        pack(folder / f"{index:06d}.pickle.pbz2", cell(index))
    return folder
