"""What holds the project together: set-up files, recipes, and who imports what."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from raynas.core import Job, Objective, SearchProblem, Trial, TrialState

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


# -- versions ----------------------------------------------------------------------------------


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {str(canonicalize_name(name)): Version(version) for name, version in pairs}


def requirements() -> dict[str, Requirement]:
    lines = [*PROJECT["dependencies"]]
    for extra in PROJECT["optional-dependencies"].values():
        lines += extra
    return {line: Requirement(line) for line in lines if not line.startswith("raynas[")}


@pytest.mark.parametrize("line", requirements())
def test_every_dependency_is_pinned_within_its_range(line: str) -> None:
    wanted = requirements()[line]
    pinned = pins()[str(canonicalize_name(wanted.name))]
    assert wanted.specifier.contains(pinned)


def test_pins_are_plain_versions_that_any_index_can_have() -> None:
    text = (ROOT / "constraints.txt").read_text()
    names = [line.split("==")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len({canonicalize_name(n) for n in names}) == len(names)
    assert "://" not in text
    assert "raynas" not in names
    for name, version in pins().items():
        assert version.local is None, f"{name}=={version} is a build of one machine"


def test_development_tools_bring_the_extras_along() -> None:
    optional = PROJECT["optional-dependencies"]
    (own,) = (Requirement(line) for line in optional["dev"] if line.startswith("raynas["))
    assert own.extras == set(optional) - {"dev", "cluster"}  # see pyproject.toml


def test_the_version_is_said_once() -> None:
    import raynas

    assert raynas.__version__ == PROJECT["version"]
    assert f"{PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_licence_is_the_one_that_is_declared() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


# -- make and continuous integration -----------------------------------------------------------


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=inherited, capture_output=True, text=True, check=False
    )


def test_make_alone_lists_all_targets() -> None:
    done = make()
    targets = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert done.returncode == 0
    assert targets is not None
    for target in targets[1].split():
        assert f"make {target} " in done.stdout


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench", "chaos"])
def test_every_target_sets_up_first_and_names_existing_files(target: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = make("-n", target, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pip install --progress-bar off -c constraints.txt" in done.stdout
    for path in re.findall(r"experiments/\w+\.py", done.stdout):
        assert (ROOT / path).is_file()


def test_another_index_for_torch_is_handed_to_pip(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = make("-n", "setup", "TORCH_INDEX=https://example.org/cpu", folder=tmp_path)
    assert '--extra-index-url "https://example.org/cpu"' in done.stdout


@pytest.mark.parametrize("python", ["/no/such/python", "false", ""])
def test_set_up_without_a_usable_python_says_what_to_do(python: str, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    done = make("setup", f"PYTHON={python}", folder=folder)
    assert done.returncode == 2
    assert f"no usable Python: '{python}' is not Python >= 3.11 with venv" in done.stderr
    assert "make setup PYTHON=/path/to/python3.11" in done.stderr
    assert not (folder / ".venv").exists()


def test_set_up_runs_again_only_for_new_versions(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    stamp = tmp_path / ".venv" / ".setup-done"
    stamp.parent.mkdir()
    stamp.touch()
    assert "pip install" not in make("-n", "setup", folder=tmp_path).stdout
    later = stamp.stat().st_mtime + 10
    os.utime(tmp_path / "constraints.txt", (later, later))
    assert "pip install" in make("-n", "setup", folder=tmp_path).stdout


def test_continuous_integration_checks_and_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert text.index("make check") < text.index("make test")


# -- the recipes of CONTRIBUTING.md ------------------------------------------------------------

GUIDE = (ROOT / "CONTRIBUTING.md").read_text()


def recipes() -> dict[str, str]:
    """File name -> code, of every Python block that starts with its file's name."""
    blocks = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", GUIDE, re.DOTALL)
    return dict(blocks)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, ModuleType]]:
    folder = tmp_path_factory.mktemp("recipes")
    modules: dict[str, ModuleType] = {}
    for file, code in recipes().items():
        name = f"recipe_{Path(file).stem}"
        path = folder / f"{name}.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        modules[Path(file).stem] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[Path(file).stem])
    yield modules
    for module in modules.values():
        del sys.modules[module.__name__]


def test_all_python_of_the_guide_is_a_recipe() -> None:
    assert len(recipes()) == GUIDE.count("```python") == 6
    for file in recipes():
        assert not (ROOT / file).exists(), "a recipe's file must not hide a real one"


