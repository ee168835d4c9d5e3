"""A real Kubernetes cluster in network namespaces of one Linux machine, for newcomers, developers and tests.

``Lab`` is the interface for tests; the command line is ``python -m lab`` (``hack/up``, ``hack/down``,
``hack/lab/ctl``). Nothing of Manx may import this package, and it imports nothing of Manx: it is any cluster's
machinery.
"""
