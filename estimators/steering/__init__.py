"""Steering a thought by its confidence (ReBalance): a direction read off traces, and how far states are moved along it.

Nothing here is imported for you: :mod:`~estimators.steering.extraction` fits a vector, :mod:`~estimators.steering.
vector` saves it, :mod:`~estimators.steering.control` says how far, :mod:`~estimators.steering.generation` does it.
"""
