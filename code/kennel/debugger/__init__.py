"""Says what goes wrong in a training: rules with AWS's names, judging measurements of its tensors (contract D3)."""
