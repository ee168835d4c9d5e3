"""Outside suites of tests, run against a lab: what others say that Kubernetes means, and not we."""
