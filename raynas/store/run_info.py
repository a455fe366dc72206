"""The identity of a run: what its ``run.json`` holds."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from raynas.core import Metric, UserError
from raynas.core.printable import brief
from raynas.store.schema import SCHEMA_VERSION, check_metrics


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def new_run_id(name: str) -> str:
    """Return an id that no other run has.

    Args:
        name: The name of the experiment.

    Returns:
        Text like ``NAME-20261123T101500-1f2e3d``: name, UTC time, random hexadecimal digits.
    """
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class RunInfo:
    """The identity of a run, stored as ``run.json`` in its folder.

    Attributes:
        run: The unique id of the run.
        name: The name of the experiment.
        fingerprint: The fingerprint of the experiment's settings.
        description: The experiment's settings, as ``raynas.core.describe`` gives them.
        source_file: The path of the experiment's source when the run was created.
        overrides: Values by setting, from ``--set``.
        metrics: The metrics, which are columns of the result table.
        schema_version: The version of the result table's schema.
        created: The time of creation, ISO 8601 in UTC.
        smoke: The run is a tiny one for tests.
        stand_in: Random images were used, since the data set's files were missing.
    """

    run: str
    name: str
    fingerprint: str
    description: Any
    source_file: str
    overrides: Mapping[str, Any]
    metrics: tuple[Metric, ...]
    schema_version: int = SCHEMA_VERSION
    created: str = field(default_factory=_now)
    smoke: bool = False
    stand_in: bool = False

    def to_json(self, **more: Any) -> str:
        """Return the contents of ``run.json``.

        Args:
            **more: Further entries, which ``from_json`` ignores.

        Returns:
            Indented JSON with a final line break.
        """
        return json.dumps({**asdict(self), **more}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RunInfo:
        """Return the identity of a run from the contents of its ``run.json``.

        Args:
            text: The contents of the file.

        Returns:
            The identity.

        Raises:
            ValueError: ``text`` is not JSON, lacks an entry, or has one of the wrong type.
            TypeError: A metric has unknown or missing fields.
            KeyError: An entry is missing.
        """
        try:
            data = json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
        names = set(cls.__dataclass_fields__)
        if missing := names - set(data) - _LATER.keys():
            raise ValueError(f"lacks {', '.join(sorted(missing))}")
        known = {name: data[name] for name in names & set(data)}
        for name, kind in {**_KINDS, **_LATER}.items():
            if name in known and type(known[name]) is not kind:
                raise ValueError(f"{name} is not of type {kind.__name__}")
        metrics = tuple(_metric(m) for m in known["metrics"])
        try:
            check_metrics(metrics)
        except UserError as error:
            raise ValueError(str(error)) from None
        return cls(**{**known, "metrics": metrics})


_KINDS = {
    "run": str, "name": str, "fingerprint": str, "overrides": dict, "source_file": str,
    "metrics": list, "schema_version": int, "created": str, "smoke": bool,
}  # fmt: skip
#: fields that older runs do not have
_LATER = {"stand_in": bool}


def _metric(found: Any) -> Metric:
    metric = Metric(**found)
    if not all(isinstance(text, str) for text in (metric.name, metric.unit, metric.doc)):
        raise ValueError(f"metric {brief(found)} has a name, unit or doc that is not text")
    try:
        f"{metric.name}{metric.unit}{metric.doc}".encode()  # they become names of columns
    except UnicodeEncodeError:
        raise ValueError(f"metric {brief(metric.name)} contains a surrogate") from None
    if metric.direction not in ("max", "min"):
        raise ValueError(f"metric {brief(metric.name)} has direction {brief(metric.direction)}")
    return metric


def changed_settings(old: Any, new: Any, where: str = "") -> list[str]:
    """The settings that differ between two descriptions, as ``path: old -> new``."""
    return list(_differing(old, new, where))


def _differing(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            inner = f"{where}.{key}" if where else str(key)
            yield from _differing(old.get(key), new.get(key), inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differing(a, b, f"{where}[{i}]")
    elif old != new:
        yield f"{where}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
