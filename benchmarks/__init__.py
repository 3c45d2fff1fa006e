"""Figures of minibatch beside plain pymongo, a hand-written loop and the original, on one server in one run.

``python -m benchmarks --help`` tells what can be chosen; ``make bench`` runs all of it.
"""
