"""The reference semantics of policy, kind by kind: `manx_core.policy.verdict` is its entrance.

Owns: the sentences of the APIs, each beside its branch, over the users' own objects.
Must not: be fast, or share code with what it is the reference for: neither the compiler, nor canonical selectors, nor
flat labels, nor groups are used here, save for what counts as valid.
"""
