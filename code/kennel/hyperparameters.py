"""Every hyperparameter, declared once: parser, messages, requests, command line and README are made from this."""

import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_type_hints

from kennel.errors import HyperparameterError

# torchvision's classifiers, all of them; a test compares the two lists
_TORCHVISION = """
alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169 densenet201
efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5
mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf
regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf
regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34
resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5
shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn
vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32 vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2
wide_resnet50_2
"""
BACKBONES = tuple(_TORCHVISION.split())
EXPORTS = ("openvino-int8", "openvino-bf16")  # the engines that a model can be saved for
WATCHING = frozenset(  # they change nothing of the training
    (
        *("debugger", "rules", "rule_parameters", "rule_action"),
        *("profiler", "profile_steps", "profile_start_step", "profiler_preset"),
    )
)
SEARCH = "search"  # not a hyperparameter of a network: a whole search in one job, see kennel.tuning.one_job
_OF_A_RULE = "rule_"  # begins the name of a parameter of a debugger rule
_ALIASES = {"lr": "learning_rate"}  # a dash for an underscore (`batch-size`) is understood everywhere
OBJECTIVE = "_tuning_objective_metric"  # a tuner sends it along to each of its trials (contract B4)
_NOT_OURS = (
    OBJECTIVE,
    "default_user_module_name",
)  # sent along by tuners and SDKs (contract A4.3, B4)


@dataclass(frozen=True)
class Range:
    """The values worth searching: numbers from `low` to `high` on a linear or logarithmic scale, or a few `choices`."""

    low: float = 0.0
    high: float = 0.0
    scaling: Literal["Linear", "Logarithmic", "ReverseLogarithmic"] = "Linear"  # SageMaker's own words (contract B2)
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(self.choices)
        return f"{_short(self.low)} – {_short(self.high)}" + (", log" if self.scaling == "Logarithmic" else "")


@dataclass(frozen=True)
class Declaration:
    """All there is to know of one hyperparameter but its value."""

    name: str
    type: type
    default: Any
    help: str
    low: float | None = None  # smallest and largest value allowed, both included
    high: float | None = None
    choices: tuple[str, ...] = ()
    tune: Range | None = None

    @property
    def bounds(self) -> str:
        """The allowed values, in words."""
        if self.choices == BACKBONES:
            return f"one of torchvision's {len(BACKBONES)} classifiers, such as resnet18, mobilenet_v2 or vit_b_16"
        if self.choices:
            number = "" if self.low is None or self.high is None else f", or a number from {self.low} to {self.high}"
            return f"one of {', '.join(self.choices)}{number}"
        if self.low is None or self.high is None:
            return "any text"
        kind = "a whole number" if self.type is int else "a number"
        return f"{kind} from {_short(self.low)} to {_short(self.high)}"

    def parse(self, text: str) -> Any:
        """Return the typed value of `text`; raises ValueError when it is not within the bounds."""
        value: Any = text
        if value in self.choices:
            return value
        if self.type is str and self.low is not None:  # a choice, or a number
            return str(Declaration(self.name, int, 0, "", self.low, self.high).parse(text))
        if self.type is int:
            number = float(text)
            if not number.is_integer():
                raise ValueError(text)
            value = int(number)
        elif self.type is float:
            value = float(text)
        if self.choices:
            raise ValueError(text)
        # written so that NaN, which compares false to everything, is refused too
        if self.low is not None and not value >= self.low:
            raise ValueError(text)
        if self.high is not None and not value <= self.high:
            raise ValueError(text)
        return value


def _short(number: float) -> str:
    """Return 2147483647 and 1e-08 as they are best read."""
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


def _declare(default: Any, help: str, **bounds: Any) -> Any:
    return field(default=default, metadata={"help": help, **bounds})


