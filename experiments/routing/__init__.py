"""The other side of a router: the model that questions are escalated to, and routers that a confidence has to beat."""
