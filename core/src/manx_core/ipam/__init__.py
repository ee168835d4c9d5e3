"""Addresses: blocks, who gets which, and when one goes back. Pure arithmetic; the operator acts on it."""
