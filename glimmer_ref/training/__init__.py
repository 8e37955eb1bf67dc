"""Training: recipes, batches, Adafactor, evaluation on dev questions, checkpoints."""
