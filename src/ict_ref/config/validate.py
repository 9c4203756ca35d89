"""Checks of a configuration's values, each with a message that names the option.

The checks compare numbers only and import no torch, so that a command rejects a bad value at once.
"""

import math
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ict_ref.config.schema import Acceptance, Config, Data, Machine, Method, Network, Record, Train

LARGEST = {"float32": (2 - 2**-23) * 2.0**127, "float64": (2 - 2**-52) * 2.0**1023}
SMALLEST_NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}


def option(field: str) -> str:
    """Return the option of a field as a user types it: `train.batch_size` is `--train.batch-size`."""
    return f"--{field.replace('_', '-')}"


def expect(holds: bool, field: str, expected: str, got: object, advice: str = "") -> None:
    """Reject the value of a field unless a condition holds.

    Raises:
        ValueError: the condition does not hold.

    """
    if not holds:
        raise ValueError(f"{option(field)}: expected {expected}, got {got}{'. ' if advice else ''}{advice}")


def check_data(data: "Data") -> None:
    """Reject options of prepared folders for the digits.

    Raises:
        ValueError: `data` names the digits and a folder.

    """
    for name in ("path", "held_out", "checksum") if data.name == "digits" else ():
        value = getattr(data, name)
        advice = "Choose --data.name cifar10, imagenet64 or folder."
        expect(not value, f"data.{name}", "nothing for --data.name digits", value, advice)


def check_network(network: "Network") -> None:
    """Reject sizes that no network can have.

    Raises:
        ValueError: an option is out of range, or channels cannot be divided into groups or heads.

    """
    _at_least(1, network, "network", "width", "blocks", "groups")
    _at_least(0, network, "network", "head_channels", "dropout_max_resolution")
    expect(network.width % 2 == 0, "network.width", "an even number", network.width)
    multipliers = network.multipliers
    positive = len(multipliers) >= 1 and min(multipliers) >= 1
    expect(positive, "network.multipliers", "integers >= 1", multipliers)
    adm = network.architecture == "adm"
    adaptive = network.adaptive_norm
    expect(adm or not adaptive, "network.adaptive_norm", "False, as NCSN++ has no AdaGN", adaptive)
    _check_channels(network)
    expect(0 <= network.dropout < 1, "network.dropout", "0 <= rate < 1", network.dropout)
    scale = network.fourier_scale
    expect(0 < scale <= 1e6, "network.fourier_scale", "0 < scale <= 1e6", scale)
    time_scale = network.time_scale
    expect(abs(time_scale) <= 1e6, "network.time_scale", "a number between -1e6 and 1e6", time_scale)


def _check_channels(network: "Network") -> None:
    adm = network.architecture == "adm"
    widths = {network.width * multiplier for multiplier in network.multipliers}
    for channels in sorted(widths):
        heads = network.head_channels == 0 or channels % network.head_channels == 0
        divisor = f"0 or a divisor of {channels} channels (width * multiplier)"
        expect(heads, "network.head_channels", divisor, network.head_channels)
    # A block of the decoder gets the channels of its own map and those of the encoder's map.
    stem = widths if adm else widths | {network.width}
    for channels in sorted(stem | {a + b for a in stem for b in stem}):
        expect(adm or channels >= 4, "network.width", "4 channels or more", network.width)
        groups = network.groups_of(channels)
        divisor = f"a divisor of {channels} channels, which a block has"
        expect(channels % groups == 0, "network.groups", divisor, groups)


def check_method(method: "Method") -> None:
    """Reject numbers outside the domain of the formulas, and options that would have no effect.

    Raises:
        ValueError: an option is out of range, or does not go with another one.

    """
    low, high = method.sigma_min, method.sigma_max
    ordered = math.isfinite(high) and 0 < low < high
    between = "0 < sigma_min < sigma_max < infinity (iCT, Section 2)"
    expect(ordered, "method.sigma_min", between, f"sigma_min {low} and sigma_max {high}")
    for name in ("rho", "sigma_data"):
        _positive(method, name)
    try:
        math.pow(high, 1 / method.rho)
    except OverflowError:
        power = "a number for which sigma_max^(1/rho) is finite (iCT, Section 2)"
        expect(False, "method.rho", power, method.rho, "The paper's is 7.")
    if method.noise_schedule == "lognormal":
        _positive(method, "p_std")
        expect(math.isfinite(method.p_mean), "method.p_mean", "a finite number", method.p_mean)
    first = 1 if method.curriculum in ("exponential", "constant") else 2
    span = f"{first} <= s0 <= s1 for the {method.curriculum} curriculum"
    expect(first <= method.s0 <= method.s1, "method.s0", span, f"s0 {method.s0} and s1 {method.s1}")
    _check_objective(method)


