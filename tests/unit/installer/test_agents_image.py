"""The image's name, by the rules that Calico's operator has."""

from __future__ import annotations

from typing import Any

import pytest

from manx_core.api.installation import InstallationSpec
from manx_operator.installer.image import image_for, parse

OWN = "docker.io/manxnet/manx:v0.1.0"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, OWN),
        ({"registry": "UseDefault", "imagePath": "UseDefault", "imagePrefix": "UseDefault"}, OWN),
        ({"registry": "quay.io/"}, "quay.io/manxnet/manx:v0.1.0"),
        ({"registry": "quay.io"}, "quay.io/manxnet/manx:v0.1.0"),
        ({"registry": "registry.example:5000/mirror/"}, "registry.example:5000/mirror/manxnet/manx:v0.1.0"),
        ({"imagePath": "ours/net"}, "docker.io/ours/net/manx:v0.1.0"),
        ({"imagePrefix": "my-"}, "docker.io/manxnet/my-manx:v0.1.0"),
        ({"registry": "r.example/", "imagePath": "p", "imagePrefix": "x-"}, "r.example/p/x-manx:v0.1.0"),
    ],
)
def test_names(spec: dict[str, Any], expected: str) -> None:
    assert image_for(InstallationSpec.parse(spec), OWN) == expected


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("localhost:5000/manx:dev", "quay.io/manx:dev"),
        ("manx", "quay.io/manx"),
        ("you/manx:1", "quay.io/you/manx:1"),
        ("r.example/you/manx@sha256:abc", "quay.io/you/manx@sha256:abc"),
        ("r.example/you/manx:1@sha256:abc", "quay.io/you/manx:1@sha256:abc"),
    ],
)
def test_any_reference_may_be_the_operators_own(own: str, expected: str) -> None:
    assert str(parse(own)) == own
    assert image_for(InstallationSpec.parse({"registry": "quay.io/"}), own) == expected
