"""Training code that is PyTorch Lightning's: how deep and wide a perceptron for digits?

`fit` is what you have already: a module, loaders, a `Trainer`. What is new is the callback
`Report`, five lines: it keeps a checkpoint in `job.workdir` and reports the epoch. So the search
may stop or pause a training, and one that goes on, here or on another machine, has its epochs at
their own steps. A training that `EarlyStopping` ends is complete, with a note; finalists train
on, since what is held out of their training are the test images.
Needs `pip install lightning`.
Expected: the layers of 128 units win, one to four of them alike, with 96.5 to 98 % on the
validation images; most narrower ones stay at the first rung. `EarlyStopping` ends the winner.
Time and hardware: 20 seconds of processor time on a CPU core; no download.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from raynas.core import Architecture, Choice, Job
from raynas.data import Digits
from raynas.data.base import DataView, Images
from raynas.evaluators import FunctionEvaluator
from raynas.experiment import Budget, Experiment, Finalists
from raynas.samplers import TPE
from raynas.schedulers import PromotionASHA
from raynas.spaces import SearchSpace

DATA = Digits()


@dataclass(frozen=True)
class Perceptron(SearchSpace):
    """Equal layers in a row."""

    name: ClassVar[str] = "perceptron"

    @property
    def choices(self) -> tuple[Choice, ...]:
        return (
            Choice("depth", (1, 2, 3, 4), ordered=True),
            Choice("width", (16, 32, 64, 128), ordered=True),
            Choice("activation", ("ReLU", "GELU", "Tanh")),
        )

    def build(
        self,
        arch: Architecture,
        input_shape: tuple[int, int, int] = (1, 8, 8),
        num_classes: int = 10,
    ) -> nn.Module:
        width, layers = int(arch["width"]), [nn.Flatten()]
        for _ in range(int(arch["depth"])):
            layers += [nn.LazyLinear(width), getattr(nn, str(arch["activation"]))()]
        network = nn.Sequential(*layers, nn.LazyLinear(num_classes))
        network(torch.zeros(1, *input_shape))
        return network


def loader(images: Images, view: DataView, shuffle: bool = False) -> DataLoader[Any]:
    pixels = (torch.tensor(images.pixels) - torch.tensor(view.mean)) / torch.tensor(view.std)
    data = TensorDataset(pixels.permute(0, 3, 1, 2).float(), torch.tensor(images.labels))
    return DataLoader(data, batch_size=64, shuffle=shuffle)


def fit(arch: Architecture, job: Job, report: Callable[..., None]) -> None:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import EarlyStopping

    class Classifier(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = Perceptron().build(arch)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            logits = self.network(batch[0])
            self.log("loss", nn.functional.cross_entropy(logits, batch[1]))
            self.log("accuracy", 100 * (logits.argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    class Report(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
            trainer.save_checkpoint(checkpoint)
            epoch, accuracy = trainer.current_epoch + 1, trainer.callback_metrics["accuracy"]
            report(step=epoch, val_accuracy=float(accuracy))

    checkpoint = job.workdir / "last.ckpt"
    view = DATA.final_view(0) if job.held_out == "test" else DATA.search_view(0)
    pl.seed_everything(job.seed % 2**32, verbose=False)
    module = Classifier()
    patience = [EarlyStopping("loss", patience=4)] if job.held_out == "val" else []
    trainer = pl.Trainer(
        max_epochs=job.max_step,
        accelerator="cpu" if job.device == "cpu" else "gpu",
        devices=1,
        callbacks=[*patience, Report()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=job.workdir,
    )
    train, held_out = loader(view.train, view, shuffle=True), loader(view.held_out, view)
    begun = str(checkpoint) if checkpoint.exists() else None
    trainer.fit(module, train, held_out, ckpt_path=begun)
    torch.save(module.network.state_dict(), job.workdir / "network.pt")


def trained(arch: Architecture, workdir: Path) -> nn.Module | None:
    """The network that `fit` left, for the best of the run and for exports."""
    if not (workdir / "network.pt").exists():
        return None
    network = Perceptron().build(arch)
    network.load_state_dict(torch.load(workdir / "network.pt", map_location="cpu"))
    return network


def experiment() -> Experiment:
    return Experiment(
        space=Perceptron(),
        data=DATA,
        evaluator=FunctionEvaluator(fit, max_step=27, on_test=True, network=trained),
        sampler=TPE(n_startup=8),
        scheduler=PromotionASHA(min_step=1, factor=3),
        baselines=(),
        budget=Budget(trials=24),
        finalists=Finalists(top=2, seeds=2),
        smoke={
            "budget.trials": 4,
            "evaluator.max_step": 3,
            "finalists.top": 1,
            "finalists.seeds": 1,
        },
    )
