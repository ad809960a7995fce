"""The version, read here by the package and by the build (pyproject.toml)."""

VERSION = "0.1.0"
