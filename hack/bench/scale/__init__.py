"""Measurements on ten thousand pods: a real kube-apiserver and etcd, a real operator, one real agent in a node's place.

The other nodes are played: their agents do no more than give their pods addresses.
"""
