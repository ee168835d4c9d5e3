"""Measurements of Manx, each beside its floor in the same run.

`hack/bench/run` has the three that matter most, on a lab; the modules named `…_bench` measure one part each, and can be
run alone.
"""
