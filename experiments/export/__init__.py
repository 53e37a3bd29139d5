"""A checkpoint as a folder that a router and any engine can use: weights, calibration, gate and model card."""
