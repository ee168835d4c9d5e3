"""The node's CNI directories: what is written, in which order, and what is left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from manx_agent.cni.install import InstallError, Places, install, places_from


@pytest.fixture
def places(tmp_path: Path) -> Places:
    source = tmp_path / "source"
    source.mkdir()
    (source / "manx").write_bytes(b"manx 1")
    (source / "portmap").write_bytes(b"our portmap")
    return Places(source, tmp_path / "opt/cni/bin", tmp_path / "etc/cni/net.d")


def written(places: Places) -> dict[str, object]:
    document: dict[str, object] = json.loads((places.configurations / "10-manx.conflist").read_text())
    return document


def test_everything_is_there_and_nothing_else(places: Places) -> None:
    install(places)
    assert written(places) == {
        "cniVersion": "1.0.0",
        "name": "manx",
        "plugins": [
            {"type": "manx", "socket": "/run/manx/cni.sock"},
            {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}},
        ],
    }
    assert sorted(path.name for path in places.executables.iterdir()) == ["manx", "portmap"]
    assert [path.name for path in places.configurations.iterdir()] == ["10-manx.conflist"]
    assert (places.executables / "manx").stat().st_mode & 0o777 == 0o755


def test_a_new_release_replaces_ours_but_not_the_nodes_portmap(places: Places) -> None:
    places.executables.mkdir(parents=True)
    (places.executables / "manx").write_bytes(b"manx 0")
    (places.executables / "portmap").write_bytes(b"the node's portmap")
    install(places)
    assert (places.executables / "manx").read_bytes() == b"manx 1"
    assert (places.executables / "portmap").read_bytes() == b"the node's portmap"


def test_without_portmap_it_is_not_chained(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    (places.source / "portmap").unlink()
    install(places)
    assert [plugin["type"] for plugin in written(places)["plugins"]] == ["manx"]  # type: ignore[attr-defined]
    assert "hostPort will do nothing" in caplog.text


def test_host_ports_can_be_switched_off(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    install(replace(places, host_ports=False))
    assert [plugin["type"] for plugin in written(places)["plugins"]] == ["manx"]  # type: ignore[attr-defined]
    assert not (places.executables / "portmap").exists()
    assert "hostPort" not in caplog.text


def test_unchanged_files_are_not_written(places: Places) -> None:
    install(places)
    files = [places.configurations / "10-manx.conflist", places.executables / "manx"]
    before = [path.stat().st_ino for path in files]
    install(places)
    assert [path.stat().st_ino for path in files] == before


def test_a_broken_configuration_is_mended(places: Places) -> None:
    install(places)
    (places.configurations / "10-manx.conflist").write_text("{")
    install(places)
    assert written(places)["name"] == "manx"


def test_no_configuration_without_an_executable(places: Places) -> None:
    (places.source / "manx").unlink()
    with pytest.raises(InstallError, match="manx is neither in"):
        install(places)
    assert list(places.configurations.iterdir()) == []


def test_an_executable_already_in_place_is_enough(places: Places) -> None:
    (places.source / "manx").unlink()
    places.executables.mkdir(parents=True)
    (places.executables / "manx").write_bytes(b"put there by hand")
    install(places)
    assert written(places)["name"] == "manx"


def test_another_network_that_comes_first_is_told(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    places.configurations.mkdir(parents=True)
    (places.configurations / "05-other.conflist").write_text("{}")
    install(places)
    assert "has 05-other.conflist before 10-manx.conflist" in caplog.text


def test_a_directory_that_cannot_be_made(places: Places, tmp_path: Path) -> None:
    (tmp_path / "opt").write_text("a file")
    with pytest.raises(InstallError, match="Not a directory"):
        install(places)


def test_settings() -> None:
    directories = {"MANX_CNI_BIN_DIR": "/b", "MANX_CNI_CONF_DIR": "/c", "MANX_CNI_SOURCE_DIR": "/s"}
    environment = {**directories, "MANX_CNI_SPEC_VERSION": "1.1.0"}
    assert places_from(environment, Path("/x")) == Places(Path("/s"), Path("/b"), Path("/c"), Path("/x"), "1.1.0")
    assert places_from({}, Path("/run/manx/cni.sock")) == Places()
    with pytest.raises(InstallError, match=r"MANX_CNI_SPEC_VERSION is '2.0.0': allowed are 0\.3\.1, 0\.4\.0"):
        places_from({"MANX_CNI_SPEC_VERSION": "2.0.0"}, Path("/x"))
    assert not places_from({"MANX_HOST_PORTS": "Disabled"}, Path("/x")).host_ports
    with pytest.raises(InstallError, match="MANX_HOST_PORTS is 'no': allowed are Enabled, Disabled"):
        places_from({"MANX_HOST_PORTS": "no"}, Path("/x"))
