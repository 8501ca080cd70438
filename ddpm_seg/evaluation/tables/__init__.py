"""Queries over the tables that runs wrote."""
