"""From a table to a ``Fit``: starts times resamples (times sets) as lanes, back-tests, intervals."""

from camel_jax.fitting.fit import fit
from camel_jax.fitting.identifiability import FitError
from camel_jax.fitting.intervals import accuracy_interval, predict_interval
from camel_jax.fitting.result import Fit, load_fit

__all__ = ["Fit", "FitError", "accuracy_interval", "fit", "load_fit", "predict_interval"]
