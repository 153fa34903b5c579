"""Real runs: tiny language models, dense and mixture-of-experts, trained on a controlled corpus of several domains.

``corpus`` makes the text and the benchmarks, ``model`` the network and the ladder of sizes, ``train`` trains one recipe or
many of one shape at once, and ``sweep`` turns a table of recipes into a table of runs.
"""
