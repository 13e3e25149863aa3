"""Says where a training's time goes: machine, steps, operators, and rules with AWS's names (contract D4)."""
