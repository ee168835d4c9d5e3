"""The one way to the API server, for operator and agent alike: client, informer, Lease, Events.

Owns: HTTP to kube-apiserver, its errors as our own types, caches that follow it. Must not: know what an object means,
or import anything heavier than aiohttp and msgspec, since every agent carries it (the `kubernetes` package alone is
43 MB resident). Nothing is imported here, so that one pays only for the modules one names.
"""
