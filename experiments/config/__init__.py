"""What a run is configured by: recipes, the trainer section and where weights are found."""
