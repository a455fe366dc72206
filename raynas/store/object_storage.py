"""This module has object stores: S3 and compatible ones, Google Cloud Storage, Azure Blob Storage.

A small object is stored by one request, so an interruption leaves all of it or nothing. A large one
is stored in parts, and appears when the last part is there. ``create`` is one request with a
condition.
"""

from __future__ import annotations

import configparser
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.store.storage import Bytes, FileStat, StorageRefused, scheme_of
from raynas.store.uris import UriParts, taken_apart

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PART = 8 * 1024 * 1024
_CLIENT = {"timeout": "120s", "connect_timeout": "10s"}


@dataclass(frozen=True)
class ObjectStorage:
    """A storage below a prefix of a bucket; see :class:`~raynas.store.storage.Storage`.

    Attributes:
        store: The store of obstore that all names are relative to.
    """

    store: ObjectStore

    def read(self, name: str) -> bytes:
        """Return the contents of an object; see :meth:`Storage.read`."""
        import obstore

        with _translated():
            return bytes(obstore.get(self.store, name).bytes())

    def write(self, name: str, data: Bytes) -> None:
        """Write or replace an object.

        Args:
            name: The name of the object, with ``/``.
            data: Its contents. More than 8 MiB are stored in parts.

        Raises:
            Refused: The bucket does not exist, or the credentials are wrong.
            PermissionError: The credentials do not allow it.
            OSError: The store does not answer, or fails.
        """
        import obstore

        with _translated(writing=True):
            parts = len(data) > _PART
            obstore.put(self.store, name, _plain(data), use_multipart=parts, chunk_size=_PART)

    def create(self, name: str, data: Bytes) -> None:
        """Create an object that does not exist, in one request with a condition.

        Args:
            name: The name of the object, with ``/``.
            data: Its contents.

        Raises:
            FileExistsError: An object with this name exists.
            Refused: The bucket does not exist, or the credentials are wrong.
            OSError: The store refuses, does not answer, or fails.
        """
        import obstore

        with _translated(writing=True):
            obstore.put(self.store, name, _plain(data), mode="create", use_multipart=False)

    def stats(self, folder: str = "") -> dict[str, FileStat]:
        """List all objects in a folder and below it; see :meth:`Storage.stats`."""
        import obstore

        with _translated():
            found = obstore.list(self.store, folder or None, chunk_size=1000).collect()
        return {
            f["path"]: FileStat(f["size"], f["e_tag"] or str(when), when)
            for f in found
            for when in [f["last_modified"].timestamp()]
        }

    def remove(self, name: str) -> None:
        """Remove an object if it exists; see :meth:`Storage.remove`."""
        import obstore

        with contextlib.suppress(FileNotFoundError), _translated():
            obstore.delete(self.store, name)

    def remove_folder(self, name: str) -> None:
        """Remove all objects below a folder; see :meth:`Storage.remove_folder`."""
        import obstore

        if names := list(self.stats(name)):
            with _translated():
                obstore.delete(self.store, names)


def _plain(data: Bytes) -> Bytes:
    """Return a view of unsigned bytes, the only kind of view that obstore accepts as contents."""
    return data if isinstance(data, bytes) else memoryview(data).cast("B")


@contextlib.contextmanager
def _translated(writing: bool = False) -> Iterator[None]:
    """Raise errors of the library as errors of the system, without their long details."""
    from obstore import exceptions

    try:
        yield
    except exceptions.AlreadyExistsError as error:
        raise FileExistsError(17, _brief(error)) from None
    except FileNotFoundError as error:
        text = _brief(error)
        if writing or "NoSuchBucket" in text or "ContainerNotFound" in text:
            raise StorageRefused(5, f"there is no such bucket: {text}") from None
        raise FileNotFoundError(2, text) from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise PermissionError(13, _brief(error)) from None
    except (exceptions.BaseError, ValueError) as error:
        text = _brief(error)
        raise (StorageRefused if _final(text) else OSError)(5, text) from None


#: what S3 and those like it answer when credentials or names are wrong
_FINAL = (
    "AccessDenied", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "status code: 401", "status code: 403", "Could not parse path", "InvalidBucketName",
)  # fmt: skip


def _final(text: str) -> bool:
    return any(word in text for word in _FINAL)


def _brief(error: Exception) -> str:
    return " ".join(str(error).partition("\n\nDebug source")[0].split())


# -- opening -----------------------------------------------------------------------------------


def open_uri(uri: str) -> ObjectStorage:
    """Open the object store of a URI, with the options that pyarrow's file systems know.

    Args:
        uri: The URI: ``s3://``, ``gs://``, ``gcs://``, ``abfs://``, ``abfss://`` or ``az://``.

    Returns:
        The storage.

    Raises:
        ValueError: The URI has an unknown option, or names no bucket.
    """
    place = taken_apart(uri)
    scheme = scheme_of(uri)
    if scheme == "s3":
        return ObjectStorage(_s3(place))
    return ObjectStorage(_gcs(place) if scheme in ("gs", "gcs") else _azure(place))


def _without_retries() -> Any:
    """Retries are one policy for all storages, in ``Remote``."""
    return {"max_retries": 0}


