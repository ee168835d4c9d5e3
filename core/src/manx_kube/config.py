"""How to reach the API server, and as whom.

Owns: reading the in-cluster service account's files or a kubeconfig into one frozen value, and building TLS from it.
Must not: talk to anybody, or remember tokens (`TokenSource` re-reads them, as the kubelet rotates them hourly).

Why this way: Manx's processes use a service account's token or a client certificate; helpers that run a command to
get a credential (`exec`, `auth-provider`) are refused by name rather than half-supported.
Sources: "Accessing the Kubernetes API from a Pod"; client-go's kubeconfig, `clientcmd/api/v1` Config.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manx_kube.errors import ConfigError

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ENDPOINT_DIR = Path("/etc/manx/api-endpoint")
"""Where our pods have the ConfigMap `kubernetes-services-endpoint`, if there is one."""
TOKEN_MAX_AGE = 60.0


def adopt_endpoint(env: MutableMapping[str, str] | None = None, directory: Path = ENDPOINT_DIR) -> None:
    """Puts the API server's address that a user gave us into the environment, before the service's that the kubelet put
    there. Into the environment, because libraries look for it there. Raises ConfigError for a file that cannot be read.

    Why files and not the kubelet's `envFrom`: a container whose environment comes from a ConfigMap cannot be started
    while the API server is away (the kubelet asks for it anew), and that is when a killed agent is needed.
    """
    env = os.environ if env is None else env
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        path = directory / name
        if path.exists() and (text := _read(path).decode(errors="replace").strip()):
            env[name] = text


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """A connection: `server` is a URL without trailing slash; PEM material is bytes; secrets stay out of repr()."""

    server: str
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    ca_pem: bytes | None = field(default=None, repr=False)
    client_cert_pem: bytes | None = field(default=None, repr=False)
    client_key_pem: bytes | None = field(default=None, repr=False)
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    namespace: str = "default"

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None, service_account_dir: Path = SERVICE_ACCOUNT_DIR) -> ApiConfig:
        """$KUBECONFIG if set, else in-cluster if $KUBERNETES_SERVICE_HOST is set, else ~/.kube/config.

        Raises ConfigError if the first that applies is unusable, or none does.
        """
        env = os.environ if env is None else env
        if env.get("KUBECONFIG"):
            return cls.from_kubeconfig(Path(env["KUBECONFIG"]))
        if env.get("KUBERNETES_SERVICE_HOST"):
            return cls.in_cluster(env, service_account_dir)
        default = Path(env.get("HOME", "/root")) / ".kube" / "config"
        if default.exists():
            return cls.from_kubeconfig(default)
        raise ConfigError(f"no $KUBECONFIG, no $KUBERNETES_SERVICE_HOST and no {default}")

    @classmethod
    def in_cluster(
        cls, env: Mapping[str, str] | None = None, service_account_dir: Path = SERVICE_ACCOUNT_DIR
    ) -> ApiConfig:
        """From the files every pod has. Raises ConfigError if host or token is missing."""
        env = os.environ if env is None else env
        host, port = env.get("KUBERNETES_SERVICE_HOST", ""), env.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise ConfigError("$KUBERNETES_SERVICE_HOST is not set: not in a cluster")
        token_file, ca_file = service_account_dir / "token", service_account_dir / "ca.crt"
        if not token_file.exists():
            raise ConfigError(f"{token_file} is missing: the pod has no service account token")
        namespace_file = service_account_dir / "namespace"
        return cls(
            server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
            token_file=token_file,
            ca_pem=_read(ca_file) if ca_file.exists() else None,
            namespace=namespace_file.read_text().strip() if namespace_file.exists() else "default",
        )

    @classmethod
    def from_kubeconfig(cls, path: Path, context: str | None = None) -> ApiConfig:
        """From a kubeconfig's current (or the named) context. Raises ConfigError naming file and field."""
        return _Kubeconfig(path).config(context)

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS as configured; None for a plain http:// server. Raises ConfigError for unusable PEM."""
        if not self.server.startswith("https://"):
            return None
        try:
            return self._build_ssl_context()
        except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
            raise ConfigError(f"unusable certificate or key for {self.server}: {error}") from error

    def _build_ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca_pem.decode("ascii") if self.ca_pem else None)
        if self.insecure_skip_tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert_pem and self.client_key_pem:
            # ssl only loads from a file; the key is there (0600) just for the load.
            with tempfile.NamedTemporaryFile(prefix="manx-kube-") as file:
                file.write(self.client_cert_pem.rstrip() + b"\n" + self.client_key_pem)
                file.flush()
                context.load_cert_chain(file.name)
        return context


