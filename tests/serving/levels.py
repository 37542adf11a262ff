"""Vector levels of the native engine that this processor has; none where it was not built."""

from random_models import MIXED, config_of, random_params

from deeplight_jax.serving import native
from deeplight_jax.serving.compact import compact


def has(level):
    try:
        native.load(compact(config_of("lr").model, MIXED, random_params("lr", MIXED, 0, {})), level)
    except ValueError:
        return False
    return True


NATIVE_LEVELS = [level for level in native.LEVELS if native.available() and has(level)]
