"""The version of the package: column `code_version` of the tables."""

__version__ = "0.1.0"
