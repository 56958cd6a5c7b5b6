"""Migrations are one chain: two of the same parent would stop every start."""

import ast
from importlib.resources import files
from typing import Any


def _said(source: str) -> dict[str, Any]:
    assigned = (node for node in ast.parse(source).body if isinstance(node, ast.Assign))
    return {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in assigned}


def test_every_migration_but_the_first_follows_another_one_and_each_only_one() -> None:
    folder = files("order_service.migrations.versions")
    found = [_said(file.read_text()) for file in folder.iterdir() if file.name.startswith("v")]
    chain = sorted(one["revision"] for one in found)
    assert sorted(one["down_revision"] or "" for one in found) == ["", *chain[:-1]]
