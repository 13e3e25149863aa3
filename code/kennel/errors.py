"""What can go wrong for a reason that the user can mend; every message names the thing, its value and the remedy."""


class KennelError(Exception):
    """The root of all errors whose message is meant for the user: it is shown without a traceback."""


class HyperparameterError(KennelError):
    """One or more hyperparameters are unknown or out of bounds; the message lists all of them."""


class DataError(KennelError):
    """The data set's folders or files are not what training needs."""


class ImageError(KennelError):
    """The bytes of one image cannot be turned into pixels."""


class CacheError(KennelError):
    """What jobs share cannot be kept."""


class WeightsError(KennelError):
    """Pretrained weights are missing, unreadable, or of another network."""


class ArtifactError(KennelError):
    """A model folder is missing, incomplete, or of a format that this version does not know."""


class TrainingError(KennelError):
    """Training cannot go on, for example because the loss is no longer a number."""


class ReportError(KennelError):
    """The record that a page is to be made of is missing, or is not what it should be."""


class ContractError(KennelError):
    """The files or variables that SageMaker gives to a container are unreadable or ask for what is not supported."""


class SearchError(KennelError):
    """A search for hyperparameters cannot be made as it is asked for."""


class TrialError(KennelError):
    """A folder of tensors that a training saved is missing, empty or unreadable."""


class RuleError(KennelError):
    """A debugger rule is unknown, or one of its parameters is."""


class NothingToJudge(KennelError):
    """The tensors that a debugger rule needs were not saved, or are too few; the message says which."""


class Stopped(Exception):
    """Training was asked to stop before there was a model to keep."""

    def __init__(self, when: str, by: str = "SIGTERM") -> None:
        """`when` says how far training had come, `by` who has asked."""
        super().__init__(when)
        self.by = by
