"""The descent: a batch's tensors, the step, the loop, stopping, progress, results, diagnostics."""
