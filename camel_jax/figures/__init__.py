"""Figures from results: they never fit and never write."""
