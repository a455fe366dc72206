"""Training of a supernet, its weights file, and the measurement of its subnets.

A new rule of a training step is a class in ``rules`` and a line in ``RULES``. Importing this
package does not import torch.
"""

from raynas.supernet.rules import Rule, Sandwich, SinglePath, StrictFairness

RULES: dict[str, type[Rule]] = {
    "single_path": SinglePath,
    "strict_fairness": StrictFairness,
    "sandwich": Sandwich,
}

__all__ = ["RULES", "Rule", "Sandwich", "SinglePath", "StrictFairness"]
