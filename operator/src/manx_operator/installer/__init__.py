"""From the Installation to agents and pools, and back to its conditions.

Pure parts (image, daemonset, pools, status) take models and give plain objects; `reconcile` does the I/O.
"""