class TokenSource:
    """The bearer token now. A token file is read again when older than a minute, or after `invalidate()` (a 401)."""

    def __init__(self, config: ApiConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._token = config.token
        self._read_at = float("-inf")

    def get(self) -> str | None:
        """The token, None if there is none. If the file cannot be read now, the last one read."""
        path = self._config.token_file
        if path is not None and self._clock() - self._read_at > TOKEN_MAX_AGE:
            try:
                self._token = path.read_text().strip()
                self._read_at = self._clock()
            except OSError:
                if self._token is None:
                    raise ConfigError(f"cannot read token file {path}") from None
        return self._token

    def invalidate(self) -> None:
        """Read the file again next time."""
        self._read_at = float("-inf")


class _Kubeconfig:
    """A parsed kubeconfig file; paths in it are relative to where it lies."""

    def __init__(self, path: Path) -> None:
        import yaml  # only here: an agent in a pod never needs it

        self.path = path
        try:
            self.doc: Any = yaml.safe_load(_read(path))
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: not YAML: {error}") from error
        if not isinstance(self.doc, dict):
            raise ConfigError(f"{path}: not a kubeconfig")

    def config(self, context_name: str | None) -> ApiConfig:
        name = context_name or self.doc.get("current-context")
        if not name:
            raise ConfigError(f"{self.path}: current-context is not set")
        context = self._named("contexts", name, "context")
        cluster = self._named("clusters", context.get("cluster"), "cluster")
        user = self._named("users", context.get("user"), "user") if context.get("user") else {}
        for unsupported in ("exec", "auth-provider", "username"):
            if unsupported in user:
                raise ConfigError(
                    f"{self.path}: users[{context['user']}].user.{unsupported} is not supported;"
                    " use a token or a client certificate"
                )
        server = cluster.get("server")
        if not isinstance(server, str) or not server.startswith(("http://", "https://")):
            raise ConfigError(f"{self.path}: clusters[{context.get('cluster')}].cluster.server must be an http(s) URL")
        token_file = user.get("tokenFile")
        return ApiConfig(
            server=server.rstrip("/"),
            token=None if token_file else user.get("token"),
            token_file=self.path.parent / token_file if token_file else None,
            ca_pem=self._pem(cluster, "certificate-authority"),
            client_cert_pem=self._pem(user, "client-certificate"),
            client_key_pem=self._pem(user, "client-key"),
            insecure_skip_tls_verify=bool(cluster.get("insecure-skip-tls-verify")),
            tls_server_name=cluster.get("tls-server-name"),
            namespace=context.get("namespace") or "default",
        )

    def _named(self, section: str, name: str | None, key: str) -> dict[str, Any]:
        for entry in self.doc.get(section) or []:
            if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(key), dict):
                found: dict[str, Any] = entry[key]
                return found
        raise ConfigError(f"{self.path}: {section} has no entry named {name!r}")

    def _pem(self, section: dict[str, Any], key: str) -> bytes | None:
        """`<key>-data` (base64) wins over `<key>` (a file), as with kubectl."""
        data, file = section.get(f"{key}-data"), section.get(key)
        if data:
            try:
                return base64.b64decode("".join(str(data).split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise ConfigError(f"{self.path}: {key}-data is not base64: {error}") from error
        return _read(self.path.parent / file) if file else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
