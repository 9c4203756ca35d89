"""Vectors for the samplers, the search of levels and the editing."""

from tools.vectors.arrays import Array, array
from tools.vectors.callbacks import callback
from tools.vectors.case import INF, NAN, Argument, Case, applied, draw, elsewhere, flags, invalid, valid
from tools.vectors.cases_schedule import levels

EXACT = callback("gaussian_consistency", mean=0.5, std=0.75, sigma_min=0.002)
MILD, BENT = callback("bend", a=1.0, b=0.0), callback("bend", a=0.9, b=0.05)
NEAR = {"rtol": 1e-12, "atol": 1e-13}


def one(comment: str, z: Array, **others: Argument) -> Case:
    """A one-step sample of Gaussian data."""
    return valid(comment, z=z, **NEAR, **{"f": EXACT, **others})


ONE_STEP: list[Case] = [
    one("the paper's sigma_max", draw(100, 3, 2)),
    one("no event axes", array([1.0, -0.5])),
    one("a batch of one", draw(101, 1, 4)),
    one("images", draw(102, 2, 3, 2, 2)),
    one("another level", draw(103, 2, 2), sigma_max=1.5),
    one("another function", draw(104, 2, 2), f=BENT, sigma_max=5.0),
    one("noise 0", array([[0.0, 0.0]])),
    invalid("sigma_max = 0", f=EXACT, z=draw(105, 1, 2), sigma_max=0.0),
    invalid("sigma_max < 0", f=EXACT, z=draw(105, 1, 2), sigma_max=-80.0),
    invalid("sigma_max is NaN", f=EXACT, z=draw(105, 1, 2), sigma_max=NAN),
    invalid("sigma_max is infinite", f=EXACT, z=draw(105, 1, 2), sigma_max=INF),
]

RENOISE: list[Case] = [
    valid("the paper's 0.821", x=draw(110, 2, 3), z=draw(111, 2, 3), sigma=0.821, atol=1e-14),
    valid("sigma_min: nothing is added", x=draw(112, 2, 3), z=draw(113, 2, 3), sigma=0.002),
    valid("twice sigma_min", x=array([[1.0, 0.0]]), z=array([[1.0, -1.0]]), sigma=0.004, atol=1e-15),
    valid("no event axes", x=array([0.5, 0.25]), z=array([1.0, -2.0]), sigma=1.526, atol=1e-14),
    valid("a batch of one", x=draw(114, 1, 4), z=draw(115, 1, 4), sigma=80.0, atol=1e-13),
    valid("sigma_min = 0.5", x=draw(116, 2, 2), z=draw(117, 2, 2), sigma=1.0, sigma_min=0.5, atol=1e-14),
    valid("images", x=draw(118, 2, 3, 2, 1), z=draw(119, 2, 3, 2, 1), sigma=0.661, atol=1e-14),
    invalid("sigma < sigma_min", x=draw(110, 1, 2), z=draw(111, 1, 2), sigma=0.001),
    invalid("sigma < 0", x=draw(110, 1, 2), z=draw(111, 1, 2), sigma=-1.0),
    invalid("sigma is NaN", x=draw(110, 1, 2), z=draw(111, 1, 2), sigma=NAN),
    invalid("sigma is infinite", x=draw(110, 1, 2), z=draw(111, 1, 2), sigma=INF),
    invalid("sigma_min < 0", x=draw(110, 1, 2), z=draw(111, 1, 2), sigma=1.0, sigma_min=-0.002),
    invalid("different shapes", x=draw(110, 1, 2), z=draw(111, 1, 3), sigma=1.0),
]

BAD_LISTS: dict[str, list[float]] = {
    "levels ascend": [0.821, 80.0],
    "two levels are equal: they do not descend": [2.0, 2.0],
    "the last level is below sigma_min": [80.0, 0.001],
    "the last level is 0": [80.0, 0.0],
    "a level is NaN": [80.0, NAN],
    "the first level is infinite": [INF, 1.0],
    "one level for two noises": [80.0],
    "three levels for two noises": [80.0, 1.0, 0.5],
}


def many(comment: str, sigmas: list[float], seed: int, *shape: int, **others: Argument) -> Case:
    """A sample of several steps."""
    noises = draw(seed, len(sigmas), *shape)
    return valid(comment, noises=noises, sigmas=array(sigmas), **NEAR, **{"f": EXACT, **others})


