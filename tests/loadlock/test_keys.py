"""Keys: made once, trusted by hand until the threshold is reached, and checkpoints signed with them."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_a_key_is_private_and_never_overwritten(tmp_path: Path, loadlock_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = loadlock_command("keys", "new", "alice", "--json")
    path = tmp_path / "alice.pem"
    assert answer.code == 0
    assert answer.json["public"].startswith("ed25519:")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    again = loadlock_command("keys", "new", "alice")
    assert again.code == 2
    assert "never overwritten" in again.err
    assert path.read_bytes() == before
    assert loadlock_command("keys", "new", "../alice").code == 2


@pytest.fixture
def publics(tmp_path: Path, loadlock_command: Run) -> dict[str, str]:
    """Names and public keys of three keys in the test's folder."""
    names = ("alice", "bob", "carol")
    return {name: loadlock_command("keys", "new", name, "--output", tmp_path / f"{name}.pem").out.strip() for name in names}


def test_by_hand_until_the_threshold_is_reached(copy: Any, publics: dict[str, str], loadlock_command: Run) -> None:
    copy.config.write_text(copy.config.read_text() + "\n[approval]\nthreshold = 2\n")
    assert loadlock_command("ingest", copy.first, "--config", copy.config, "--lake", copy.lake).code == 0
    at = ("--lake", copy.lake)
    (copy.folder / "alice.pub").write_text(publics["alice"] + "\n")
    assert loadlock_command("keys", "trust", "alice", copy.folder / "alice.pub", *at).code == 0
    assert loadlock_command("keys", "revoke", "alice", *at).code == 0
    again = loadlock_command("keys", "trust", "alice", publics["alice"], *at)
    assert (again.code, "revoked" in again.err) == (2, True)
    assert loadlock_command("keys", "trust", "bob", publics["bob"], *at).code == 0
    twin = loadlock_command("keys", "trust", "bobby", publics["bob"], *at)
    assert (twin.code, "trusted already" in twin.err) == (2, True)
    assert loadlock_command("keys", "trust", "carol", publics["carol"], *at).code == 0
    for arguments in (("revoke", "bob"), ("trust", "dora", publics["alice"])):
        refused = loadlock_command("keys", *arguments, *at)
        assert refused.code in (2, 7)
        assert ("loadlock plan" in refused.err) == (refused.code == 7)
    listed = loadlock_command("keys", "list", *at, "--json").json
    assert [(key["name"], key["revoked"] is None) for key in listed["keys"]] == [("alice", False), ("bob", True), ("carol", True)]
    assert (listed["threshold"], listed["in_force"], listed["bootstrap"]) == (2, True, False)
    log = loadlock_command("audit", "log", *at, "--json").json["ledger"]
    assert [entry["body"]["bootstrap"] for entry in log if entry["action"] in ("trust", "revoke")] == [True] * 4
    assert loadlock_command("audit", "verify", *at).code == 0


def test_a_configuration_cant_lower_the_threshold(copy: Any, publics: dict[str, str], loadlock_command: Run) -> None:
    plain = copy.config.read_text()
    for threshold in (2, 1):
        copy.config.write_text(f"{plain}\n[approval]\nthreshold = {threshold}\n")
        assert loadlock_command("ingest", copy.first, "--config", copy.config, "--lake", copy.lake).code == 0
    assert loadlock_command("keys", "list", "--lake", copy.lake, "--json").json["threshold"] == 2


def test_a_bad_rule_is_a_configuration_error(copy: Any, loadlock_command: Run) -> None:
    copy.config.write_text(copy.config.read_text() + '\n[approval]\nthreshold = 2\nkeys = ["alice"]\n')
    answer = loadlock_command("config", "check", copy.config)
    assert (answer.code, "can't give 2 signatures" in answer.err) == (2, True)


def test_checkpoints_name_their_faults(copy: Any, publics: dict[str, str], tmp_path: Path, loadlock_command: Run) -> None:
    at, head = ("--lake", copy.lake), tmp_path / "head.json"
    printed = loadlock_command("audit", "checkpoint", "--key", tmp_path / "alice.pem", *at)
    assert printed.json["schema"] == 1
    head.write_text(printed.out)
    for extra, code in (((), 0), (("--signer", publics["alice"]), 0), (("--signer", publics["bob"]), 6)):
        assert loadlock_command("audit", "verify", "--checkpoint", head, *extra, *at).code == code
    assert "not a key of this lake" in loadlock_command("audit", "verify", "--checkpoint", head, *at).err
    loadlock_command("keys", "trust", "alice", publics["alice"], *at)
    assert "'alice', trusted" in loadlock_command("audit", "verify", "--checkpoint", head, *at).err
    head.write_text("{}")
    assert loadlock_command("audit", "verify", "--checkpoint", head, *at).code == 2
    head.write_text(printed.out[:-20])
    assert loadlock_command("audit", "verify", "--checkpoint", head, *at).code == 6
    assert loadlock_command("audit", "verify", "--checkpoint", tmp_path / "none.json", *at).code == 2
    for file in (tmp_path / "none.pem", copy.config):
        assert loadlock_command("audit", "checkpoint", "--key", file, *at).code == 2
