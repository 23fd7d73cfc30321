"""Measures time and memory at the size the product is meant for; `make bench`, never part of the tests."""
