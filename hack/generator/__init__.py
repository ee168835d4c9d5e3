"""Makes crds/ and manifests/operator.yaml from the models in manx_core.api: see `__main__`."""
