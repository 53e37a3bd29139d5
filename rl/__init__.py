"""Trainers that put rewards, estimators and TRL together."""