def test_the_recipes_make_a_search(recipe: Mapping[str, ModuleType]) -> None:
    import torch

    torch.set_num_threads(1)
    space = recipe["two_layers"].TwoLayers()
    view = recipe["stripes"].Stripes(count=60).search_view(0)
    evaluator = recipe["centroid"].Centroid(features=8)
    sampler = recipe["hill"].HillClimbing(startup=2)
    problem = SearchProblem((Objective(),), evaluator.max_step, 0, "recipes")
    evaluator.setup(space, view)
    sampler.setup(space, problem)
    found = []
    for number in range(space.size):
        resumed = recipe["hill"].HillClimbing(startup=2)
        resumed.setup(space, problem)
        resumed.replay(found)
        arch = sampler.ask(number)
        assert resumed.ask(number) == arch  # as if it had never stopped
        (measurement,) = evaluator.evaluate(arch, Job(number, number, evaluator.max_step))
        assert not measurement.bad_values([m.name for m in evaluator.metrics])
        trial = Trial(number, arch, arch, state=TrialState.COMPLETE, measurements=[measurement])
        sampler.tell(trial)
        found.append(trial)
    assert len({t.arch for t in found}) == space.size
    assert max(t.values()["val_accuracy"] for t in found) > 80  # stripes are easy


def test_the_space_of_the_recipe_builds_and_counts(recipe: Mapping[str, ModuleType]) -> None:
    import torch

    space = recipe["two_layers"].TwoLayers()
    arch = space.sample(np.random.default_rng(0))
    network = space.build(arch, (1, 8, 8), 2)
    assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 2)
    assert space.costs(arch, (1, 8, 8), 2).params == sum(p.numel() for p in network.parameters())
    assert space.architecture(arch.text) == arch


def test_the_supernet_of_the_recipe_holds_its_networks(recipe: Mapping[str, ModuleType]) -> None:
    import torch

    space, images = recipe["chain"].Chain(), torch.randn(2, 1, 7, 9)
    supernet = space.supernet((1, 7, 9), 3).eval()
    for arch in space.enumerate():
        network = supernet.extract(arch)
        torch.testing.assert_close(network(images), supernet(images, arch), rtol=0, atol=1e-5)
        params = sum(p.numel() for p in network.parameters())
        assert space.costs(arch, (1, 7, 9), 3).params == params
    assert space.build(arch, (1, 7, 9), 3)(images).shape == (2, 3)


def test_the_proxy_of_the_recipe_scores_in_a_search(recipe: Mapping[str, ModuleType]) -> None:
    from raynas.evaluators import ZeroShot
    from raynas.spaces import NASBench201

    proxy = recipe["sensitivity"].Sensitivity()
    evaluator, space = ZeroShot(proxies=(proxy,), batch=8), NASBench201(channels=4, cells=1)
    evaluator.setup(space, recipe["stripes"].Stripes(count=60).search_view(0))
    convolutions = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    (found,) = evaluator.evaluate(space.architecture(convolutions), Job(0, 0, 1))
    assert found.bad_values(["sensitivity"]) == []
    nothing = convolutions.replace("nor_conv_3x3", "none")
    (found,) = evaluator.evaluate(space.architecture(nothing), Job(0, 0, 1))
    assert found.note.startswith("no sensitivity: no path from input to output")
    assert 'Objective("sensitivity")' in GUIDE


def test_files_and_tables_that_the_guide_names_exist() -> None:
    prose = re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)
    for path in re.findall(r"`((?:raynas|tests|experiments)/[\w/.]+\.\w+)`", prose):
        assert (ROOT / path).is_file(), path
    tables = re.findall(r"`(\w+)` of\s+`([\w/]+\.py)`", prose)
    assert len(tables) >= 6
    for table, path in tables:
        assert re.search(rf"^{table}\b", (ROOT / path).read_text(), re.MULTILINE), (table, path)


def test_targets_that_the_guide_names_exist() -> None:
    rules = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:^|`)make (\w+)", GUIDE, re.MULTILINE))
    assert {"setup", "test", "check", "demo"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", rules, re.MULTILINE), target


# -- who imports what --------------------------------------------------------------------------

BELOW_RUNNERS = (
    "core", "costs", "layers", "store", "data", "spaces", "training", "proxies", "benchmarks",
    "supernet", "evaluators", "samplers", "schedulers", "callbacks", "analysis", "reports",
)  # fmt: skip


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_packages_import_nothing_heavy() -> None:
    names = ", ".join(f"raynas.{p}" for p in BELOW_RUNNERS)
    heavy = ("torch", "ray", "optuna", "sklearn", "matplotlib", "pyarrow", "pandas", "scipy")
    code = f"import sys, raynas, {names}; print(*({set(heavy)} & set(sys.modules)))"
    assert python(code) == ""


def test_everything_below_runners_works_without_ray_and_optuna() -> None:
    code = f"""
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "optuna"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
count = 0
for package in {BELOW_RUNNERS}:
    home = importlib.import_module("raynas." + package)
    for module in pkgutil.walk_packages(home.__path__, home.__name__ + "."):
        if not module.name.startswith("raynas.samplers.optuna"):
            importlib.import_module(module.name)
            count += 1
assert not {{"ray", "optuna"}} & set(sys.modules)
print(count)
"""
    assert int(python(code)) > 30
