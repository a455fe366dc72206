"""Trains a tiny supernet in the folder given, prints every epoch; to be killed."""

import sys
import time
from pathlib import Path

import torch
from tiny_supernet import Tiny, tiny_view

from raynas.supernet.rules import SinglePath
from raynas.supernet.training import Look, train_supernet
from raynas.training import Recipe

if __name__ == "__main__":
    torch.manual_seed(0)
    for row in train_supernet(
        Tiny().supernet((1, 8, 8), 4),
        tiny_view(),
        Recipe(epochs=4, batch_size=16, lr=0.1, crop_pad=1, flip=False, grad_clip=5.0),
        SinglePath(),
        seed=3,
        average=3,
        look=Look(random=1, images=40, calibration=32),
        workdir=Path(sys.argv[1]),
        checkpoint_seconds=0.0,
    ):
        print(row.step, flush=True)
        if row.step == 3:
            time.sleep(600)  # whoever is to kill it is late
