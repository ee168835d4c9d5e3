"""Saying of users' objects whether they are valid and in force. Free of kopf, which a standby does not load."""