MULTISTEP: list[Case] = [
    many("one step", [80.0], 120, 2, 3),
    many("the paper's two steps on CIFAR-10", [80.0, 0.821], 121, 2, 3),
    many("the paper's two steps on ImageNet", [80.0, 1.526], 122, 2, 3),
    many("a last level sigma_min adds nothing", [80.0, 0.002], 123, 2, 2),
    many("three steps, no event axes", [80.0, 5.0, 0.004], 124, 3),
    many("a batch of one", [10.0, 1.0, 0.1, 0.01], 125, 1, 3),
    many("a function that bends", [2.0, 0.821, 0.25], 126, 2, 2, f=BENT),
    many("sigma_min = 0.5", [4.0, 0.75], 127, 2, 2, f=MILD, sigma_min=0.5),
    many("images", [80.0, 0.661], 128, 1, 3, 2, 2),
    *(
        invalid(comment, f=EXACT, noises=draw(129, 2, 1, 2), sigmas=array(sigmas))
        for comment, sigmas in BAD_LISTS.items()
    ),
    invalid("no level", f=EXACT, noises=Array((0, 1, 2), ()), sigmas=Array((0,), ())),
]

ELEVEN, FORTY = levels(11), levels(41)


def search(
    comment: str,
    bottom: float,
    *,
    sigmas: Array = ELEVEN,
    left: float = 1.0,
    right: float = 1.0,
    position: int = 0,
    **others: Argument,
) -> Case:
    """A search for a valley's bottom."""
    objective = callback("valley", bottom=bottom, left=left, right=right, position=position)
    return valid(comment, objective=objective, sigmas=sigmas, rtol=0.0, **others)


FLAT = callback("valley", bottom=1.0, left=1.0, right=1.0, position=0)
SEARCH: list[Case] = [
    *(search(f"the valley's bottom is node {j}", float(ELEVEN.values[j])) for j in range(11)),
    search("below all nodes: the first", 0.0001),
    search("above all nodes: the last", 1e4),
    search("between two nodes, nearer to the lower one", 0.3),
    search("steep on the right", 0.9, right=20.0),
    search("steep on the left", 0.9, left=20.0),
    search(
        "a second level, between sigma_max and sigma_min",
        0.821,
        sigmas=FORTY,
        position=1,
        before=(80.0,),
        after=(0.002,),
    ),
    search("below a first level", 5.0, sigmas=FORTY, position=1, before=(float(FORTY.values[30]),)),
    search("above a last level", 0.002, sigmas=FORTY, after=(float(FORTY.values[20]),)),
    search("one candidate", 1.0, sigmas=array([0.002, 1.0, 80.0]), position=1, before=(80.0,), after=(0.002,)),
    search("two candidates", 3.0, sigmas=array([1.0, 2.0])),
    search("two nodes before, one after", 1.0, sigmas=FORTY, position=2, before=(80.0, 20.0), after=(0.002,)),
    invalid("sigmas descend", objective=FLAT, sigmas=array([80.0, 1.0, 0.002])),
    invalid("two nodes are equal", objective=FLAT, sigmas=array([0.002, 1.0, 1.0])),
    invalid("a node is NaN", objective=FLAT, sigmas=array([0.002, NAN, 80.0])),
    invalid("before ascends", objective=FLAT, sigmas=ELEVEN, before=(1.0, 80.0)),
    invalid("after ascends", objective=FLAT, sigmas=ELEVEN, after=(0.002, 0.01)),
    invalid(
        "no candidate between the neighbours",
        objective=FLAT,
        sigmas=array([0.002, 1.0, 80.0]),
        before=(1.0,),
        after=(0.002,),
    ),
]

INPAINTING, COLORIZATION = callback("inpainting"), callback("colorization")
SUPER_RESOLUTION = callback("super_resolution", patch=2)
LEFT_HALF = flags([[[[True, False], [True, False]]]])
COLOURS, LUMA_ONLY = flags([[[[False]], [[True]], [[True]]]]), flags([[[[True]], [[False]], [[False]]]])
DETAILS = flags([[[[k > 0]] for k in range(4)]])


def edited(
    comment: str,
    shape: tuple[int, ...],
    seed: int,
    sigmas: list[float],
    operator: Argument,
    mask: Array,
    **others: Argument,
) -> Case:
    """An image edited."""
    return valid(
        comment,
        reference=draw(seed, *shape, scale=1.0),
        noises=draw(seed + 1, len(sigmas), *shape),
        sigmas=array(sigmas),
        operator=operator,
        mask=mask,
        **NEAR,
        **{"f": BENT, **others},
    )


