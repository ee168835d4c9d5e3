"""The project's checks and tests, in stages, with one count over all of them at the end."""
