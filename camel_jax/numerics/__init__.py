"""Arithmetic that stays finite, and small linear algebra with lanes last."""
