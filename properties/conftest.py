"""The number of examples per law: some by default, fixed ones in CI, many new ones in `nox -s properties`."""

import os

from hypothesis import HealthCheck, Phase, settings

# Without a deadline: the first call of a torch function is slow, and the machine may be shared.
settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile(
    "ci", max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", max_examples=2000, deadline=None)
# A wrong formula is to be found, not explained: the same examples each time, and none made smaller.
settings.register_profile(
    "mutation",
    settings.get_profile("ci"),
    max_examples=30,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
