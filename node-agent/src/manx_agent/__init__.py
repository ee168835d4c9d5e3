"""Manx's node agent: brings what the operator wants of this node into its kernel, and says what is in force."""

VERSION = "0.1.0"
