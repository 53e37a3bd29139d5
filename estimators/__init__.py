"""How sure the model is: confidence estimators, their recalibration and the metrics that judge them."""
