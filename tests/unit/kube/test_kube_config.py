"""Where the API server is and who we are: in-cluster files, kubeconfigs, rotation, and clear errors."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lab import pki
from manx_kube.config import TOKEN_MAX_AGE, ApiConfig, TokenSource, adopt_endpoint
from manx_kube.errors import ConfigError


def service_account(directory: Path) -> Path:
    for name, text in (("token", "t1\n"), ("namespace", "manx-system\n"), ("ca.crt", "PEM")):
        (directory / name).write_text(text)
    return directory


def kubeconfig(directory: Path, *, cluster: Any = None, user: Any = None, **top: Any) -> Path:
    doc = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "ns"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://h:6443/"} if cluster is None else cluster}],
        "users": [{"name": "u", "user": user or {"token": "t"}}],
    }
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(doc | top))
    return path


# --- in a cluster -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("10.96.0.1", "https://10.96.0.1:443"),
        ("fd00::1", "https://[fd00::1]:443"),
        ("api.test", "https://api.test:443"),
    ],
)
def test_in_cluster(tmp_path: Path, host: str, server: str) -> None:
    env = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    config = ApiConfig.load(env, service_account(tmp_path))
    assert config.server == server
    assert config.namespace == "manx-system"
    assert config.ca_pem == b"PEM"
    assert TokenSource(config).get() == "t1"


def test_in_cluster_without_a_token_says_which_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"token is missing"):
        ApiConfig.in_cluster({"KUBERNETES_SERVICE_HOST": "h"}, tmp_path)


def test_a_mounted_address_goes_before_the_services(tmp_path: Path) -> None:
    env = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "OTHER": "stays"}
    adopt_endpoint(env, tmp_path / "nothing mounted")
    assert env["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    (tmp_path / "KUBERNETES_SERVICE_HOST").write_text("192.0.2.10\n")
    adopt_endpoint(env, tmp_path)
    assert (env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"]) == ("192.0.2.10", "443")
    (tmp_path / "KUBERNETES_SERVICE_PORT").write_text("6443")
    adopt_endpoint(env, tmp_path)
    assert ApiConfig.load(env, service_account(tmp_path)).server == "https://192.0.2.10:6443"
    assert env["OTHER"] == "stays"


def test_kubeconfig_comes_first(tmp_path: Path) -> None:
    env = {"KUBECONFIG": str(kubeconfig(tmp_path)), "KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    assert ApiConfig.load(env).server == "https://h:6443"


def test_the_home_directorys_kubeconfig_is_last(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube").rename(tmp_path / ".kube" / "config")
    assert ApiConfig.load({"HOME": str(tmp_path)}).server == "https://h:6443"


def test_nothing_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="KUBECONFIG"):
        ApiConfig.load({"HOME": str(tmp_path)})


# --- tokens -----------------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_token_file_is_read_again_when_old_or_refused(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "token"
    file.write_text("one")
    source = TokenSource(ApiConfig(server="https://h", token_file=file), clock)
    assert source.get() == "one"
    file.write_text("two")
    assert source.get() == "one"
    clock.now += TOKEN_MAX_AGE + 1
    assert source.get() == "two"
    file.write_text("three")
    source.invalidate()
    assert source.get() == "three"
    file.unlink()
    source.invalidate()
    assert source.get() == "three"


def test_a_token_file_that_was_never_readable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="token"):
        TokenSource(ApiConfig(server="https://h", token_file=tmp_path / "none")).get()


def test_secrets_are_not_shown() -> None:
    assert "hush" not in repr(ApiConfig(server="https://h", token="hush", client_key_pem=b"hush"))


# --- kubeconfig -------------------------------------------------------------------------------------------------------


def test_files_are_relative_to_the_kubeconfig_and_data_wins(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"CA")
    (tmp_path / "cert.pem").write_bytes(b"CERT")
    data = base64.b64encode(b"KEY").decode()
    path = kubeconfig(
        tmp_path,
        cluster={"server": "https://h", "certificate-authority": "ca.pem", "tls-server-name": "other"},
        user={"client-certificate": "cert.pem", "client-key": "nowhere.pem", "client-key-data": data},
    )
    config = ApiConfig.from_kubeconfig(path)
    assert (config.ca_pem, config.client_cert_pem, config.client_key_pem) == (b"CA", b"CERT", b"KEY")
    assert (config.tls_server_name, config.namespace) == ("other", "ns")


def test_another_context(tmp_path: Path) -> None:
    contexts = [{"name": "c2", "context": {"cluster": "k"}}]
    path = kubeconfig(tmp_path, contexts=contexts)
    assert ApiConfig.from_kubeconfig(path, "c2").token is None
    with pytest.raises(ConfigError, match="contexts has no entry named 'c'"):
        ApiConfig.from_kubeconfig(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"current-context": ""}, "current-context"),
        ({"cluster": {"server": "h:6443"}}, r"cluster\.server must be"),
        ({"cluster": {}}, r"cluster\.server must be"),
        ({"user": {"exec": {"command": "aws"}}}, "exec is not supported"),
        ({"user": {"auth-provider": {}}}, "auth-provider is not supported"),
        ({"user": {"username": "u"}}, "username is not supported"),
        ({"cluster": {"server": "https://h", "certificate-authority": "gone.pem"}}, r"cannot read .*gone\.pem"),
        ({"cluster": {"server": "https://h", "certificate-authority-data": "%%%"}}, "not base64"),
        ({"users": None}, "users has no entry"),
        ({"clusters": [7]}, "clusters has no entry"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ApiConfig.from_kubeconfig(kubeconfig(tmp_path, **changes))


@given(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode)))
def test_any_file_is_a_config_or_a_config_error(content: bytes) -> None:
    path = Path("kubeconfig-under-test")

    class Fake(type(path)):  # type: ignore[misc]
        def read_bytes(self) -> bytes:
            return content

    with pytest.raises(ConfigError):
        ApiConfig.from_kubeconfig(Fake("x"))


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_tls_contexts(tmp_path: Path) -> None:
    authority = pki.Authority(tmp_path)
    authority.issue("admin", "admin", "system:masters")
    ca, cert, key = ((tmp_path / name).read_bytes() for name in ("ca.crt", "admin.crt", "admin.key"))
    assert ApiConfig(server="http://h").ssl_context() is None
    strict = ApiConfig(server="https://h", ca_pem=ca, client_cert_pem=cert, client_key_pem=key).ssl_context()
    assert strict is not None
    assert strict.verify_mode is ssl.CERT_REQUIRED
    loose = ApiConfig(server="https://h", insecure_skip_tls_verify=True).ssl_context()
    assert loose is not None
    assert loose.verify_mode is ssl.CERT_NONE
    with pytest.raises(ConfigError, match="unusable certificate or key"):
        ApiConfig(server="https://h", ca_pem=ca, client_cert_pem=cert, client_key_pem=b"no key").ssl_context()
    with pytest.raises(ConfigError, match="unusable certificate or key"):
        ApiConfig(server="https://h", ca_pem=b"\xff").ssl_context()
