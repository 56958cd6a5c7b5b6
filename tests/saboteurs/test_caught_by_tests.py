"""Each of these saboteurs is caught by the test that is named beside it, which passes without it."""

import re

import pytest

from tests.saboteurs.conftest import Copy, failed
from tests.saboteurs.table import BY_TESTS, Saboteur

pytestmark = pytest.mark.timeout(300)


async def passing(copy: Copy) -> None:
    catchers = {str(each.caught_by): None for each in BY_TESTS}
    code, printed = await copy.test(list(catchers))
    assert code == 0, printed
    assert re.search(r"^\d+ passed in ", printed, re.MULTILINE), printed  # and none was skipped


@pytest.fixture(scope="module")
async def sound(copy: Copy) -> Copy:
    """The copy, in which all the catchers pass as long as nothing is changed."""
    await passing(copy)
    return copy


@pytest.mark.parametrize("saboteur", BY_TESTS, ids=lambda each: each.name.replace(" ", "-"))
async def test_it_is_caught(sound: Copy, saboteur: Saboteur) -> None:
    catcher = str(saboteur.caught_by)
    with sound.sabotaged(saboteur):
        code, printed = await sound.test([catcher])
    assert code == pytest.ExitCode.TESTS_FAILED, printed
    assert failed(catcher, printed), printed
