"""What Ray is given by its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from raynas.runners.ray import environment

NAMES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for name in NAMES:
        monkeypatch.setenv(name, "")  # what is set afterwards is put back
    return tmp_path / "home"


def token() -> str:
    return environment.os.environ["RAY_AUTH_TOKEN"]


@pytest.mark.usefixtures("home")
def test_where_there_is_no_home_folder_ray_gets_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.os, "access", lambda *_: False)
    environment.prepare_to_start()
    assert len(token()) == 64
    first = token()
    environment.prepare_to_start()
    assert token() == first


def test_a_home_folder_keeps_rays_own_token(home: Path) -> None:
    for _ in range(2):
        environment.prepare_to_start()
        assert token() == ""
        (home / ".ray").mkdir(parents=True, exist_ok=True)
        (home / ".ray" / "auth_token").write_text("mine")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("name", "value"), [("RAY_AUTH_TOKEN_PATH", "/secret"), ("RAY_AUTH_MODE", "disabled")]
)
def test_a_users_own_settings_win(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setattr(environment.os, "access", lambda *_: False)
    monkeypatch.setenv(name, value)
    environment.prepare_to_start()
    assert token() == ""
