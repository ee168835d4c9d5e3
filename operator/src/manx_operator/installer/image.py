"""The agents' image, by the rules of Calico's operator.

Owns: `<registry><imagePath>/<imagePrefix><name>:<tag>`, each part the Installation's or the operator's own image's.
Must not: look at any registry. Source: tigera/operator v1.38, InstallationSpec.Registry, ImagePath, ImagePrefix.
"""

from __future__ import annotations

from dataclasses import dataclass

from manx_core.api.installation import USE_DEFAULT, InstallationSpec


@dataclass(frozen=True, slots=True)
class Image:
    """An image reference in parts; `suffix` is ":tag", "@sha256:…" or both."""

    registry: str
    path: str
    name: str
    suffix: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.registry, self.path, self.name) if part) + self.suffix


def parse(reference: str) -> Image:
    """As Docker reads references: the first part is a registry if it has a dot or a colon, or is localhost."""
    cut = min((at for at in (reference.find("@"), _tag_at(reference)) if at >= 0), default=len(reference))
    parts, suffix = reference[:cut].split("/"), reference[cut:]
    has_registry = len(parts) > 1 and ("." in parts[0] or ":" in parts[0] or parts[0] == "localhost")
    registry = parts.pop(0) if has_registry else ""
    return Image(registry, "/".join(parts[:-1]), parts[-1], suffix)


def _tag_at(reference: str) -> int:
    return reference.find(":", reference.rfind("/") + 1)


def image_for(spec: InstallationSpec, own: str) -> str:
    """The image to run on nodes, where the operator's own is `own`."""
    default = parse(own)
    registry = _given(spec.registry)
    path = _given(spec.image_path)
    return str(
        Image(
            registry=default.registry if registry is None else registry.rstrip("/"),
            path=default.path if path is None else path.strip("/"),
            name=(_given(spec.image_prefix) or "") + default.name,
            suffix=default.suffix,
        )
    )


def _given(value: str) -> str | None:
    return None if value in ("", USE_DEFAULT) else value
