"""Minimisers that know no law."""
