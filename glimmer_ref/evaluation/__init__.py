"""Evaluation on many questions: answers, the field's metrics, sweeps over k and m that are saved and resumed."""
