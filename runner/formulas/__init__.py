"""The language of formulas: parsed against a whitelist, evaluated on numbers and on tensors."""
