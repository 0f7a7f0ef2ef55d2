"""Our own import contract: kept where it is kept, and broken by exactly the imports it is about."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
[tool.importlinter]
root_packages = ["shop"]
contract_types = ["owned: scripts.contracts.OwnedContract"]

[[tool.importlinter.contracts]]
name = "Tables belong to their feature"
type = "owned"
module_name = "tables"
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for feature in ("sales", "sales2"):
        (tmp_path / "shop" / feature).mkdir(parents=True)
        (tmp_path / "shop" / feature / "__init__.py").touch()
        (tmp_path / "shop" / feature / "tables.py").touch()
        (tmp_path / "shop" / feature / "rules.py").write_text(f"from shop.{feature} import tables\n")
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    return tmp_path


def check(folder: Path) -> tuple[int, str]:
    program = (
        "import sys, importlinter.cli as c; sys.path[:0] = sys.argv[1:]; sys.argv[1:] = ['--no-cache']; c.lint_imports_command()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(ROOT), str(folder)], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def test_a_feature_may_use_its_own_tables(shop: Path) -> None:
    code, output = check(shop)
    assert (code, "1 kept, 0 broken" in output) == (0, True), output


# The second one hides inside a function, and its package's name begins like the other's.
@pytest.mark.parametrize("source", ["from shop.sales import tables\n", "def late():\n    import shop.sales.tables\n"])
def test_another_features_tables_are_out_of_reach(shop: Path, source: str) -> None:
    (shop / "shop" / "sales2" / "rules.py").write_text(source)
    code, output = check(shop)
    assert code == 1
    assert "shop.sales2.rules -> shop.sales.tables" in output
