"""Print the oldest versions that pyproject.toml allows, as constraints for pip.

pip refuses a set of them that cannot be installed, so no floor can be lower than that of another package.
"""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"

for requirement in tomllib.loads(PROJECT.read_text())["project"]["dependencies"]:
    name, floor = re.match(r"([\w.-]+)>=([\w.]+),<", requirement).groups()
    print(f"{name}=={floor}")