@dataclass(frozen=True)
class Hyperparameters:
    """The values of one training job. Each field is a hyperparameter; its metadata is the declaration."""

    backbone: str = _declare("resnet50", "the network below the head, a torchvision classifier", choices=BACKBONES)
    weights: str = _declare(
        "pretrained",
        "the backbone's first weights: `pretrained` reads the channel of that name, the image, or torchvision's site, "
        "`none` trains from scratch, anything else is the path of a state dict inside the container",
    )
    image_size: int = _declare(224, "side in pixels of the square that the network sees", low=16, high=1024)
    epochs: int = _declare(15, "passes over the training images", low=1, high=1000, tune=Range(5, 30))
    batch_size: int = _declare(
        64,
        "images a step, over all processes together",
        low=1,
        high=4096,
        tune=Range(choices=("32", "64", "128", "256")),
    )
    learning_rate: float = _declare(
        5e-4, "step size at its highest", low=1e-8, high=10.0, tune=Range(1e-5, 1e-1, "Logarithmic")
    )
    optimizer: str = _declare(
        "adamw",
        "the rule of a step",
        choices=("adam", "adamw", "rmsprop", "sgd"),
        tune=Range(choices=("adam", "adamw", "rmsprop", "sgd")),
    )
    weight_decay: float = _declare(
        0.01, "pull of the weights towards zero", low=0.0, high=1.0, tune=Range(1e-5, 1e-1, "Logarithmic")
    )
    momentum: float = _declare(0.9, "for sgd and rmsprop", low=0.0, high=0.999, tune=Range(0.5, 0.99))
    dropout: float = _declare(
        0.5, "share of the head's hidden units that a step switches off", low=0.0, high=0.95, tune=Range(0.1, 0.6)
    )
    fc_units: int = _declare(
        512, "width of the head's hidden layer", low=1, high=16384, tune=Range(choices=("128", "256", "512", "1024"))
    )
    label_smoothing: float = _declare(
        0.1, "share of a label that is spread over all classes while training", low=0.0, high=0.9, tune=Range(0.0, 0.2)
    )
    scheduler: str = _declare(
        "cosine", "how the learning rate moves over the steps", choices=("cosine", "onecycle", "constant")
    )
    augment: str = _declare(
        "flip",
        "`flip` also shows each image mirrored; the other two also turn, shift and recolour it, where the backbone is "
        "trained",
        choices=("none", "flip", "randaugment", "trivialaugment"),
    )
    mixup: float = _declare(
        0.0,
        "where the backbone is trained, images are blended in pairs; alpha of the beta distribution, 0 does not",
        low=0.0,
        high=8.0,
    )
    cutmix: float = _declare(
        0.0,
        "as `mixup`, with a rectangle of the other image; where both are set, each step draws one",
        low=0.0,
        high=8.0,
    )
    class_weights: str = _declare(
        "none",
        "`balanced` lets each class count alike in the loss, however many images it has",
        choices=("none", "balanced"),
    )
    statistics: str = _declare(
        "auto",
        "what images are normalized with: mean and deviation of `imagenet`, or of the `dataset`'s training images; "
        "`auto` is the dataset's from scratch, else ImageNet's",
        choices=("auto", "imagenet", "dataset"),
    )
    unfreeze: str = _declare(
        "auto",
        "what is trained: the `head` on a frozen backbone, `all`, or so many of the backbone's last blocks; `auto` is "
        "`all` from scratch, else `head`",
        choices=("auto", "head", "all"),
        low=1,
        high=999,
    )
    fine_tune_epochs: int = _declare(
        5, "passes with unfrozen blocks, after the head was trained for `epochs`", low=1, high=1000
    )
    fine_tune_learning_rate: float = _declare(
        3e-5, "step size of those passes at its highest, for the head and the last block", low=1e-8, high=10.0
    )
    layer_decay: float = _declare(
        0.8, "each block's learning rate, as a share of that of the block above it", low=0.01, high=1.0
    )
    warmup: float = _declare(
        0.1, "share of the fine-tuning steps in which the learning rate rises to its highest", low=0.0, high=0.9
    )
    ema_decay: float = _declare(
        0.0,
        "where the backbone is trained, the model is a moving average of the weights that keeps this share a step; 0 "
        "takes the weights themselves",
        low=0.0,
        high=0.99999,
    )
    test_time_augment: str = _declare(
        "none",
        "`flip` averages the probabilities of an image and its mirror image, in tests and in the server",
        choices=("none", "flip"),
    )
    precision: str = _declare(
        "auto",
        "of the forward and backward passes through the backbone; `auto` is bfloat16 where the hardware has it, "
        "float16 on other GPUs, else float32",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    export: str = _declare(
        ",".join(EXPORTS),
        "engines that the model is also saved for, with commas between; each is kept only if it is as accurate on the "
        "validation images; `none` saves the model alone, and so does every trial of a tuning job",
    )
    checkpoint_seconds: float = _declare(
        60.0, "time between two checkpoints, where the job has a folder for them", low=0.0, high=86400.0
    )
    early_stopping_patience: int = _declare(
        0,
        "epochs after which training ends when none was better: in valid_accuracy, or as good with a lower valid_loss; "
        "0 never does",
        low=0,
        high=1000,
    )
    seed: int = _declare(0, "start of all random numbers", low=0, high=2**31 - 1)
    max_bad_images: float = _declare(0.01, "share of unreadable images above which training refuses", low=0.0, high=1.0)
    num_workers: int = _declare(0, "threads that decode images; 0 takes one a core", low=0, high=256)
    debugger: str = _declare(
        "measure",
        "`measure` lets the rules judge measurements of the training, `on` also saves tensors, as a job's "
        "`debughookconfig.json` does too, `off` does neither",
        choices=("off", "measure", "on"),
    )
    rules: str = _declare(
        "default",
        "debugger rules that judge the training, with commas between; `default` stands for eleven of them, `none` for "
        "none",
    )
    rule_parameters: str = _declare(
        "", "`NAME_PARAMETER=VALUE` of rules, with semicolons between; each may be given as `rule_NAME_PARAMETER` too"
    )
    rule_action: str = _declare(
        "none",
        "`stop_training` ends the training when a rule finds an issue, and keeps the best epoch's model",
        choices=("none", "stop_training"),
    )
    profiler: str = _declare("on", "whether the job looks at where its time goes", choices=("on", "off"))
    profile_steps: int = _declare(
        10, "training steps whose operators the profiler looks at, of the head and of the network each", low=0, high=100
    )
    profile_start_step: int = _declare(
        11, "the first of those steps; in the ten before it the debugger measures much", low=2, high=2**31 - 1
    )
    profiler_preset: str = _declare(
        "sdk",
        "defaults of the profiler's rules: those that AWS's SDK sends, or those of AWS's documentation",
        choices=("sdk", "documented"),
    )

    @property
    def from_scratch(self) -> bool:
        """Whether the backbone starts from random weights."""
        return self.weights == "none"

    @property
    def head_only(self) -> bool:
        """Whether the backbone stays frozen, so that only the head is trained."""
        return self.unfreeze == "head" or (self.unfreeze == "auto" and not self.from_scratch)

    @property
    def exports(self) -> tuple[str, ...]:
        """The engines that the model is also saved for."""
        return () if self.export == "none" else tuple(name.strip() for name in self.export.split(","))

    @property
    def dataset_statistics(self) -> bool:
        """Whether images are normalized with the data set's own mean and deviation."""
        return self.statistics == "dataset" or (self.statistics == "auto" and self.from_scratch)


def _declarations() -> Mapping[str, Declaration]:
    hints = get_type_hints(Hyperparameters)
    return types.MappingProxyType(
        {f.name: Declaration(f.name, hints[f.name], f.default, **f.metadata) for f in fields(Hyperparameters)}
    )


DECLARATIONS = _declarations()


def default_values() -> dict[str, str]:
    """Return the default of every hyperparameter, as a request holds it."""
    return {name: str(declaration.default) for name, declaration in DECLARATIONS.items()}


def parse_hyperparameters(values: Mapping[str, Any]) -> Hyperparameters:
    """Return the typed hyperparameters for `values`, as they stand in SageMaker's `hyperparameters.json`.

    Values may be plain or JSON-encoded strings (`adam`, `"adam"`, contract A4.1); null and the empty string stand for
    the default. Names that SageMaker itself adds are passed over (contract A4.3). `rule_NAME_PARAMETER` becomes a part
    of `rule_parameters`; whoever makes the rules knows which of them there are. Raises HyperparameterError with one
    line for each unknown name and each value out of bounds.
    """
    given: dict[str, str] = {}
    problems: list[str] = []
    of_rules: list[str] = []
    for key, raw in values.items():
        if key.startswith("sagemaker_") or key in _NOT_OURS:
            continue
        name = canonical_name(key)
        text = _plain(raw)
        if name.startswith(_OF_A_RULE) and name not in DECLARATIONS:
            of_rules.append(f"{name.removeprefix(_OF_A_RULE)}={text}")
        elif name not in DECLARATIONS:
            problems.append(f"{key}={text}: there is no such hyperparameter")
        elif text and given.setdefault(name, text) != text:
            problems.append(f"{key}={text}: {name} is given twice, as {given[name]} and as {text}")
    if of_rules:
        given["rule_parameters"] = "; ".join([*filter(None, [given.get("rule_parameters")]), *of_rules])
    parsed: dict[str, Any] = {}
    for name, text in given.items():
        declaration = DECLARATIONS[name]
        try:
            parsed[name] = declaration.parse(text)
        except ValueError:
            problems.append(f"{name}={text}: must be {declaration.bounds} (default {declaration.default})")
    if not problems:
        hyperparameters = Hyperparameters(**parsed)
        problems += _contradictions(hyperparameters)
        if not problems:
            return hyperparameters
    if any("no such hyperparameter" in problem for problem in problems):
        problems.append("known are: " + ", ".join(DECLARATIONS))
    raise HyperparameterError("bad hyperparameters:\n  " + "\n  ".join(problems))


def _contradictions(hp: Hyperparameters) -> list[str]:
    """Return what is wrong with values that are right one by one."""
    problems = []
    if wrong := [name for name in hp.exports if name not in EXPORTS]:
        problems.append(
            f"export={hp.export}: there is no engine {wrong[0]!r}; there are {', '.join(EXPORTS)}, and none"
        )
    if hp.from_scratch and hp.unfreeze not in ("auto", "all"):
        problems.append(
            f"unfreeze={hp.unfreeze} with weights=none: a frozen random backbone learns nothing; use unfreeze=all"
        )
    if hp.head_only:
        trained = "with a frozen backbone, whose features are computed once; set unfreeze=all, or a number of blocks"
        if hp.augment not in ("none", "flip"):
            problems.append(f"augment={hp.augment}: not {trained}")
        problems += [
            f"{name}={getattr(hp, name):g}: not {trained}"
            for name in ("mixup", "cutmix", "ema_decay")
            if getattr(hp, name)
        ]
    if hp.batch_size == 1 and not hp.head_only:
        problems.append("batch_size=1 with a backbone that is trained: batch norm needs two images or more a step")
    return problems


def canonical_name(key: str) -> str:
    """Return the declared spelling of `key`: underscores for dashes, and `learning_rate` for `lr`."""
    name = key.replace("-", "_")
    return _ALIASES.get(name, name)


def _plain(raw: Any) -> str:
    """Undo one layer of JSON quoting: `"adam"` becomes `adam`, null becomes the empty string."""
    if not isinstance(raw, str):
        return "" if raw is None else json.dumps(raw)
    try:
        value = json.loads(raw)
    except ValueError:
        return raw.strip()
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else raw.strip()  # a number stays as the user wrote it


def markdown_table() -> str:
    """Return the table of all hyperparameters that stands in the README."""
    rows = ["| name | default | allowed | worth tuning | what it is |", "|---|---|---|---|---|"]
    for d in DECLARATIONS.values():
        default = f"`{d.default}`" if d.default != "" else ""
        rows.append(f"| `{d.name}` | {default} | {d.bounds} | {d.tune or ''} | {d.help} |")
    return "\n".join(rows)