BROKEN: dict[str, Argument] = {"f": BENT, "reference": draw(150, 1, 1, 2, 2), "operator": INPAINTING, "mask": LEFT_HALF}
EDIT: list[Case] = [
    edited("inpainting in one step", (1, 1, 2, 2), 130, [2.0], INPAINTING, LEFT_HALF),
    edited("inpainting in two steps", (2, 1, 2, 2), 132, [2.0, 0.821], INPAINTING, LEFT_HALF),
    edited("inpainting in three steps, three channels", (1, 3, 2, 2), 134, [3.0, 1.0, 0.004], INPAINTING, LEFT_HALF),
    edited(
        "all to be made: the reference does not matter", (1, 1, 2, 2), 136, [2.0, 0.5], INPAINTING, flags([[[[True]]]])
    ),
    edited(
        "nothing to be made: the reference comes back", (1, 1, 2, 2), 138, [2.0, 0.5], INPAINTING, flags([[[[False]]]])
    ),
    edited("colorization in one step", (1, 3, 1, 2), 140, [2.0], COLORIZATION, COLOURS),
    edited("colorization in two steps", (1, 3, 1, 2), 142, [2.0, 0.5], COLORIZATION, COLOURS),
    edited("new luma under the old colours", (1, 3, 1, 2), 144, [2.0, 0.5], COLORIZATION, LUMA_ONLY),
    edited("super-resolution in two steps", (1, 1, 2, 4), 146, [2.0, 0.5], SUPER_RESOLUTION, DETAILS),
    edited(
        "super-resolution, exact function of Gaussian data",
        (1, 1, 4, 2),
        148,
        [80.0, 0.821],
        SUPER_RESOLUTION,
        DETAILS,
        f=EXACT,
    ),
    edited("sigma_min = 0.25", (1, 1, 2, 2), 160, [2.0, 0.5], INPAINTING, LEFT_HALF, sigma_min=0.25),
    *(
        invalid(comment, noises=draw(151, 2, 1, 1, 2, 2), sigmas=array(sigmas), **BROKEN)
        for comment, sigmas in BAD_LISTS.items()
    ),
    invalid(
        "a mask of integers, not of truth values",
        noises=draw(151, 2, 1, 1, 2, 2),
        sigmas=array([2.0, 0.5]),
        **{**BROKEN, "mask": array([[[[1, 0], [1, 0]]]], "int64")},
    ),
]


def stroked(comment: str, shape: tuple[int, ...], seed: int, sigmas: list[float], **others: Argument) -> Case:
    """A picture made of strokes."""
    return valid(
        comment,
        reference=draw(seed, *shape, scale=1.0),
        noises=draw(seed + 1, len(sigmas), *shape),
        sigmas=array(sigmas),
        **NEAR,
        **{"f": EXACT, **others},
    )


STROKE: list[Case] = [
    stroked("CM's levels 5.38, 2.24", (1, 1, 2, 2), 170, [5.38, 2.24]),
    stroked("one step", (2, 1, 2, 1), 172, [5.38]),
    stroked("a function that bends", (1, 3, 2, 1), 174, [2.0, 0.5], f=BENT),
    stroked("three steps", (1, 1, 2, 2), 176, [5.38, 2.24, 0.004]),
    stroked("a last level sigma_min adds nothing", (1, 1, 2, 2), 178, [5.38, 0.002]),
    stroked("sigma_min = 0.25", (1, 1, 2, 2), 180, [2.0, 0.5], f=MILD, sigma_min=0.25),
    *(
        invalid(
            comment, f=EXACT, reference=draw(182, 1, 1, 2, 2), noises=draw(183, 2, 1, 1, 2, 2), sigmas=array(sigmas)
        )
        for comment, sigmas in BAD_LISTS.items()
    ),
]

IN: list[Case] = [
    applied(comment, x)
    for comment, x in {
        "a pixel": array([[[[0.5]]]]),
        "two channels": draw(190, 1, 2, 2, 2),
        "three channels": draw(191, 1, 3, 2, 2),
        "a batch of two": draw(192, 2, 1, 2, 2),
        "a wide image": draw(193, 1, 1, 1, 5),
        "zeros": array([[[[0.0, 0.0]]]]),
    }.items()
]
COLOUR: list[Case] = [
    applied(comment, x, compare="kept")
    for comment, x in {
        "grey: the luma is (.2989 + .5870 + .1140) / .6686": array([[[[1.0]], [[1.0]], [[1.0]]]]),
        "pure red": array([[[[1.0]], [[0.0]], [[0.0]]]]),
        "pure green": array([[[[0.0]], [[1.0]], [[0.0]]]]),
        "pure blue": array([[[[0.0]], [[0.0]], [[1.0]]]]),
        "an image": draw(194, 1, 3, 2, 2),
        "a batch of two": draw(195, 2, 3, 1, 2),
        "zeros": array([[[[0.0]], [[0.0]], [[0.0]]]]),
    }.items()
]
SUPER: list[Case] = [
    applied("patches of one pixel: the image itself", draw(196, 1, 2, 2, 2), compare="kept", patch=1),
    applied("patches of 2 x 2", draw(197, 1, 1, 4, 4), compare="kept", patch=2),
    applied("two channels", draw(198, 1, 2, 2, 4), compare="kept", patch=2),
    applied("a batch of two", draw(199, 2, 1, 2, 2), compare="kept", patch=2),
    applied("patches of 3 x 3", draw(200, 1, 1, 3, 6), compare="kept", patch=3),
    applied("all ones: twice the mean", array([[[[1.0, 1.0], [1.0, 1.0]]]]), compare="kept", patch=2),
    invalid("patch = 0 < 1", patch=0),
    invalid("patch < 0", patch=-2),
]
SUPER_MASK: list[Case] = [
    *(
        valid(f"{c} channels, patches of {p} x {p}", channels=c, patch=p)
        for c, p in ((1, 1), (1, 2), (3, 1), (3, 2), (2, 3), (1, 4))
    ),
    invalid("patch = 0 < 1", channels=3, patch=0),
    invalid("patch < 0", channels=3, patch=-1),
    invalid("channels = 0 < 1", channels=0, patch=2),
]

