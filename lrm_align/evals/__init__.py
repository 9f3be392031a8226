"""What a model is worth, before and after: prompt sets, verdicts, rates and their intervals."""
