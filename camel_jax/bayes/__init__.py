"""Bayes: a posterior over the parameters of a law, in numpyro.

``noise`` what a run measures around a law | ``priors`` what is believed before | ``model`` the numpyro model of every law |
``sampling`` NUTS from a fit, and a fast approximation | ``convergence`` and ``psis`` whether to trust the draws |
``posterior`` what decisions use | ``comparison`` which law predicts better.
"""