def _check_objective(method: "Method") -> None:
    c, mu0 = method.huber_c, method.mu0
    huber = method.distance == "pseudo_huber"
    expect(huber or c is None, "method.huber_c", "None unless --method.distance is pseudo_huber", c)
    if c is not None:
        _positive(method, "huber_c")
    has_teacher = method.objective != "continuous"
    expect(has_teacher or mu0 is None, "method.mu0", "None where --method.objective is continuous", mu0)
    decays = mu0 is None or 0 < mu0 < 1
    expect(decays, "method.mu0", "0 < mu0 < 1, or None (iCT, Table 1)", mu0, "The paper's are 0.9 and 0.95.")
    distils = method.objective == "distillation" or not method.denoiser
    advice = "Choose --method.objective distillation."
    expect(distils, "method.denoiser", "nothing unless --method.objective is distillation", method.denoiser, advice)


def check_train(train: "Train") -> None:
    """Reject numbers with which an optimizer cannot make updates.

    Raises:
        ValueError: an option is out of range, or the batch cannot be divided into noise shards.

    """
    _at_least(1, train, "train", "steps", "batch_size", "noise_shards")
    _at_least(0, train, "train", "seed", "skip_nonfinite")
    shards = train.noise_shards
    divisor = f"a divisor of --train.batch-size {train.batch_size}"
    expect(train.batch_size % shards == 0, "train.noise_shards", divisor, shards)
    rate, decay, clip = train.learning_rate, train.ema_decay, train.clip_gradient
    expect(0 < rate < math.inf, "train.learning_rate", "a positive number", rate)
    expect(0 <= decay < 1, "train.ema_decay", "0 <= decay < 1 (iCT, Eq. (4))", decay)
    single = train.dtype == "float32" or train.autocast == "none"
    expect(single, "train.autocast", "none where --train.dtype is float64", train.autocast)
    expect(clip is None or 0 < clip < math.inf, "train.clip_gradient", "a positive number, or None", clip)


def check_machine(machine: "Machine") -> None:
    """Reject numbers of threads and of microbatches that are out of range.

    Raises:
        ValueError: an option is out of range.

    """
    threads = machine.threads
    expect(0 <= threads <= 1024, "machine.threads", "an integer between 0 and 1024", threads)
    _at_least(1, machine, "machine", "accumulate")


def check_record(record: "Record") -> None:
    """Reject intervals and numbers of files that are out of range.

    Raises:
        ValueError: an option is out of range.

    """
    _at_least(1, record, "record", "log_every", "save_every", "keep")
    _at_least(0, record, "record", "milestone_every", "sample_every")


def check_acceptance(acceptance: "Acceptance") -> None:
    """Reject thresholds that no score can have.

    Raises:
        ValueError: an option is out of range.

    """
    for name in ("accuracy", "recall"):
        value = getattr(acceptance, name)
        expect(value is None or 0 <= value <= 1, f"acceptance.{name}", "a fraction between 0 and 1", value)
    distance = acceptance.frechet_distance
    finite = distance is None or 0 <= distance < math.inf
    expect(finite, "acceptance.frechet_distance", "a finite number >= 0", distance)


def check_config(config: "Config") -> None:
    """Reject values of one group that do not go with those of another one.

    Raises:
        ValueError: an option does not go with an option of another group.

    """
    method, train, accuracy = config.method, config.train, config.acceptance.accuracy
    advice = "Give --acceptance.accuracy None."
    labelled = config.data.labels or accuracy is None
    expect(labelled, "acceptance.accuracy", "None for a model without labels", accuracy, advice)
    low, high, sigma = method.sigma_min, method.sigma_max, config.sample.two_step_sigma
    between = f"{low} <= sigma < {high} (--method.sigma-min, --method.sigma-max)"
    expect(low <= sigma < high, "sample.two_step_sigma", between, sigma)
    if method.curriculum == "exponential":
        least = math.ceil(math.log2(method.s1 // method.s0) + 1)
        advice = f"Train for at least {least} steps, or choose s0 and s1 closer together."
        stages = f"at least {least} steps for the exponential curriculum (iCT, Eq. (9))"
        expect(train.steps >= least, "train.steps", stages, train.steps, advice)
    _check_precision(method, train.dtype)


def _check_precision(method: "Method", dtype: str) -> None:
    """Reject numbers that the dtype of training rounds to 0 or to infinity."""
    largest, c = LARGEST[dtype], method.huber_c
    for name in ("sigma_min", "sigma_max"):
        sigma = getattr(method, name)
        expect(0 < _rounded(sigma, dtype) < math.inf, f"method.{name}", f"0 < sigma < infinity in {dtype}", sigma)
    sigma_data = method.sigma_data
    squared = f"a number that {dtype} can square"
    expect(sigma_data <= math.sqrt(largest), "method.sigma_data", squared, sigma_data)
    exact = c is None or c * c >= SMALLEST_NORMAL[dtype]
    expect(exact, "method.huber_c", f"c^2 > 0 in {dtype} (iCT, Eq. (8))", c)


def _rounded(value: float, dtype: str) -> float:
    if dtype == "float64":
        return value
    try:
        rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.inf
    return rounded


def _positive(method: "Method", name: str) -> None:
    value = getattr(method, name)
    expect(0 < value < math.inf, f"method.{name}", f"0 < {name} < infinity", value)


def _at_least(least: int, group: Any, prefix: str, *names: str) -> None:
    for name in names:
        value = getattr(group, name)
        expect(value >= least, f"{prefix}.{name}", f"an integer >= {least}", value)
