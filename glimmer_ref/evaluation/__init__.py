"""Many questions: answered, scored with the field's metrics, swept over k and m, kept and resumed."""
