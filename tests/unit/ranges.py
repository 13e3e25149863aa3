"""Ranges of hyperparameters, as a request for a search has them."""


def integer(name="epochs", low="5", high="20", **more):
    return {"IntegerParameterRanges": [{"Name": name, "MinValue": low, "MaxValue": high, **more}]}


def continuous(name="learning_rate", low="1e-05", high="0.1", **more):
    return {"ContinuousParameterRanges": [{"Name": name, "MinValue": low, "MaxValue": high, **more}]}


def categorical(**values):
    return {"CategoricalParameterRanges": [{"Name": name, "Values": given} for name, given in values.items()]}


MIXED = {
    **integer(),
    **continuous(ScalingType="Logarithmic"),
    **categorical(optimizer=["adam", "adamw"], batch_size=["32", "64"]),
}
