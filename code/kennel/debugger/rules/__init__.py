"""The rules by AWS's names, parameters and defaults (contract D3)."""

from kennel.debugger.rules.activations import DeadRelu, SaturatedActivation
from kennel.debugger.rules.classes import ClassImbalance, Confusion
from kennel.debugger.rules.generalization import Overfit, Overtraining
from kennel.debugger.rules.gradients import ExplodingTensor, VanishingGradient
from kennel.debugger.rules.initialization import PoorWeightInitialization
from kennel.debugger.rules.inputs import CheckInputImages
from kennel.debugger.rules.losses import LossNotDecreasing
from kennel.debugger.rules.runs import SimilarAcrossRuns
from kennel.debugger.rules.stalled import StalledTrainingRule
from kennel.debugger.rules.updates import WeightUpdateRatio
from kennel.debugger.rules.values import AllZero, TensorVariance, UnchangedTensor
from kennel.debugger.series import Measurements
from kennel.judging.rules import Rules

RULES: Rules[Measurements] = Rules(
    VanishingGradient,
    ExplodingTensor,
    PoorWeightInitialization,
    DeadRelu,
    SaturatedActivation,
    WeightUpdateRatio,
    AllZero,
    ClassImbalance,
    LossNotDecreasing,
    Overfit,
    Overtraining,
    TensorVariance,
    UnchangedTensor,
    StalledTrainingRule,
    Confusion,
    CheckInputImages,
    SimilarAcrossRuns,
)
