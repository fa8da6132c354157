"""Number formats that no engine has are errors of the recipe, found before anything is loaded."""

from __future__ import annotations

import pytest

from rlhf.errors import ConfigError
from rlhf.recipe import load_recipe
from tests.tiny_runs import SFT, changed, single


@pytest.mark.parametrize("dtype", ["float16", "fp16", "float64", "int8", 16, None])
def test_a_number_format_no_engine_has_is_refused_with_those_there_are(dtype: object) -> None:
    recipe = changed(single(SFT), {"model.dtype": dtype})
    with pytest.raises(ConfigError, match="dtype") as refusal:
        load_recipe(recipe)
    assert "\n" not in str(refusal.value)
    assert "'float32'" in str(refusal.value)
    assert "'bfloat16'" in str(refusal.value)
