"""How a run is started on many processes or as jobs, and what memory it needs."""