def _s3(place: UriParts) -> ObjectStore:
    from obstore.store import S3Store

    place.expect(
        "region", "scheme", "endpoint_override", "force_virtual_addressing",
        "allow_bucket_creation", "allow_bucket_deletion", "tls_ca_file_path",
        "check_directory_existence_before_creation", "allow_delayed_open", "background_writes",
        "connect_timeout", "request_timeout",
    )  # fmt: skip
    endpoint, scheme = place.option("endpoint_override"), place.option("scheme") or "https"
    client: dict[str, Any] = {**_CLIENT, "allow_http": scheme == "http"}
    if file := place.option("tls_ca_file_path"):
        client["root_certificate"] = Path(file).read_bytes()
    config: dict[str, Any] = {"region": place.option("region") or _s3_region(place, endpoint)}
    if endpoint:
        config["endpoint"] = endpoint if "://" in endpoint else f"{scheme}://{endpoint}"
    elif scheme == "http":
        client["allow_http"] = True
    if place.option("force_virtual_addressing") in ("true", "1"):
        config["virtual_hosted_style_request"] = True
    return S3Store(
        place.bucket,
        prefix=place.path or None,
        client_options=client,  # type: ignore[arg-type]
        retry_config=_without_retries(),
        **config,
        **_s3_credentials(place),
    )


def _s3_region(place: UriParts, endpoint: str) -> str:
    """The region of the environment, else of the bucket."""
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if named or endpoint or os.environ.get("AWS_ENDPOINT_URL"):
        return named or "us-east-1"
    from pyarrow import fs

    try:
        return str(fs.resolve_s3_region(place.bucket))
    except OSError:
        return "us-east-1"


def _s3_credentials(place: UriParts) -> dict[str, Any]:
    """Those of the URI; else of the environment; else of the profile in ``~/.aws/credentials``.

    With none of them obstore asks the machine for its role, as Amazon's own clients do.
    """
    if place.user == "anonymous" and not place.password:
        return {"skip_signature": True}
    if place.user:
        return {"access_key_id": place.user, "secret_access_key": place.password}
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}
    return _s3_profile() or _boto3_provider()


def _s3_profile() -> dict[str, Any]:
    named = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    file = Path(named) if named else Path.home() / ".aws" / "credentials"
    profiles = configparser.RawConfigParser()
    try:
        profiles.read(file)
        profile = profiles[os.environ.get("AWS_PROFILE", "default")]
    except (OSError, KeyError, configparser.Error):
        return {}
    names = {
        "access_key_id": "aws_access_key_id",
        "secret_access_key": "aws_secret_access_key",
        "session_token": "aws_session_token",
    }
    found = {ours: profile[theirs] for ours, theirs in names.items() if theirs in profile}
    return found if "secret_access_key" in found else {}


def _boto3_provider() -> dict[str, Any]:
    """Return boto3's credentials if a profile is named (as for single sign-on), else nothing."""
    if not os.environ.get("AWS_PROFILE"):
        return {}
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider

        return {"credential_provider": Boto3CredentialProvider()}
    except ImportError:
        return {}


def _gcs(place: UriParts) -> ObjectStore:
    from obstore.store import GCSStore

    place.expect(
        "scheme", "endpoint_override", "default_bucket_location", "retry_limit_seconds",
        "project_id",
    )  # fmt: skip
    client: dict[str, Any] = dict(_CLIENT)
    config: dict[str, Any] = {}
    if endpoint := place.option("endpoint_override"):
        scheme = place.option("scheme") or "https"
        config["base_url"] = f"{scheme}://{endpoint}"
        client["allow_http"] = scheme == "http"
    if place.user == "anonymous" or (place.option("endpoint_override") and not place.user):
        config["skip_signature"] = True
    return GCSStore(
        place.bucket,
        prefix=place.path or None,
        client_options=client,  # type: ignore[arg-type]
        retry_config=_without_retries(),
        **config,
    )


def _azure(place: UriParts) -> ObjectStore:
    from obstore.store import AzureStore

    place.expect(
        "blob_storage_authority", "dfs_storage_authority", "blob_storage_scheme",
        "dfs_storage_scheme", "enable_tls", "credential_kind", "tenant_id", "client_id",
        "client_secret", "account_key", "background_writes",
    )  # fmt: skip
    account, container, path = place.azure()
    tls = place.option("enable_tls") != "false"
    scheme = place.option("blob_storage_scheme") or ("https" if tls else "http")
    client: dict[str, Any] = {**_CLIENT, "allow_http": scheme == "http"}
    config: dict[str, Any] = {"account_name": account}
    if authority := place.option("blob_storage_authority"):
        host = f"{account}{authority}" if authority.startswith(".") else f"{authority}/{account}"
        config["endpoint"] = f"{scheme}://{host}"
    if key := place.password or place.option("account_key"):
        config["account_key"] = key
    config |= {
        name: found
        for name in ("tenant_id", "client_id", "client_secret")
        if (found := place.option(name))
    }
    if place.option("credential_kind") == "anonymous":
        config["skip_signature"] = True
    return AzureStore(
        container,
        prefix=path or None,
        client_options=client,  # type: ignore[arg-type]
        retry_config=_without_retries(),
        **config,
    )