P, Q = array([[1.0, 0.0], [0.6, 0.8]]), array([[0.0, 1.0], [-0.8, 0.6]])
SLERP: list[Case] = [
    valid("right angles", z1=P, z2=Q, alpha=array([0.5, 0.25]), atol=1e-15),
    valid("the ends", z1=P, z2=Q, alpha=array([0.0, 1.0]), atol=1e-15),
    valid(
        "different lengths and angles",
        z1=draw(210, 3, 4),
        z2=draw(211, 3, 4),
        alpha=array([0.1, 0.5, 0.9]),
        rtol=1e-12,
        atol=1e-14,
    ),
    valid("a batch of one", z1=draw(212, 1, 5), z2=draw(213, 1, 5), alpha=array([0.3]), rtol=1e-12, atol=1e-14),
    elsewhere(
        valid(
            "parallel: the straight line",
            z1=array([[1.0, 2.0]]),
            z2=array([[2.0, 4.0]]),
            alpha=array([0.25]),
            rtol=1e-7,
        )
    ),
    elsewhere(valid("equal: nothing moves", z1=P, z2=P, alpha=array([0.5, 0.75]), rtol=1e-7)),
    valid(
        "images", z1=draw(214, 2, 3, 2, 1), z2=draw(215, 2, 3, 2, 1), alpha=array([0.2, 0.6]), rtol=1e-12, atol=1e-14
    ),
    invalid("opposite: no way is the shortest", z1=array([[1.0, 2.0]]), z2=array([[-1.0, -2.0]]), alpha=array([0.5])),
    invalid("a zero vector has no angle", z1=array([[0.0, 0.0]]), z2=array([[1.0, 2.0]]), alpha=array([0.5])),
    invalid("both vectors are zero", z1=array([[0.0, 0.0]]), z2=array([[0.0, 0.0]]), alpha=array([0.5])),
    invalid("one alpha for two examples", z1=P, z2=Q, alpha=array([0.5])),
    invalid("alpha is NaN", z1=P, z2=Q, alpha=array([NAN, 0.5])),
]

DENOISE: list[Case] = [
    valid("three levels", f=BENT, x=draw(220, 3, 2), sigma=array([0.1, 1.0, 2.0]), **NEAR),
    valid("no event axes", f=BENT, x=array([0.5, -1.0]), sigma=array([0.5, 3.0]), **NEAR),
    valid("a batch of one", f=EXACT, x=draw(221, 1, 4), sigma=array([0.821]), **NEAR),
    valid("sigma_min: the image comes back", f=EXACT, x=draw(222, 2, 2), sigma=array([0.002, 0.002]), **NEAR),
    valid("sigma_max", f=EXACT, x=array([[80.5, -79.0]]), sigma=array([80.0]), **NEAR),
    valid("images", f=EXACT, x=draw(223, 2, 3, 2, 2), sigma=array([0.25, 0.75]), **NEAR),
    invalid("sigma is NaN", f=BENT, x=draw(224, 1, 2), sigma=array([NAN])),
    invalid("sigma < 0", f=BENT, x=draw(224, 1, 2), sigma=array([-1.0])),
    invalid("one level for two examples", f=BENT, x=draw(224, 2, 2), sigma=array([1.0])),
]

CASES: dict[str, list[Case]] = {
    "one_step_sample": ONE_STEP,
    "renoise": RENOISE,
    "multistep_sample": MULTISTEP,
    "search_intermediate_sigma": SEARCH,
    "edit": EDIT,
    "stroke_edit": STROKE,
    "inpainting_operator": IN,
    "colorization_operator": COLOUR,
    "colorization_mask": [valid("the luma is kept")],
    "super_resolution_operator": SUPER,
    "super_resolution_mask": SUPER_MASK,
    "slerp": SLERP,
    "denoise": DENOISE,
}
