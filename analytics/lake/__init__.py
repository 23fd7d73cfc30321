"""Typed tables as Parquet, and the database that people open."""
