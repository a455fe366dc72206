"""This module parses the URIs of storage, and removes secrets from texts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote

_OBJECTS = {"s3", "gs", "gcs", "abfs", "abfss", "az"}
_SECRET_OPTIONS = re.compile(r"secret|password|token|key|signature|sas|credential", re.IGNORECASE)
_SECRET_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY",
    "AZURE_CLIENT_SECRET", "GOOGLE_SERVICE_ACCOUNT_KEY",
)  # fmt: skip


@dataclass(frozen=True)
class UriParts:
    """The parts of a URI, decoded.

    Attributes:
        scheme: The scheme in lower case.
        user: The name before the ``@``; empty without one.
        password: The password before the ``@``; empty without one.
        bucket: The first part of the name, a host for some schemes.
        path: The rest, without slashes at its ends.
        options: The options after the ``?``.
    """

    scheme: str
    user: str
    password: str
    bucket: str
    path: str
    options: Mapping[str, str]

    def option(self, name: str) -> str:
        """Return the value of an option.

        Args:
            name: The name of the option.

        Returns:
            The value; empty if the URI does not have the option.
        """
        return self.options.get(name, "")

    def expect(self, *allowed: str) -> None:
        """Check that the URI names a bucket, and has no unknown option.

        Args:
            *allowed: The names of the known options.

        Raises:
            ValueError: The URI names no bucket, or has another option.
        """
        if not self.bucket:
            raise ValueError("it has no bucket")
        for name in self.options:
            if name not in allowed:
                raise ValueError(f"option {name!r} is not one of {', '.join(sorted(allowed))}")

    def azure(self) -> tuple[str, str, str]:
        """Return the parts of an Azure URI, of which there are four forms.

        Returns:
            (account, container, path). The account may come from $AZURE_STORAGE_ACCOUNT_NAME.
        """
        if ".dfs." in self.bucket and self.user:  # container@account.dfs.core.windows.net/path
            return self.bucket.partition(".")[0], self.user, self.path
        if "." in self.bucket:  # account.blob.core.windows.net/container/path
            container, _, path = self.path.partition("/")
            return self.bucket.partition(".")[0], container, path
        account = self.user or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
        return account, self.bucket, self.path


def _split(uri: str) -> tuple[str, str, str, str]:
    """Scheme, what stands before the ``@``, the rest, what follows the ``?``; not decoded.

    A secret may hold slashes that nobody encoded: then the first part of the name looks like
    ``user:secret``, and the first ``@`` behind it ends the secret.
    """
    scheme, _, rest = uri.partition("://")
    rest, _, options = rest.partition("?")
    first = rest.partition("/")[0]
    if "@" in first:
        user = first.rpartition("@")[0]
    else:
        _, colon, port = first.partition(":")
        cut = bool(colon) and (scheme.lower() in _OBJECTS or not port.isdecimal())
        user = rest.partition("@")[0] if cut and "@" in rest else ""
    return scheme, user, rest[len(user) + 1 :] if user else rest.removeprefix("@"), options


def taken_apart(uri: str) -> UriParts:
    """Split a URI into its decoded parts.

    Args:
        uri: The URI.

    Returns:
        The parts.

    Example:
        >>> taken_apart("s3://bucket/runs/first?region=eu-west-1").option("region")
        'eu-west-1'
    """
    scheme, login, name, query = _split(uri)
    user, _, password = login.partition(":")
    bucket, _, path = name.partition("/")
    options = {k: v[-1] for k, v in parse_qs(query, keep_blank_values=True).items()}
    return UriParts(
        scheme.lower(), unquote(user), unquote(password), unquote(bucket),
        unquote(path).strip("/"), options,
    )  # fmt: skip


def shown(uri: str) -> str:
    """Return a URI for messages.

    Args:
        uri: The URI.

    Returns:
        The URI without credentials and options.

    Example:
        >>> shown("s3://key:secret@bucket/run?region=eu-west-1")
        's3://bucket/run'
    """
    scheme, login, name, _ = _split(uri)
    container = scheme.lower().startswith("abfs") and ".dfs." in name
    return f"{scheme}://{login.partition(':')[0] + '@' if login and container else ''}{name}"


def without_secrets(uri: str) -> str:
    """Return a URI as it may be written down: without the password and secret options.

    The name of an Azure account or of an HDFS user stays. The id of an access key is removed
    together with the key.

    Args:
        uri: The URI.

    Returns:
        The URI without secrets.

    Example:
        >>> without_secrets("s3://key:secret@bucket/run?region=eu-west-1")
        's3://bucket/run?region=eu-west-1'
    """
    scheme, login, name, query = _split(uri)
    user, colon, _ = login.partition(":")
    kept = [p for p in query.split("&") if p and not _SECRET_OPTIONS.search(p.partition("=")[0])]
    if not colon and len(kept) == len([p for p in query.split("&") if p]):
        return uri
    keyed = bool(colon) and scheme.lower() in {"s3", "gs", "gcs"}
    who = f"{user}@" if user and not keyed else ""
    return f"{scheme}://{who}{name}{'?' if kept else ''}{'&'.join(kept)}"


def scrubbed(text: str, uri: str) -> str:
    """Return a text, such as a library's error message, with all secrets replaced by ``***``.

    Args:
        text: The text.
        uri: The URI whose secrets are replaced, besides those of the environment.

    Returns:
        The text without secrets.
    """
    text = text.replace(uri, shown(uri))
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(uri: str) -> set[str]:
    """Return every form in which a secret may appear in a text."""
    _, login, _, query = _split(uri)
    raw = {login.partition(":")[2]}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if _SECRET_OPTIONS.search(name):
            raw.add(value)
    raw |= {os.environ.get(name, "") for name in _SECRET_VARIABLES}
    plain = raw | {unquote(secret) for secret in raw}
    coded = {form for s in plain for form in (quote(s, safe=""), quote(s))}
    coded |= {re.sub("%[0-9A-F]{2}", lambda m: m[0].lower(), form) for form in coded}
    pieces = {piece for s in plain for piece in s.split("/") if len(piece) >= 8}
    return {secret for secret in plain | coded | pieces if len(secret) >= 3}
